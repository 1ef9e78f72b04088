//! The versions of one keyspace that only held snapshots read, whatever has become of their keys since.

use std::collections::BTreeMap;

use crate::words::types::Lsn;

use super::key::Key;
use super::value::Value;

/// A version, readable from its LSN on, until that of the one that superseded it.
#[derive(Debug)]
struct Interval {
    from: Lsn,
    until: Lsn,
    value: Value,
}

/// Versions by key, no two of them readable at one LSN. Tombstones are none: where there is no version, there is no value.
#[derive(Debug, Default)]
pub(super) struct Kept {
    keys: BTreeMap<Key, Vec<Interval>>,
    versions: usize,
}

impl Kept {
    /// How many versions there are.
    pub(super) fn versions(&self) -> usize {
        self.versions
    }

    pub(super) fn keep(&mut self, key: Key, from: Lsn, until: Lsn, value: Value) {
        // Versions come as they were superseded: for each key in order.
        self.keys.entry(key).or_default().push(Interval { from, until, value });
        self.versions += 1;
    }

    /// The value of `key` at `at`.
    pub(super) fn get(&self, key: &[u8], at: Lsn) -> Option<&Value> {
        let intervals = self.keys.get(key)?;
        let index = intervals.partition_point(|interval| interval.until <= at);
        intervals.get(index).filter(|interval| interval.from <= at).map(|interval| &interval.value)
    }

    /// Until when the version of `from` is readable, if it is here.
    pub(super) fn until(&self, key: &[u8], from: Lsn) -> Option<Lsn> {
        self.keys.get(key)?.iter().find(|interval| interval.from == from).map(|interval| interval.until)
    }

    /// Lets the version of `from` go.
    pub(super) fn remove(&mut self, key: &[u8], from: Lsn) {
        let Some(intervals) = self.keys.get_mut(key) else { return };
        let before = intervals.len();
        intervals.retain(|interval| interval.from != from);
        self.versions -= before - intervals.len();
        if intervals.is_empty() {
            self.keys.remove(key);
        }
    }
}
