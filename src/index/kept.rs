//! What only held snapshots read of one keyspace, whatever has become of its keys since.
//!
//! Everything lies with the newest held snapshot that needs it. A reader at some LSN looks at the snapshots from that LSN
//! on alone. So a reader at the newest LSN looks at nothing here, however much an old snapshot keeps, and a key that was
//! deleted leaves the map even while an old snapshot sees it.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use crate::base::types::Lsn;

use super::key::Key;
use super::map::{KeyRange, is_empty};
use super::snapshot::Horizon;
use super::value::Value;

/// A version that was superseded, or a deletion that a snapshot from before it must notice.
#[derive(Debug)]
pub(super) struct Entry {
    /// A reader from this LSN on reads the version.
    pub(super) from: Lsn,
    /// The LSN that superseded it. It is above every snapshot that the entry lies with.
    pub(super) until: Lsn,
    /// Whether that was a deletion.
    pub(super) by_tombstone: bool,
    /// `None`: nothing is to be read, and a reader notices the deletion when its transaction is validated.
    pub(super) value: Option<Value>,
}

impl Entry {
    /// The value, if a reader at `at` reads it. The snapshot that the entry lies with must not be below `at`.
    pub(super) fn read(&self, at: Lsn) -> Option<&Value> {
        self.value.as_ref().filter(|_| self.from <= at)
    }

    /// The newest held snapshot that needs the version, or notices the deletion. `is_there` says whether the map has the
    /// key: then a reader notices by the newer version that is there, and the deletion is not needed.
    pub(super) fn needed_by(&mut self, horizon: &Horizon, is_there: impl FnOnce() -> bool) -> Option<Lsn> {
        let reader = self.value.as_ref().and_then(|_| horizon.newest_held(self.from, self.until));
        if reader.is_some() || !self.by_tombstone || is_there() {
            return reader;
        }
        self.value = None;
        horizon.newest_held(Lsn::ZERO, self.until)
    }
}

/// The entries of each held snapshot, by key. A snapshot without entries has no map.
#[derive(Debug, Default)]
pub(super) struct Kept {
    snapshots: BTreeMap<Lsn, BTreeMap<Key, Entry>>,
    entries: usize,
}

impl Kept {
    /// How many entries there are.
    pub(super) fn versions(&self) -> usize {
        self.entries
    }

    /// Keeps an entry for the snapshot `held`; returns whether it is the first one for that snapshot.
    pub(super) fn keep(&mut self, held: Lsn, key: Key, entry: Entry) -> bool {
        let entries = self.snapshots.entry(held).or_default();
        let is_first = entries.is_empty();
        match entries.get_mut(&key) {
            // A snapshot reads one version of a key at most. A deletion is noticed by the version, too, as long as that is
            // here, and remembered with it for the snapshots before.
            Some(before) if before.value.is_some() || entry.value.is_none() => {
                before.by_tombstone |= entry.by_tombstone;
            }
            Some(before) => *before = Entry { by_tombstone: true, ..entry },
            None => {
                entries.insert(key, entry);
                self.entries += 1;
            }
        }
        is_first
    }

    fn for_readers_at(&self, at: Lsn) -> impl Iterator<Item = &BTreeMap<Key, Entry>> {
        self.snapshots.range(at..).map(|(_, entries)| entries)
    }

    /// The value of `key` at `at`.
    pub(super) fn get(&self, key: &[u8], at: Lsn) -> Option<&Value> {
        self.for_readers_at(at).find_map(|entries| entries.get(key)?.read(at))
    }

    /// Whether `key`, which the map does not have, was changed after `at`.
    pub(super) fn changed_since(&self, key: &[u8], at: Lsn) -> bool {
        self.for_readers_at(at).any(|entries| entries.contains_key(key))
    }

    /// Whether some key of `range` was.
    pub(super) fn range_changed_since(&self, range: KeyRange<'_>, at: Lsn) -> bool {
        self.ranges(range, at).any(|mut entries| entries.next().is_some())
    }

    /// For each snapshot that a reader at `at` looks at, its entries in `range`.
    pub(super) fn ranges(&self, range: KeyRange<'_>, at: Lsn) -> impl Iterator<Item = Range<'_, Key, Entry>> {
        let there = if is_empty(range) { None } else { Some(self.for_readers_at(at)) };
        there.into_iter().flatten().map(move |entries| entries.range::<[u8], _>(range))
    }

    /// Takes out an entry of the snapshot `held`.
    pub(super) fn pop(&mut self, held: Lsn) -> Option<(Key, Entry)> {
        let popped = self.snapshots.get_mut(&held)?.pop_first();
        self.entries -= usize::from(popped.is_some());
        popped
    }

    /// Whether there is an entry of the snapshot `held`. The map of one that has none goes.
    pub(super) fn has(&mut self, held: Lsn) -> bool {
        let is_there = self.snapshots.get(&held).is_some_and(|entries| !entries.is_empty());
        if !is_there {
            self.snapshots.remove(&held);
        }
        is_there
    }
}
