//! The hash of an image. Crash tests compare millions of images by it.

use std::sync::Arc;

use super::SimDisk;
use super::state::{Dirs, Image, Inode, Names};

impl SimDisk {
    /// A hash of the names and bytes that are durable, and of those that reads show where they differ. Equal images
    /// have equal hashes in every run.
    pub fn image_hash(&self) -> u64 {
        let image = self.crash_point().0;
        let durable = files(directories(&image.durable_dirs), &image, &image.durable, 0);
        let visible = files(directories(&image.dirs), &image, &image.visible, 1);
        if durable == visible { durable } else { fold(durable, visible) }
    }
}

fn directories(dirs: &Dirs) -> u64 {
    dirs.iter().fold(0, |state, dir| hash(state, dir.as_encoded_bytes()))
}

fn files(state: u64, image: &Image, names: &Names, of: usize) -> u64 {
    names.iter().fold(state, |state, (name, ino)| {
        let state = hash(state, name.as_encoded_bytes());
        image.inodes.get(ino).map_or(state, |inode| fold(state, inode.hashes()[of]))
    })
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
