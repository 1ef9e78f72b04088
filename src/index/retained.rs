//! The superseded versions of one keyspace that only held snapshots read.
//!
//! Each entry is stored under the newest holder that needs it, and a reader at some LSN searches only the holders from
//! that LSN on. So a reader at the newest LSN searches none of them, however many entries an old snapshot retains, and a
//! deleted key can leave the map while an old snapshot still sees it. (A reader at an old LSN searches all newer holders
//! that retain something here: its cost follows their number.)

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use crate::base::types::Lsn;

use super::key::Key;
use super::map::{KeyRange, is_empty};
use super::snapshot::{Holder, Horizon};
use super::value::Value;
use super::version::Content;

/// A superseded version, or the note of a deletion that an older transaction must detect.
#[derive(Debug)]
pub(super) struct Entry {
    /// The LSN that wrote the version: readers from here on read it.
    pub(super) from: Lsn,
    /// The LSN that superseded it. It is above every holder that the entry is stored under.
    pub(super) until: Lsn,
    /// Whether a deletion superseded it.
    pub(super) by_tombstone: bool,
    pub(super) kept: Kept,
}

/// What is kept of a superseded version.
#[derive(Debug)]
pub(super) enum Kept {
    Value(Value),
    /// It is a tombstone: layers may have an older version.
    Tombstone,
    /// There is nothing to read, but validation of a reader's transaction detects the deletion that superseded it.
    Note,
}

impl Entry {
    /// What a reader at `at` reads, and the LSN that wrote it. `at` must not be above the holder that the entry is stored under.
    pub(super) fn read(&self, at: Lsn) -> Option<(Lsn, Content<'_>)> {
        match &self.kept {
            _ if self.from > at => None,
            Kept::Value(value) => Some((self.from, Content::Shared(value))),
            Kept::Tombstone => Some((self.from, Content::Deleted)),
            Kept::Note => None,
        }
    }

    fn value_len(&self) -> usize {
        if let Kept::Value(value) = &self.kept { value.len() } else { 0 }
    }

    pub(super) fn is_note(&self) -> bool {
        matches!(self.kept, Kept::Note)
    }

    /// The newest holder that needs the version or the note of the deletion. `is_there` tells whether the map has the
    /// key; if it has, validation detects the deletion by the newer version there, and the note is not needed. Nor is it
    /// for those who only read: a queue under a long-held snapshot would leave a note for each element that has passed
    /// through.
    pub(super) fn needed_by(&mut self, horizon: &Horizon, is_there: impl FnOnce() -> bool) -> Option<Holder> {
        let reader = if self.is_note() { None } else { horizon.newest_held(self.from, self.until) };
        if reader.is_some() || !self.by_tombstone {
            return reader;
        }
        let transaction = horizon.newest_validating(self.until)?;
        if is_there() {
            return None;
        }
        self.kept = Kept::Note;
        Some(transaction)
    }
}

fn size_of_entry(key: &Key, entry: &Entry) -> usize {
    size_of::<(Key, Entry)>() + key.len() + entry.value_len()
}

/// The entries of each holder, by key. A holder without entries has no map.
#[derive(Debug, Default)]
pub(super) struct Retained {
    holders: BTreeMap<Holder, BTreeMap<Key, Entry>>,
    entries: usize,
    /// What they take, without the nodes of the maps.
    bytes: usize,
}

impl Retained {
    pub(super) fn versions(&self) -> usize {
        self.entries
    }

    /// The bytes that they take, but for the nodes of the maps.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }

    /// Stores an entry under `holder`. Returns whether it is the first one there.
    pub(super) fn add(&mut self, holder: Holder, key: Key, entry: Entry) -> bool {
        let entries = self.holders.entry(holder).or_default();
        let is_first = entries.is_empty();
        match entries.get_mut(&key) {
            // A reader reads at most one version of a key. While the version is here, validation detects a deletion by
            // it too, so the deletion is noted in the same entry for the transactions before.
            Some(before) if !before.is_note() || entry.is_note() => {
                before.by_tombstone |= entry.by_tombstone;
            }
            Some(before) => {
                self.bytes += entry.value_len();
                *before = Entry { by_tombstone: true, ..entry };
            }
            None => {
                self.bytes += size_of_entry(&key, &entry);
                entries.insert(key, entry);
                self.entries += 1;
            }
        }
        is_first
    }

    fn for_readers_at(&self, at: Lsn) -> impl Iterator<Item = &BTreeMap<Key, Entry>> {
        self.holders.range(Holder::first(at)..).map(|(_, entries)| entries)
    }

    /// What a reader at `at` reads of `key`, if anything is kept for it, and the LSN that wrote it.
    pub(super) fn get(&self, key: &[u8], at: Lsn) -> Option<(Lsn, Content<'_>)> {
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

    /// For each holder that a reader at `at` searches, the entries in `range`.
    pub(super) fn ranges(&self, range: KeyRange<'_>, at: Lsn) -> impl Iterator<Item = Range<'_, Key, Entry>> {
        let there = if is_empty(range) { None } else { Some(self.for_readers_at(at)) };
        there.into_iter().flatten().map(move |entries| entries.range::<[u8], _>(range))
    }

    /// Removes one entry of `holder`.
    pub(super) fn pop(&mut self, holder: Holder) -> Option<(Key, Entry)> {
        let popped = self.holders.get_mut(&holder)?.pop_first();
        if let Some((key, entry)) = &popped {
            self.entries -= 1;
            self.bytes -= size_of_entry(key, entry);
        }
        popped
    }

    /// Whether `holder` has entries. Drops its map if it has none.
    pub(super) fn has(&mut self, holder: Holder) -> bool {
        let is_there = self.holders.get(&holder).is_some_and(|entries| !entries.is_empty());
        if !is_there {
            self.holders.remove(&holder);
        }
        is_there
    }
}
