//! A data block as a reader at one LSN sees it, decoded at once, so that it can be gone through in either direction.

use std::ops::Range;

use super::super::Refusal;
use super::data::{DataBlock, Place};
use crate::base::types::Lsn;

/// Of each key, the newest version at or below an LSN, if there is one: by key.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// The full keys, one behind the other.
    keys: Vec<u8>,
    list: Vec<Entry>,
    first: Edge,
    last: Edge,
    place: Place,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    key: Range<usize>,
    pub(crate) lsn: Lsn,
    /// Where in the block's bytes the value is; `None` for a tombstone.
    pub(crate) value: Option<Range<usize>>,
    /// It is the first entry of the block, whatever LSNs are asked for: what the block before has of its key is newer.
    pub(crate) is_first: bool,
}

/// An entry at an end of what was decoded, whatever its LSN.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    pub(crate) key: Vec<u8>,
    pub(crate) lsn: Lsn,
}

impl Edge {
    fn set(&mut self, place: &Place) {
        self.key.clear();
        self.key.extend_from_slice(place.key());
        self.lsn = place.lsn();
    }
}

impl Entries {
    /// Decodes and checks `block`, for a reader at `at`: what is at or above `from`, and what stands so close before it that it
    /// cannot be told without.
    ///
    /// # Errors
    /// The block breaks a rule. Then there is nothing in here.
    pub(crate) fn decode(&mut self, block: &DataBlock<'_>, from: &[u8], at: Lsn) -> Result<(), Refusal> {
        let decoded = self.read(block, from, at);
        if decoded.is_err() {
            self.list.clear();
        }
        decoded
    }

    fn read(&mut self, block: &DataBlock<'_>, from: &[u8], at: Lsn) -> Result<(), Refusal> {
        let Entries { keys, list, first, last, place } = self;
        keys.clear();
        list.clear();
        let restart = block.restart_before(from)?;
        place.jump(block, restart)?;
        let (mut is_begin, mut has_newest) = (true, false);
        while place.advance(block)? {
            if is_begin {
                first.set(place);
            }
            has_newest &= place.is_same_key();
            if place.lsn() <= at && !has_newest {
                let begin = keys.len();
                keys.extend_from_slice(place.key());
                let (key, value) = (begin..keys.len(), place.value_in(block));
                list.push(Entry { key, lsn: place.lsn(), value, is_first: is_begin && restart == 0 });
                has_newest = true;
            }
            is_begin = false;
        }
        last.set(place);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn get(&self, number: usize) -> &Entry {
        &self.list[number]
    }

    /// The full key of the entry with this number.
    pub(crate) fn key(&self, number: usize) -> &[u8] {
        &self.keys[self.list[number].key.clone()]
    }

    /// The number of the first entry at or above a bound.
    pub(crate) fn from(&self, bound: &[u8]) -> usize {
        self.list.partition_point(|entry| self.keys[entry.key.clone()] < *bound)
    }

    pub(crate) fn first(&self) -> &Edge {
        &self.first
    }

    pub(crate) fn last(&self) -> &Edge {
        &self.last
    }
}
