//! The superseded versions of one keyspace that only held snapshots read.
//!
//! Each entry is stored under the newest held snapshot that needs it, and a reader at some LSN searches only the
//! snapshots from that LSN on. So a reader at the newest LSN searches none of them, however many entries an old
//! snapshot retains, and a deleted key can leave the map while an old snapshot still sees it.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use crate::base::types::Lsn;

use super::key::Key;
use super::map::{KeyRange, is_empty};
use super::snapshot::Horizon;
use super::value::Value;

/// A superseded version, or the note of a deletion that an older snapshot must detect.
#[derive(Debug)]
pub(super) struct Entry {
    /// The LSN that wrote the version: readers from here on read it.
    pub(super) from: Lsn,
    /// The LSN that superseded it. It is above every snapshot that the entry is stored under.
    pub(super) until: Lsn,
    /// Whether a deletion superseded it.
    pub(super) by_tombstone: bool,
    /// `None`: there is nothing to read, but validation of a reader's transaction detects the deletion by this entry.
    pub(super) value: Option<Value>,
}

impl Entry {
    /// The value, if a reader at `at` reads it. `at` must not be above the snapshot that the entry is stored under.
    pub(super) fn read(&self, at: Lsn) -> Option<&Value> {
        self.value.as_ref().filter(|_| self.from <= at)
    }

    /// The newest held snapshot that needs the version or the note of the deletion. `is_there` tells whether the map
    /// has the key; if it has, validation detects the deletion by the newer version there, and the note is not needed.
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
pub(super) struct Retained {
    snapshots: BTreeMap<Lsn, BTreeMap<Key, Entry>>,
    entries: usize,
}

impl Retained {
    pub(super) fn versions(&self) -> usize {
        self.entries
    }

    /// Stores an entry under the snapshot `held`. Returns whether it is the first one there.
    pub(super) fn add(&mut self, held: Lsn, key: Key, entry: Entry) -> bool {
        let entries = self.snapshots.entry(held).or_default();
        let is_first = entries.is_empty();
        match entries.get_mut(&key) {
            // A snapshot reads at most one version of a key. While the version is here, validation detects a deletion
            // by it too, so the deletion is noted in the same entry for the snapshots before.
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

    pub(super) fn get(&self, key: &[u8], at: Lsn) -> Option<&Value> {
        self.for_readers_at(at).find_map(|entries| entries.get(key)?.read(at))
    }

    /// Whether a commit after `at` changed `key`, which the map does not have.
    pub(super) fn changed_since(&self, key: &[u8], at: Lsn) -> bool {
        self.for_readers_at(at).any(|entries| entries.contains_key(key))
    }

    /// Whether a commit after `at` changed a key of `range` that the map does not have.
    pub(super) fn range_changed_since(&self, range: KeyRange<'_>, at: Lsn) -> bool {
        self.ranges(range, at).any(|mut entries| entries.next().is_some())
    }

    /// For each snapshot that a reader at `at` searches, the entries in `range`.
    pub(super) fn ranges(&self, range: KeyRange<'_>, at: Lsn) -> impl Iterator<Item = Range<'_, Key, Entry>> {
        let there = if is_empty(range) { None } else { Some(self.for_readers_at(at)) };
        there.into_iter().flatten().map(move |entries| entries.range::<[u8], _>(range))
    }

    /// Removes one entry of the snapshot `held`.
    pub(super) fn pop(&mut self, held: Lsn) -> Option<(Key, Entry)> {
        let popped = self.snapshots.get_mut(&held)?.pop_first();
        self.entries -= usize::from(popped.is_some());
        popped
    }

    /// Whether the snapshot `held` has entries. Drops its map if it has none.
    pub(super) fn has(&mut self, held: Lsn) -> bool {
        let is_there = self.snapshots.get(&held).is_some_and(|entries| !entries.is_empty());
        if !is_there {
            self.snapshots.remove(&held);
        }
        is_there
    }
}
