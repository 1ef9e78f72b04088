//! The ordered map of a keyspace: its keys, and what of them is in memory.
//!
//! A keyspace with little in it has one small leaf, since there may be a hundred thousand of them. From the first entry on that
//! this has no room for it is a tree of wide ones (`btree`).

mod branch;
mod btree;
mod build;
#[cfg(test)]
mod check;
mod heads;
mod known;
mod leaf;
mod pool;
mod range;
mod record;
mod residency;
mod row;
mod shape;

use std::ops::Bound;

use super::key::Key;
use super::version::{Direction, Version};
use crate::base::types::Lsn;

pub(super) use btree::{BTree, Place};
pub(super) use build::{Builder, Built, SharedLeaf};
pub(super) use heads::{common, head};
pub(super) use known::Known;
pub(super) use residency::{Keys, Stretch};

/// A range of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range between two bounds.
pub(crate) fn between<'k>(low: &'k Bound<Key>, high: &'k Bound<Key>) -> KeyRange<'k> {
    (low.as_ref().map(Key::as_slice), high.as_ref().map(Key::as_slice))
}

/// Whether no key can be in `range`; `BTreeMap::range` panics on some of these.
pub(crate) fn is_empty(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

/// The most entries of a leaf, and the most children of a branch.
const WIDEST: usize = 128;

/// The bytes for records in a wide leaf. With heads and places it takes 16 KiB: room for 128 entries of about 100 bytes.
const MOST_ROOM: usize = 14 << 10;

/// About as many searches as the processor can wait for at once.
pub(super) const AT_ONCE: usize = 16;

/// A map in leaves of the size that its entries need.
#[derive(Debug)]
pub(super) enum Map {
    Small(BTree<8, 512>),
    Medium(BTree<40, 3072>),
    Wide(BTree),
}

/// Does the same with a map of each size.
macro_rules! each {
    ($of:expr, $map:ident => $does:expr) => {
        match $of {
            $crate::index::map::Map::Small($map) => $does,
            $crate::index::map::Map::Medium($map) => $does,
            $crate::index::map::Map::Wide($map) => $does,
        }
    };
}
pub(super) use each;

/// The place of a key in the map, found by one search.
pub(super) enum Slot<'a> {
    Taken(TakenSlot<'a>),
    Free(FreeSlot<'a>),
}

pub(super) struct TakenSlot<'a> {
    map: &'a mut Map,
    place: Place,
}

impl TakenSlot<'_> {
    pub(super) fn version(&self) -> Version<'_> {
        each!(&*self.map, map => map.version(self.place))
    }

    /// Returns the bytes of the value that lie outside of the leaf: one that does not fit into it moves out.
    pub(super) fn set(self, version: Version<'_>) -> usize {
        each!(self.map, map => map.set(self.place, version))
    }

    /// Whether a key of its range without a record is absent.
    pub(super) fn is_complete(&self) -> bool {
        self.place.is_complete
    }

    /// Whether it was before a commit began: a fill may land between two operations of one.
    pub(super) fn was_complete_before(&self, lsn: Lsn) -> bool {
        each!(&*self.map, map => map.known(self.place).complete_from < lsn)
    }
}

/// The place that an absent key would have.
pub(super) struct FreeSlot<'a> {
    key: &'a [u8],
    map: &'a mut Map,
    place: Place,
}

impl FreeSlot<'_> {
    pub(super) fn fill(self, version: Version<'_>) {
        let FreeSlot { key, map, place } = self;
        match map {
            Map::Wide(map) => map.fill(place, key, version),
            Map::Small(small) if small.takes(key, version) => small.fill(place, key, version),
            Map::Medium(medium) if medium.takes(key, version) => medium.fill(place, key, version),
            _ => {
                map.widen();
                // The records are the same, and so is the place of the key among them.
                let place = each!(map, map => map.find(key));
                FreeSlot { key, map, place }.fill(version);
            }
        }
    }

    /// Whether the key is absent. Otherwise layers may have it.
    pub(super) fn is_complete(&self) -> bool {
        self.place.is_complete
    }
}

