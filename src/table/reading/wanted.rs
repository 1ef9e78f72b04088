//! Keys that are read from layers again: memory wants their ranges back (`RULES.md`, 7).
//!
//! A key is wanted when it is read twice with few others in between. So what is read all over, once each, brings nothing in, and
//! what is read again and again is in memory soon.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::bell::Bell;
use super::hash::Mix;
use crate::index::Key;
use crate::rt::sync::Mutex;

/// About as many reads of other keys may lie between two of one. A power of two.
const SLOTS: usize = 4096;
/// Keys of which the hashes say the same. With one of them, two keys that are read by turns would each take the other's place.
const WAYS: usize = 2;
/// No more keys wait to be brought in: each takes some reads of blocks.
const MOST: usize = 64;

/// The keys that were read from layers lately.
pub(crate) struct Wanted {
    /// In the place that its hash says, a part of the hash of each of the last keys that were read, the last first.
    seen: Box<[[AtomicU32; WAYS]]>,
    /// The keys that were read twice, with their keyspaces.
    keys: Mutex<Vec<(u32, Key)>>,
    /// Rings for the one who brings them in.
    bell: Arc<Bell>,
}

impl Wanted {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Wanted { seen: (0..SLOTS / WAYS).map(|_| Default::default()).collect(), keys: Mutex::default(), bell }
    }

    /// Notes that `key` was read. Nothing is noted before there is somebody who brings it in.
    pub(super) fn note(&self, keyspace: u32, key: &[u8]) {
        if !self.bell.is_heard() {
            return;
        }
        let mut hash = Mix::default();
        hash.write_u32(keyspace);
        key.chunks(8).for_each(|word| {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            hash.write_u64(u64::from_le_bytes(bytes));
        });
        let hash = hash.finish() ^ key.len() as u64;
        let [low @ .., a, b, c, d] = hash.to_le_bytes();
        let (slot, tag) = (usize::from(u16::from_le_bytes([low[0], low[1]])), u32::from_le_bytes([a, b, c, d]));
        let [last, before] = &self.seen[slot % (SLOTS / WAYS)];
        if last.load(Ordering::Relaxed) != tag && before.load(Ordering::Relaxed) != tag {
            before.store(last.swap(tag, Ordering::Relaxed), Ordering::Relaxed);
            return;
        }
        let mut keys = self.keys.lock();
        let is_first = keys.is_empty();
        if keys.len() < MOST && !keys.iter().any(|(id, known)| *id == keyspace && **known == *key) {
            keys.push((keyspace, Key::from(key)));
        }
        drop(keys);
        if is_first {
            self.bell.ring();
        }
    }

    /// The keys that have come since the last call.
    pub(crate) fn take(&self) -> Vec<(u32, Key)> {
        std::mem::take(&mut *self.keys.lock())
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("keys", &self.keys.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
