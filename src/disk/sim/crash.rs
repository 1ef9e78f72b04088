//! The moment of a crash, and what the medium may have after it.

use std::ffi::OsStr;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use super::SimDisk;
use super::names::Ino;
use super::persona::{Granularity, Growth, Persona};
use super::state::{Change, Image, Inode};

/// Which of the pending changes a power loss takes.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Loss {
    /// None: everything landed.
    Nothing,
    /// All.
    Everything,
    /// Each atom or not, drawn from this seed. The share of atoms that land is drawn too.
    Seeded(u64),
    /// All but the atoms whose entry here is `true`, in the order of [`CrashPoint::atoms`]. Atoms beyond the end of the
    /// list are lost.
    AllBut(Vec<bool>),
}

impl Loss {
    /// Which of `atoms` atoms land.
    pub fn landed(&self, atoms: usize) -> Vec<bool> {
        let mut chooser = Chooser::new(self);
        (0..atoms).map(|_| chooser.lands()).collect()
    }
}

/// A disk at one moment: the durable, the cached and the pending changes. Cheap to take and to clone.
///
/// The pending changes consist of *atoms*, each of which lands or not, independently of the others: every unit of every
/// write, every change of a file's length (a write that makes a file grow has one per page of 4096 bytes), every change
/// of a name. An atom that lands brings along the atoms that it cannot be without: the later of two writes to one unit
/// brings the earlier one, a length the lengths before it, and the [`Persona`] of the file system may add more. So
/// every choice of atoms is a legal state, and different choices may be the same state ([`SimDisk::image_hash`]).
///
/// Where a length landed and the bytes did not, reads show zeros or garbage. Where the bytes landed and the length did
/// not, reads show nothing of them.
#[derive(Clone, Debug)]
pub struct CrashPoint(pub(super) Arc<Image>);

/// A pending change that lands or does not.
#[derive(Clone, Debug)]
pub struct Atom {
    /// The moment of its submission. Atoms of one write share it.
    pub moment: u64,
    /// The name of the file; for a change of a name, the new one.
    pub name: Arc<OsStr>,
    /// Its kind.
    pub kind: AtomKind,
}

/// The kind of an [`Atom`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtomKind {
    /// A change of a name.
    Name,
    /// A change of a file's length.
    Length,
    /// A unit of a write: its number in the file, from 0.
    Unit(usize),
}

impl CrashPoint {
    /// The disk as the next process finds it after this process died and the machine did not: everything can be read,
    /// and what was pending still is. Locks are free.
    pub fn process_kill(&self) -> SimDisk {
        let mut image = Arc::clone(&self.0);
        Arc::make_mut(&mut image).sweep(|_| false);
        SimDisk::holding(image)
    }

    /// The disk after a power loss, on a file system that keeps the changes of one name in order and shows zeros where
    /// nothing landed. Nothing is pending on it.
    pub fn power_loss(&self, loss: &Loss, granularity: Granularity) -> SimDisk {
        self.power_loss_on(&Persona::PLAIN, loss, granularity)
    }

    /// The disk after a power loss on a file system like `persona`. Nothing is pending on it.
    pub fn power_loss_on(&self, persona: &Persona, loss: &Loss, granularity: Granularity) -> SimDisk {
        let mut chooser = Chooser::new(loss);
        let image = &*self.0;
        let mut landed: Vec<bool> = image.pending.iter().map(|_| chooser.lands()).collect();
        persona.names.close(&image.pending, &mut landed);
        let mut after = Image { durable: image.durable.clone(), moment: image.moment, ..Image::default() };
        for ((_, change), _) in image.pending.iter().zip(landed).filter(|(_, landed)| *landed) {
            change.apply(&mut after.durable);
        }
        // A name is reached through all directories above it.
        after.durable.drop_unreachable();
        let unit = persona.unit(granularity).bytes();
        let mut named: Vec<Ino> = after.durable.inos().collect();
        named.sort_unstable();
        for ino in self.rooted() {
            let inode = &image.inodes[&ino];
            if named.binary_search(&ino).is_ok() {
                after.inodes.insert(ino, survivor(inode, unit, persona.growth, &mut chooser));
            } else {
                chooser.pass_over(atoms_of(inode, unit));
            }
        }
        after.visible.clone_from(&after.durable);
        SimDisk::holding(Arc::new(after))
    }

    /// The number of pending atoms. Their order: first the changes of names as they were made; then file by file, in
    /// the order of creation, the changes as they were made and the units of a write by offset.
    pub fn atoms(&self, granularity: Granularity) -> usize {
        let inodes = self.rooted().into_iter().map(|ino| &self.0.inodes[&ino]);
        self.0.pending.len() + inodes.map(|inode| atoms_of(inode, granularity.bytes())).sum::<usize>()
    }

    /// The pending atoms, in their order.
    pub fn pending(&self, granularity: Granularity) -> Vec<Atom> {
        let names = self.0.pending.iter().filter_map(|(moment, change)| {
            let name = self.0.path_of(change.names().last()?).unwrap_or_else(|| Arc::from(OsStr::new("")));
            Some(Atom { moment: *moment, name, kind: AtomKind::Name })
        });
        let mut atoms: Vec<Atom> = names.collect();
        for ino in self.rooted() {
            let pending = &self.0.inodes[&ino].pending;
            let name = if pending.is_empty() { None } else { self.0.name_of(ino) };
            for (moment, change) in pending {
                let kind = |unit| match change {
                    Change::Write { .. } => AtomKind::Unit(unit),
                    Change::Length(_) => AtomKind::Length,
                };
                let name = name.as_ref().map_or_else(|| Arc::from(OsStr::new("")), Arc::clone);
                let atom = move |unit| Atom { moment: *moment, name: Arc::clone(&name), kind: kind(unit) };
                atoms.extend(units(change, granularity.bytes()).map(atom));
            }
        }
        atoms
    }

