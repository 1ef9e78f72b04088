//! The moment of a crash, and what the medium may hold after it.

use std::collections::HashSet;
use std::slice;
use std::sync::Arc;

use super::SimDisk;
use super::state::{Bytes, Change, Image, Inode, close_names};

/// The unit that lands whole or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Granularity {
    /// 8 aligned bytes: what is left of a sector whose page changes while it is written.
    Word,
    /// 512 aligned bytes.
    #[default]
    Sector,
    /// 4096 aligned bytes.
    Page,
}

impl Granularity {
    /// The unit's size.
    pub const fn bytes(self) -> usize {
        match self {
            Granularity::Word => 8,
            Granularity::Sector => 512,
            Granularity::Page => 4096,
        }
    }
}

/// What a power loss takes of all that is not durable.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Loss {
    /// Nothing: everything had landed.
    Nothing,
    /// Everything.
    Everything,
    /// Each atom or not, drawn from this seed; how many on the whole is drawn too.
    Seeded(u64),
    /// Everything but the atoms whose place here is `true`, in the order of [`CrashPoint::atoms`]. Places beyond the
    /// end of the list are lost.
    AllBut(Vec<bool>),
}

/// A disk at one moment: what is durable, what is only in the cache, and what is pending. Cheap to take and to clone.
///
/// What is pending falls into *atoms*, each of which may have landed or not whatever became of the others: every unit
/// of every write, every change of a file's length (a write that makes a file grow has one per page of 4096 bytes),
/// every change of a name. What cannot be without another brings it along: the later of two writes to one unit the
/// earlier one, a length the lengths before it, a change of a name those of the same name before it. So every choice
/// of atoms is a legal state, and different choices may be the same state ([`SimDisk::image_hash`]).
///
/// Where a length landed and the bytes did not, there are zeros; where the bytes landed and the length did not, nothing
/// is seen of them.
#[derive(Clone, Debug)]
pub struct CrashPoint(pub(super) Arc<Image>);

impl CrashPoint {
    /// The disk as the next process finds it after this one died and the machine did not: all is there to be read,
    /// and what was pending still is. Locks are gone.
    pub fn process_kill(&self) -> SimDisk {
        let mut image = Arc::clone(&self.0);
        Arc::make_mut(&mut image).sweep(|_| false);
        SimDisk::holding(image)
    }

    /// The disk as it is found after a power loss. Nothing is pending on it.
    pub fn power_loss(&self, loss: &Loss, granularity: Granularity) -> SimDisk {
        let mut chooser = Chooser::new(loss);
        let image = &*self.0;
        let mut landed: Vec<bool> = image.pending.iter().map(|_| chooser.lands()).collect();
        close_names(&image.pending, &mut landed);
        let mut names = image.durable.clone();
        for ((_, change), _) in image.pending.iter().zip(landed).filter(|(_, landed)| *landed) {
            change.apply(&mut names);
        }
        let mut after = Image { dirs: image.dirs.clone(), moment: image.moment, ..Image::default() };
        for ino in image.rooted() {
            if let Some(inode) = image.inodes.get(&ino) {
                let bytes = survivors(inode, granularity.bytes(), &mut chooser);
                after.inodes.insert(ino, Arc::new(Inode::settled(bytes)));
            }
        }
        after.visible.clone_from(&names);
        after.durable = names;
        after.sweep(|_| false);
        SimDisk::holding(Arc::new(after))
    }

    /// How many atoms are pending. They are ordered: first the changes of names as they were made, then file by file,
    /// in the order of creation, the changes as they were made and the units of a write by offset.
    pub fn atoms(&self, granularity: Granularity) -> usize {
        let rooted = self.0.rooted();
        let inodes = rooted.iter().filter_map(|ino| self.0.inodes.get(ino));
        let changes =
            inodes.flat_map(|inode| &inode.pending).map(|(_, change)| units(change, granularity.bytes()).len());
        self.0.pending.len() + changes.sum::<usize>()
    }
}

/// The units that a write touches; one for a change of length.
fn units(change: &Change, size: usize) -> std::ops::Range<usize> {
    match change {
        Change::Write { offset, data } => offset / size..(offset + data.len()).div_ceil(size),
        Change::Length(_) => 0..1,
    }
}

/// What the medium holds of a file after the atoms that `chooser` picks have landed.
fn survivors(inode: &Inode, size: usize, chooser: &mut Chooser<'_>) -> Bytes {
    let choose = |(_, change): &(u64, Change)| units(change, size).map(|_| chooser.lands()).collect();
    let mut landed: Vec<Vec<bool>> = inode.pending.iter().map(choose).collect();
    close(inode, size, &mut landed);
    if !landed.iter().flatten().any(|landed| *landed) {
        return Arc::clone(&inode.durable);
    }
    let mut bytes = Vec::clone(&inode.durable);
    for ((_, change), landed) in inode.pending.iter().zip(landed) {
        match change {
            Change::Length(length) if landed[0] => bytes.resize(*length, 0),
            Change::Length(_) => {}
            Change::Write { offset, data } => {
                for (unit, _) in units(change, size).zip(landed).filter(|(_, landed)| *landed) {
                    let start = (unit * size).max(*offset);
                    let end = (unit * size + size).min(offset + data.len()).min(bytes.len());
                    if start < end {
                        bytes[start..end].copy_from_slice(&data[start - offset..end - offset]);
                    }
                }
            }
        }
    }
    Arc::new(bytes)
}

/// Adds to the chosen atoms the earlier ones that they build on.
fn close(inode: &Inode, size: usize, landed: &mut [Vec<bool>]) {
    let mut length_landed = false;
    let mut landed_units = HashSet::new();
    for ((_, change), landed) in inode.pending.iter().zip(landed).rev() {
        if let Change::Length(_) = change {
            landed[0] |= length_landed;
            length_landed = landed[0];
            continue;
        }
        for (unit, landed) in units(change, size).zip(landed) {
            *landed |= landed_units.contains(&unit);
            if *landed {
                landed_units.insert(unit);
            }
        }
    }
}

/// Decides atom by atom.
enum Chooser<'a> {
    Always(bool),
    /// Of 16 atoms about `share` land.
    Random {
        state: u64,
        share: u64,
    },
    Listed(slice::Iter<'a, bool>),
}

impl<'a> Chooser<'a> {
    fn new(loss: &'a Loss) -> Self {
        match loss {
            Loss::Nothing => Chooser::Always(true),
            Loss::Everything => Chooser::Always(false),
            Loss::AllBut(landed) => Chooser::Listed(landed.iter()),
            Loss::Seeded(seed) => {
                let mut state = *seed;
                let share = 1 + draw(&mut state) % 15;
                Chooser::Random { state, share }
            }
        }
    }

    fn lands(&mut self) -> bool {
        match self {
            Chooser::Always(lands) => *lands,
            Chooser::Random { state, share } => draw(state) >> 60 < *share,
            Chooser::Listed(landed) => landed.next().copied().unwrap_or(false),
        }
    }
}

/// splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
