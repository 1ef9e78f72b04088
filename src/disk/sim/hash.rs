//! The hash of an image. Crash tests compare millions of images by it.

use std::sync::Arc;

use super::SimDisk;
use super::names::{Entry, Names, ROOT};
use super::state::{Image, Inode};

impl SimDisk {
    /// A hash of the names and bytes that are durable, and of those that reads show where they differ. Equal images
    /// have equal hashes in every run.
    pub fn image_hash(&self) -> u64 {
        let image = self.crash_point().0;
        let durable = contents(&image, &image.durable, 0);
        let visible = contents(&image, &image.visible, 1);
        if durable == visible { durable } else { fold(durable, visible) }
    }
}

/// Adds up what each path leads to, so that the numbers of directories do not count. What a directory holds that no path
/// leads to may get one by a rename: it goes by the number of that directory.
fn contents(image: &Image, names: &Names, of: usize) -> u64 {
    let mut sum: u64 = 0;
    let mut dirs = vec![(ROOT, 0)];
    let mut at = 0;
    loop {
        let Some((dir, state)) = dirs.get(at).copied() else {
            let is_new = |dir: &u64| dirs.iter().all(|(known, _)| known != dir);
            let Some(lost) = names.iter().map(|(key, _)| key.dir).find(is_new) else { return sum };
            dirs.push((lost, lost));
            continue;
        };
        at += 1;
        for (key, entry) in names.list(dir) {
            let path = hash(state, key.name.as_encoded_bytes());
            sum = sum.wrapping_add(match entry {
                Entry::File(ino) => image.inodes.get(&ino).map_or(path, |inode| fold(path, inode.hashes()[of])),
                Entry::Dir(_) => fold(path, 1),
            });
            if let Entry::Dir(below) = entry
                && dirs.iter().all(|(known, _)| *known != below)
            {
                dirs.push((below, path));
            }
        }
    }
}

impl Inode {
    /// The hashes of the durable and of the visible contents.
    fn hashes(&self) -> [u64; 2] {
        *self.memo.hashes.get_or_init(|| {
            let durable = hash(0, &self.durable);
            let visible = if Arc::ptr_eq(&self.durable, &self.visible) { durable } else { hash(0, &self.visible) };
            [durable, visible]
        })
    }
}

/// Multiplies and folds the two halves of the product together.
fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ 0x2D35_8DCC_AA6C_78A5) * 0x9E37_79B9_7F4A_7C15;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// Mixes the bytes and their number into `state`. In four lanes, which the processor computes in parallel.
fn hash(state: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (fours, words) = words.as_chunks::<4>();
    let mut lanes = [1, 2, 3, 4].map(|lane| fold(state, lane));
    for four in fours {
        for (lane, word) in lanes.iter_mut().zip(four) {
            *lane = fold(*lane, u64::from_le_bytes(*word));
        }
    }
    let state = lanes.into_iter().fold(fold(state, bytes.len() as u64), fold);
    let state = words.iter().fold(state, |state, word| fold(state, u64::from_le_bytes(*word)));
    rest.iter().fold(state, |state, byte| fold(state, u64::from(*byte)))
}