    /// The inodes that have a durable name, or may get one, in the order of their creation.
    fn rooted(&self) -> Vec<Ino> {
        let mut rooted: Vec<Ino> = self.0.rooted().filter(|ino| self.0.inodes.contains_key(ino)).collect();
        rooted.sort_unstable();
        rooted.dedup();
        rooted
    }
}

/// The units that a write touches; one for a change of length.
fn units(change: &Change, size: usize) -> Range<usize> {
    match change {
        Change::Write { offset, data } => offset / size..(offset + data.len()).div_ceil(size),
        Change::Length(_) => 0..1,
    }
}

fn atoms_of(inode: &Inode, size: usize) -> usize {
    inode.pending.iter().map(|(_, change)| units(change, size).len()).sum()
}

/// The file on the medium after the atoms that `chooser` picks have landed.
fn survivor(inode: &Arc<Inode>, size: usize, growth: Growth, chooser: &mut Chooser<'_>) -> Arc<Inode> {
    if inode.is_settled() {
        return Arc::clone(inode);
    }
    let mut landed: Vec<bool> = (0..atoms_of(inode, size)).map(|_| chooser.lands()).collect();
    if !landed.contains(&true) {
        let bare = || Arc::new(Inode::settled(Arc::clone(&inode.durable)));
        return Arc::clone(inode.memo.bare.get_or_init(bare));
    }
    let mut closure = Closure::of(inode, size);
    closure.add_earlier(&mut landed);
    if growth == Growth::WithData {
        closure.add_data(&mut landed);
        closure.add_earlier(&mut landed);
    }
    let mut bytes = Vec::clone(&inode.durable);
    let mut next = 0;
    for (moment, change) in &inode.pending {
        let flags = &landed[next..next + units(change, size).len()];
        next += flags.len();
        match change {
            Change::Length(length) if flags[0] => {
                let old = bytes.len();
                bytes.resize(*length, 0);
                if growth == Growth::Garbage && old < *length {
                    fill_with_garbage(&mut bytes[old..], *moment);
                }
            }
            Change::Length(_) => {}
            Change::Write { offset, data } => {
                for (unit, _) in units(change, size).zip(flags).filter(|(_, landed)| **landed) {
                    let start = (unit * size).max(*offset);
                    let end = (unit * size + size).min(offset + data.len()).min(bytes.len());
                    if start < end {
                        bytes[start..end].copy_from_slice(&data[start - offset..end - offset]);
                    }
                }
            }
        }
    }
    Arc::new(Inode::settled(Arc::new(bytes)))
}

/// Fills with bytes that the medium had before, drawn from `seed`.
fn fill_with_garbage(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    bytes.chunks_mut(8).for_each(|word| word.copy_from_slice(&draw(&mut state).to_le_bytes()[..word.len()]));
}

/// Adds to the chosen atoms of a file those that they cannot be without.
struct Closure<'a> {
    inode: &'a Inode,
    size: usize,
    /// Units of which a later version landed.
    seen: Vec<bool>,
}

impl<'a> Closure<'a> {
    fn of(inode: &'a Inode, size: usize) -> Self {
        let end = |change: &Change| match change {
            Change::Write { .. } => units(change, size).end,
            Change::Length(_) => 0,
        };
        let units = inode.pending.iter().map(|(_, change)| end(change)).max().unwrap_or_default();
        Closure { inode, size, seen: vec![false; units] }
    }

    /// Adds the earlier versions of a unit that landed, and the lengths before one that did.
    fn add_earlier(&mut self, landed: &mut [bool]) {
        self.seen.fill(false);
        let mut length_landed = false;
        let mut next = landed.len();
        for (_, change) in self.inode.pending.iter().rev() {
            let touched = units(change, self.size);
            next -= touched.len();
            let flags = &mut landed[next..next + touched.len()];
            if let Change::Length(_) = change {
                flags[0] |= length_landed;
                length_landed = flags[0];
                continue;
            }
            for (flag, seen) in flags.iter_mut().zip(&mut self.seen[touched]) {
                *flag |= *seen;
                *seen = *flag;
            }
        }
    }

    /// Adds all data within a length that landed, beyond the length before.
    fn add_data(&self, landed: &mut [bool]) {
        let mut next = 0;
        let mut grown = self.inode.durable.len();
        for (_, change) in &self.inode.pending {
            if let Change::Length(length) = change
                && landed[next]
            {
                grown = grown.max(*length);
            }
            next += units(change, self.size).len();
        }
        next = 0;
        for (_, change) in &self.inode.pending {
            for unit in units(change, self.size) {
                let inside = unit * self.size < grown && (unit + 1) * self.size > self.inode.durable.len();
                landed[next] |= inside && matches!(change, Change::Write { .. });
                next += 1;
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

    /// Passes over `atoms` atoms that make no difference.
    fn pass_over(&mut self, atoms: usize) {
        for _ in 0..atoms {
            self.lands();
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
