//! What of a keyspace is in memory: what it lets go of, and what comes back (`table/RULES.md`, 2, 7 and 12).

use std::ops::Bound;

use super::fill::Fill;
use super::key::Key;
use super::map::Slot;
use super::state::TreeState;
use super::tree::Tree;
use super::version::{Seq, Version, content, outside_len, share};
use crate::base::types::Lsn;

impl Tree {
    /// The first range at or behind `key` that is not complete: its first key, and the first one behind it.
    pub(super) fn gap_from(&self, key: &[u8]) -> Option<(Key, Option<Key>)> {
        self.look().map.gap_from(key)
    }

    /// Whether all of it is in memory, as far as it was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.look().map.is_complete()
    }

    /// Whether nobody asks layers.
    pub(crate) fn is_whole(&self) -> bool {
        self.look().map.is_complete_at(Lsn::ZERO)
    }

    /// Looks from where on all of it is in memory. No reader asks below `settled`.
    pub(super) fn settle(&self, settled: Lsn) {
        /// Ranges under one lock.
        const RANGES: usize = 64;
        let (mut low, mut from, mut times) = (Key::from(&[]), Lsn::ZERO, None);
        loop {
            let mut state = self.change();
            let times = *times.get_or_insert(state.map.times_forgotten());
            let (of_ranges, next) = state.map.settle(&low, RANGES, settled);
            from = from.max(of_ranges);
            match next {
                Some(next) => low = next,
                None => return state.map.note_complete(from, times),
            }
        }
    }

    /// Has the next `count` ranges behind `low` forget what layers have up to `to`, which are installed. Returns where the next
    /// range begins.
    pub(crate) fn forget(&self, low: &[u8], count: usize, to: Lsn) -> Option<Key> {
        let mut state = self.change();
        if self.dropped().is_some() {
            // The whole keyspace is being freed.
            return None;
        }
        let (mut keys, mut live, mut large) = (0, 0, 0);
        let next = state.map.forget(low, count, to, |key, version| {
            keys += 1;
            live += usize::from(!version.content.is_deleted());
            large += outside_len(key, version.content);
        });
        state.keys -= keys;
        state.live -= live;
        state.large -= large;
        next
    }

    /// Lets a fill land: its range is complete from then on. Returns `false`, and has changed nothing, if newer things have
    /// left memory since the layers were held. No reader asks below `settled`.
    pub(super) fn land(&self, fill: &Fill, settled: Lsn) -> bool {
        let mut state = self.change();
        let TreeState { map, ranges, keys, live, large, newest, .. } = &mut *state;
        if self.dropped().is_some() {
            // The whole keyspace is being freed.
            return true;
        }
        if !map.may_land(fill.keys(), fill.to()) {
            return false;
        }
        let mut added = 0;
        map.cut_out(fill.keys());
        for (key, lsn, value) in fill.entries() {
            // In a complete leaf the key may have been deleted, and buried, since it was read.
            // And a deletion of its range that is newer than the layers would be older than what lands.
            if let Slot::Free(slot) = map.slot(key)
                && !slot.is_complete()
                && !ranges.changed_since(key, lsn)
            {
                let shared = share(Some(value));
                slot.fill(Version { lsn, older: Seq::NONE, content: content(Some(value), shared.as_ref()) });
                *newest = lsn.max(*newest);
                *large += outside_len(key, content(Some(value), shared.as_ref()));
                added += 1;
            }
        }
        *keys += added;
        *live += added;
        let (low, high) = fill.keys();
        let range = (Bound::Included(low), high.map_or(Bound::Unbounded, Bound::Excluded));
        map.complete(fill.keys(), fill.to().max(ranges.newest_within(range)), settled);
        true
    }

    /// Gives back the memory of leaves that were let go of.
    pub(crate) fn give_back(&self) {
        /// Leaves that are moved under one lock.
        const LEAVES: usize = 8;
        while self.tidy(LEAVES) == LEAVES {}
    }

    /// A checkpoint was installed: whether the keyspace is to be queued for its stuck tombstones, and is not yet.
    pub(super) fn unstick(&self) -> bool {
        let mut state = self.change();
        state.is_stuck = false;
        !std::mem::replace(&mut state.waits, true)
    }

    /// Puts the tombstones that a load has left in the order of their LSNs. Returns whether the keyspace is to be queued.
    pub(super) fn sort_stuck(&self) -> bool {
        let mut state = self.change();
        state.stuck.make_contiguous().sort_unstable();
        !state.stuck.is_empty() && !std::mem::replace(&mut state.waits, true)
    }
}
