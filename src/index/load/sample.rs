//! How much of the sorted writes is live, estimated by a sample of their keys.
//!
//! A write is in the sample with a probability in proportion to its size, by a hash of its key: so all writes of one size
//! to one key are in it, or none. Each that is in it stands for the same number of bytes. What was sampled of a key is
//! live until the next write to the key, whether that is in the sample or not; a deletion is never live. Keys that share
//! their first 16 bytes count as one, which makes the estimate too low, and merges more frequent.

use std::collections::HashMap;

use super::bundle::Write;

/// Each write of the sample stands for this number of bytes, or for its own if it is larger.
const SHARE: usize = if cfg!(test) { 64 } else { 4 << 10 };

#[derive(Debug, Default)]
pub(super) struct Sample {
    /// What the last write to each key stands for, if it is a put and in the sample.
    keys: HashMap<u64, usize>,
    /// The longest write so far: no write is in the sample if one of this length would not be.
    longest: usize,
    /// What the writes of the sample stand for, and what `keys` stand for.
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
            self.longest = self.longest.max(len);
            let hash = hash(write);
            let at = hash % SHARE as u64;
            if at >= self.longest as u64 {
                continue;
            }
            let stands_for = if at < len as u64 { len.max(SHARE) } else { 0 };
            self.all += stands_for;
            self.live -= self.keys.remove(&hash).unwrap_or(0);
            if stands_for > 0 && !write.is_delete() {
                self.live += stands_for;
                self.keys.insert(hash, stands_for);
            }
        }
    }

    /// The bytes that the last write to each key will take in leaves: an estimate.
    pub(super) fn live_bytes(&self) -> usize {
        self.live_part_of(self.in_leaves)
    }

    /// Of so many bytes of all writes, those of the last write to each key: an estimate.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, no more than `bytes`")]
    pub(super) fn live_part_of(&self, bytes: usize) -> usize {
        if self.all == 0 { 0 } else { (self.live as f64 / self.all as f64 * bytes as f64) as usize }
    }
}

/// Spreads the keyspace and the first 16 bytes of the key over all bits.
fn hash(write: &Write) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (write.head ^ u64::from(write.tree)).wrapping_mul(ODD) ^ write.tail.rotate_left(32);
    (mixed ^ mixed >> 29).wrapping_mul(ODD) >> 20
}
