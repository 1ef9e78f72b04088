//! The ordered map under a keyspace: a `BTreeMap` for now, behind the few calls that a replacement must have.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, VacantEntry};
use std::ops::Bound;

use super::key::Key;
use super::versions::Chain;

/// A range of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Keys in order, each with its versions.
#[derive(Debug, Default)]
pub(super) struct Map(BTreeMap<Key, Chain>);

/// The place of a key in the map, found by one search.
pub(super) enum Slot<'a> {
    /// The key is there: as the map holds it, so that it can be shared.
    Taken(Key, &'a mut Chain),
    /// The key is not there.
    Free(FreeSlot<'a>),
}

/// The place where a key would be.
pub(super) struct FreeSlot<'a>(VacantEntry<'a, Key, Chain>);

impl FreeSlot<'_> {
    pub(super) fn fill(self, chain: Chain) {
        self.0.insert(chain);
    }
}

impl Map {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Chain> {
        // A short key is copied for its faster comparison; a long one would have to be allocated.
        match Key::in_place(key) {
            Some(key) => self.0.get(&key),
            None => self.0.get(key),
        }
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Chain> {
        self.0.get_mut(key)
    }

    pub(super) fn slot(&mut self, key: Key) -> Slot<'_> {
        match self.0.entry(key) {
            Entry::Occupied(entry) => Slot::Taken(entry.key().clone(), entry.into_mut()),
            Entry::Vacant(entry) => Slot::Free(FreeSlot(entry)),
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Removes some key; `None` if there is none.
    pub(super) fn remove_any(&mut self) -> Option<Chain> {
        self.0.pop_first().map(|(_, chain)| chain)
    }

    /// The keys of `range` in order; none if it ends before it begins.
    pub(super) fn range(&self, range: KeyRange<'_>) -> impl DoubleEndedIterator<Item = (&Key, &Chain)> {
        let range = (!ends_before_it_begins(range)).then(|| self.0.range::<[u8], _>(range));
        range.into_iter().flatten()
    }
}

/// Whether a `BTreeMap` panics on `range`: callers may ask for such a one, and a cursor with nothing left does.
fn ends_before_it_begins(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low > high,
        _ => false,
    }
}
