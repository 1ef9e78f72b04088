//! Finds the first key that two rows of a file have, in bounded memory whatever the number of rows. Of each key it keeps a
//! hash of 128 bits: in memory up to a bound, and all of them on disk beyond it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::mem;

use super::spill::{RECORD, Spill};
use super::temporary;
use crate::output::Failure;

/// The most memory that it takes, in bytes.
const MOST_MEMORY: u64 = 64 << 20;
/// It takes no more than this part of the memory of the engine, which is opened behind it.
const PART: u64 = 4;
/// Bytes that a hash takes in a table, while the table grows to twice its size: less than this.
const IN_TABLE: usize = 48;

/// A hash of a key: two hashes with keys of their own, which are drawn by chance each time. That two of the keys of 2^40 rows
/// have the same one has a probability of 2^-49.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Hash(pub(super) u64, pub(super) u64);

/// Two rows with the same key, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Twice {
    pub(super) first: u64,
    pub(super) second: u64,
}

/// The keys of the rows so far.
#[derive(Debug)]
pub(super) struct Keys {
    hashers: [RandomState; 2],
    /// The row of each hash, until there are too many.
    seen: HashMap<Hash, u64>,
    /// The most hashes that are in memory at a time.
    most: usize,
    spill: Option<Spill>,
}

impl Keys {
    /// Takes up to 64 MiB, and up to a quarter of `memory` bytes.
    pub(super) fn new(memory: Option<u64>) -> Self {
        let bytes = memory.map_or(MOST_MEMORY, |memory| (memory / PART).min(MOST_MEMORY));
        // Tables have a power of two of places, and leave one in eight of them empty.
        let places = usize::try_from(bytes).unwrap_or(usize::MAX) / IN_TABLE;
        Keys::with_most((1 << places.max(8).ilog2()) / 8 * 7)
    }

    fn with_most(most: usize) -> Self {
        Keys { hashers: [RandomState::new(), RandomState::new()], seen: HashMap::new(), most, spill: None }
    }

    /// Adds the key of the next row. Returns the pair if an earlier row in memory has it.
    pub(super) fn add(&mut self, key: &str, row: u64) -> Result<Option<Twice>, Failure> {
        let [one, other] = &self.hashers;
        let hash = Hash(one.hash_one(key), other.hash_one(key));
        if let Some(spill) = &mut self.spill {
            spill.add(hash, row).map_err(|error| cannot_spill(&error))?;
            return Ok(None);
        }
        if let Some(&first) = self.seen.get(&hash) {
            return Ok(Some(Twice { first, second: row }));
        }
        self.seen.insert(hash, row);
        if self.seen.len() >= self.most {
            let spill = self.begin_spill().map_err(|error| cannot_spill(&error))?;
            self.spill = Some(spill);
        }
        Ok(None)
    }

    fn begin_spill(&mut self) -> std::io::Result<Spill> {
        // Buffers take less than the table, and both are there for a moment.
        let mut spill = Spill::new(temporary::create()?, self.most * RECORD / 2);
        for (hash, row) in mem::take(&mut self.seen) {
            spill.add(hash, row)?;
        }
        Ok(spill)
    }

    /// The first row of which an earlier one has the key, when no key is to come any more.
    pub(super) fn finish(self) -> Result<Option<Twice>, Failure> {
        let Some(spill) = self.spill else { return Ok(None) };
        spill.first_twice(self.most).map_err(|error| cannot_spill(&error))
    }
}

fn cannot_spill(error: &std::io::Error) -> Failure {
    let what = format_args!("what the search for equal keys has no memory for, {RECORD} bytes for each row");
    Failure::told(temporary::cannot_keep(what, error))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