impl Default for Map {
    fn default() -> Self {
        Map::bare(Known::COMPLETE)
    }
}

impl Map {
    /// A map without records, all of whose range knows this.
    pub(super) fn bare(known: Known) -> Self {
        Map::Small(BTree::bare(known))
    }

    /// Builds the map over some leaves, all of whose ranges know this. No leaf may have a key below those of a leaf before it.
    pub(super) fn of(built: impl IntoIterator<Item = Built>, known: Known) -> Self {
        let mut map = Map::Wide(BTree::of(built, known));
        map.narrow();
        map
    }

    /// The next size.
    fn widen(&mut self) {
        *self = match std::mem::take(self) {
            Map::Small(map) => Map::Medium(map.resized()),
            Map::Medium(map) => Map::Wide(map.resized()),
            wide @ Map::Wide(_) => wide,
        };
    }

    /// Without leaves: the smallest size.
    fn narrow(&mut self) {
        if each!(&*self, map => map.is_bare()) {
            *self = Map::Small(each!(std::mem::take(self), map => map.resized()));
        }
    }

    /// Has room for several leaves.
    fn make_wide(&mut self) {
        while !matches!(self, Map::Wide(_)) {
            self.widen();
        }
    }

    /// The newest version of `key`, and what its range knows.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> (Option<Version<'_>>, &Known) {
        each!(self, map => map.get(key))
    }

    #[inline]
    pub(super) fn slot<'a>(&'a mut self, key: &'a [u8]) -> Slot<'a> {
        let place = each!(self, map => map.find(key));
        match place.is_taken {
            true => Slot::Taken(TakenSlot { map: self, place }),
            false => Slot::Free(FreeSlot { key, map: self, place }),
        }
    }

    /// Shows the entries of `range` in order, until `show` says that one is it. Returns whether it did.
    pub(super) fn any(&self, range: KeyRange<'_>, mut show: impl FnMut(&[u8], Version<'_>) -> bool) -> bool {
        each!(self, map => map.range(range).any(|(key, version)| show(key, version)))
    }

    /// Prefetches what writes to `keys` will read.
    pub(super) fn fetch(&self, keys: &[&[u8]]) {
        each!(self, map => map.fetch(keys));
    }

    /// Removes `key`, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        each!(self, map => map.remove(key))
    }

    /// Frees one leaf with its entries. Returns `false` if only one is left.
    pub(super) fn free_leaf(&mut self) -> bool {
        each!(self, map => map.free_leaf())
    }

    /// Whether most of the memory of its leaves is unused.
    pub(super) fn is_sparse(&self) -> bool {
        each!(self, map => map.is_sparse())
    }

    /// If most of the memory of its leaves is unused, moves up to `budget` leaves, which frees memory. Returns how many
    /// it moved; fewer than `budget` means that there is no more to do.
    pub(super) fn tidy(&mut self, budget: usize) -> usize {
        let moved = each!(self, map => map.tidy(budget));
        self.narrow();
        moved
    }

    /// The bytes of its leaves, without shared values.
    #[inline]
    pub(super) fn leaf_bytes(&self) -> usize {
        each!(self, map => map.leaf_bytes())
    }

    /// The bytes of those of its leaves that have entries.
    #[inline]
    pub(super) fn used_leaf_bytes(&self) -> usize {
        each!(self, map => map.used_leaf_bytes())
    }

    /// Its leaves in order. The memory of a chunk is freed with the last of its leaves.
    pub(super) fn into_shared_leaves(mut self) -> Vec<SharedLeaf> {
        self.make_wide();
        match self {
            Map::Wide(map) => map.into_shared_leaves(),
            Map::Small(_) | Map::Medium(_) => Vec::new(),
        }
    }

    /// Panics unless the invariants hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        each!(self, map => map.check());
    }

    // ---- what is in memory: see `residency`

    /// Whether all keys without a version are absent for a reader at `at`.
    #[inline]
    pub(super) fn is_complete_at(&self, at: Lsn) -> bool {
        each!(self, map => map.is_complete_at(at))
    }

    /// Whether they are for the newest reader.
    pub(super) fn is_complete(&self) -> bool {
        each!(self, map => map.is_complete())
    }

    /// Whether something above `lsn` left memory in a range of keys.
    pub(super) fn has_forgotten(&self, range: KeyRange<'_>, lsn: Lsn) -> bool {
        each!(self, map => map.has_forgotten(range, lsn))
    }

    /// The first stretch of a range for a reader at `at`, seen in a direction. It may end early when it has `most` entries.
    pub(super) fn stretch(&self, range: KeyRange<'_>, direction: Direction, at: Lsn, most: usize) -> Stretch {
        each!(self, map => map.stretch(range, direction, at, most))
    }

    /// The range of keys of the first node at or behind `key` that is not complete.
    pub(super) fn gap_from(&self, key: &[u8]) -> Option<(Key, Option<Key>)> {
        each!(self, map => map.gap_from(key))
    }

    /// Looks from where on the next `count` ranges behind `low` are complete, given that no reader asks below `settled`. Returns
    /// that, and where the next range begins.
    pub(super) fn settle(&mut self, low: &[u8], count: usize, settled: Lsn) -> (Lsn, Option<Key>) {
        each!(self, map => map.settle(low, count, settled))
    }

    /// All of it was seen to be complete from an LSN on, in steps that began when it had forgotten so often.
    pub(super) fn note_complete(&mut self, from: Lsn, times_forgotten: u64) {
        each!(self, map => map.note_complete(from, times_forgotten));
    }

    pub(super) fn times_forgotten(&self) -> u64 {
        each!(self, map => map.times_forgotten())
    }

    /// Has the next `count` ranges behind `low` forget what layers have up to `to` (rule 2), and shows each version that leaves.
    /// A leaf in which somebody has read since the last time is spared. Returns where the next range begins.
    pub(super) fn forget(
        &mut self,
        low: &[u8],
        count: usize,
        to: Lsn,
        show: impl FnMut(&[u8], &Version<'_>),
    ) -> Option<Key> {
        each!(self, map => map.forget(low, count, to, show))
    }

    /// The tombstone of `lsn` leaves the map, if it may. It is the newest version of `key`.
    pub(super) fn bury(&mut self, key: &[u8], lsn: Lsn, to: Lsn) -> bool {
        each!(self, map => map.bury(key, lsn, to))
    }

    /// While there are no readers a deletion of `key` leaves no record, since memory alone answers for its range.
    pub(super) fn note_buried(&mut self, key: &[u8], lsn: Lsn) {
        each!(self, map => map.note_buried(key, lsn));
    }

    /// Where the range of `key` ends, and what it knows.
    pub(super) fn range_of(&self, key: &[u8]) -> (Option<&Key>, &Known) {
        each!(self, map => map.range_of(key))
    }

    /// Range tombstones leave memory for these keys, of which no record is left that they cover. Each may ([`Known::may_bury`]).
    /// With `is_noted` a transaction that began before one conflicts, whatever it has read there.
    pub(super) fn bury_range(&mut self, keys: Keys<'_>, lsns: &[Lsn], to: Lsn, is_noted: bool) {
        each!(self, map => map.bury_range(keys, lsns, to, is_noted));
    }

    /// Whether what was read of these keys from layers up to `to` may land: nothing above that left memory.
    pub(super) fn may_land(&self, keys: Keys<'_>, to: Lsn) -> bool {
        each!(self, map => map.may_land(keys, to))
    }

    /// Makes both ends of a range separators.
    pub(super) fn cut_out(&mut self, keys: Keys<'_>) {
        if keys != (&[], None) {
            self.make_wide();
        }
        each!(self, map => map.cut_out(keys));
    }

    /// All that layers have of these keys up to `to` has landed. A reader above that, and above what memory had, is answered
    /// from now on by memory alone: what it sees is the newest version of each key. No reader asks below `settled`.
    pub(super) fn complete(&mut self, keys: Keys<'_>, to: Lsn, settled: Lsn) {
        each!(self, map => map.complete(keys, to, settled));
    }
}
