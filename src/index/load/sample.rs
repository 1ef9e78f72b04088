//! How much of the sorted writes is live, estimated by a sample of their keys.
//!
//! A write is in the sample with a probability in proportion to its size, by a hash of its key: so all writes of one size
//! to one key are in it, or none. Each that is in it stands for the same number of bytes. Keys that share their first 16
//! bytes count as one, which makes the estimate too low, and merges more frequent.

use std::collections::HashSet;

use super::bundle::Write;

/// Each write of the sample stands for this number of bytes, or for its own if it is larger.
const SHARE: usize = if cfg!(test) { 64 } else { 4 << 10 };

#[derive(Debug, Default)]
pub(super) struct Sample {
    keys: HashSet<u64>,
    /// What the writes of the sample stand for, and what the first write to each key stands for.
    all: usize,
    live: usize,
    /// The bytes that all writes would take in leaves.
    in_leaves: usize,
}

impl Sample {
    /// Adds the writes of a sorted bundle: the last to each key.
    pub(super) fn add(&mut self, writes: &[Write]) {
        for write in writes {
            let len = write.record_len();
            self.in_leaves += len;
            let hash = hash(write);
            if hash % (SHARE as u64) < len as u64 {
                let stands_for = len.max(SHARE);
                self.all += stands_for;
                self.live += if self.keys.insert(hash) { stands_for } else { 0 };
            }
        }
    }

    /// The bytes that the last write to each key will take in leaves: an estimate.
    pub(super) fn live_bytes(&self) -> usize {
        let share = |part: usize, of: usize| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, below `in_leaves`")]
        let live = (share(self.live, self.all) * self.in_leaves as f64) as usize;
        live
    }
}

/// Spreads the keyspace and the first 16 bytes of the key over all bits.
fn hash(write: &Write) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (write.head ^ u64::from(write.tree)).wrapping_mul(ODD) ^ write.tail.rotate_left(32);
    (mixed ^ mixed >> 29).wrapping_mul(ODD) >> 20
}
