//! The sweep: what a deletion of a range has left to be done in memory (`table/RULES.md`, 11).
//!
//! One step is about the keys that one range tombstone and one node of the map have in common: the records that it covers leave the
//! map, the node takes note that it was here, and it leaves the list for these keys.

use std::ops::Bound;

use super::key::Key;
use super::range_tombstones::{Fragment, Sweep};
use super::retained::{Entry, Kept};
use super::snapshot::{Holder, Horizon};
use super::state::TreeState;
use super::tree::Tree;
use super::version::outside_len;
use crate::base::types::Lsn;

/// With fewer range tombstones, one that an older transaction must detect stays in the list. In the map the note of it is
/// for a whole node: transactions would conflict that have read other keys there.
const LONG: usize = if cfg!(test) { 4 } else { 1024 };

/// When there is more to sweep in a keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Never: the list is empty.
    Nothing,
    Now,
    /// Once this LSN is settled.
    Settled(Lsn),
    /// Once a checkpoint is installed, a snapshot ends, or another range is deleted. Whether it is new in the list of those that wait.
    Later(bool),
}

/// What a sweep has done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    /// The number of records and parts of ranges looked at.
    pub(super) used: usize,
    pub(super) next: Next,
    /// Whether most of the map's memory has become unused.
    pub(super) is_sparse: bool,
}

impl Tree {
    /// Sweeps up to `budget` records and parts of ranges, or one part with more. What held snapshots read of it is retained. `changes` is
    /// how often a checkpoint was installed, or a snapshot has ended.
    pub(super) fn sweep(
        &self,
        budget: usize,
        changes: u64,
        horizon: &Horizon,
        newly_retaining: &mut Vec<Holder>,
    ) -> Swept {
        let mut state = self.change();
        if self.dropped().is_some() {
            // The whole keyspace is being freed.
            return Swept { used: 0, next: Next::Nothing, is_sparse: false };
        }
        // Superseded versions of the records go first: only the records lead to them.
        let (mut used, mut next) = (state.prune_undo(budget, horizon, newly_retaining), Next::Now);
        while used < budget && next == Next::Now {
            let from = state.sweep.at.take();
            if from.is_none() {
                state.sweep.changes = changes;
            }
            let part = state.ranges.next_from(from.as_deref().unwrap_or_default());
            if let Some((from, fragment)) = part {
                used += 1 + state.sweep_part(&from, &fragment, horizon, newly_retaining);
            }
            if state.sweep.at.is_none() {
                next = state.end_pass(changes);
            }
        }
        state.sweep.is_queued = matches!(next, Next::Now | Next::Settled(_));
        let is_sparse = state.map.is_sparse() && !std::mem::replace(&mut state.is_sparse, true);
        Swept { used, next, is_sparse }
    }

    pub(super) fn has_ranges(&self) -> bool {
        !self.look().ranges.is_empty()
    }

    /// The ranges that were deleted above `lsn`, as far as they are not swept.
    pub(crate) fn ranges_deleted_since(&self, lsn: Lsn) -> Vec<(Key, Option<Key>)> {
        let state = self.look();
        let all = state.ranges.of_range((Bound::Unbounded, Bound::Unbounded), Lsn::new(u64::MAX));
        all.into_iter().filter(|(.., newest)| *newest > lsn).map(|(from, end, _)| (from, end)).collect()
    }

    /// What it has waited for may have come. Returns whether the keyspace is to be queued.
    pub(super) fn rouse(&self) -> bool {
        let mut state = self.change();
        state.sweep.is_resting = false;
        !std::mem::replace(&mut state.sweep.is_queued, true)
    }

    /// Whether a load has left range tombstones, and the keyspace is to be queued.
    pub(super) fn queue_sweep(&self) -> bool {
        let mut state = self.change();
        !state.ranges.is_empty() && !std::mem::replace(&mut state.sweep.is_queued, true)
    }
}

impl TreeState {
    /// The sweep has come to the last key.
    fn end_pass(&mut self, now: u64) -> Next {
        let Sweep { has_moved, changes, unsettled, is_resting, .. } = std::mem::take(&mut self.sweep);
        self.sweep = Sweep { is_resting, ..Sweep::default() };
        match unsettled {
            _ if self.ranges.is_empty() => Next::Nothing,
            // What it came to first may be due by now.
            _ if has_moved || changes < now => Next::Now,
            Some(lsn) => Next::Settled(lsn),
            None => Next::Later(!std::mem::replace(&mut self.sweep.is_resting, true)),
        }
    }

    /// One step, from the key `from` of a fragment on. Returns the number of records that have left the map.
    fn sweep_part(
        &mut self,
        from: &Key,
        fragment: &Fragment,
        horizon: &Horizon,
        newly_retaining: &mut Vec<Holder>,
    ) -> usize {
        let (end, known) = self.map.range_of(from);
        let known = *known;
        let end = [end, fragment.end.as_ref()].into_iter().flatten().min().cloned();
        self.sweep.at.clone_from(&end);
        let is_ready = |lsn: Lsn| horizon.is_settled(lsn);
        let unsettled = fragment.lsns.iter().find(|lsn| !is_ready(**lsn)).copied();
        self.note_unsettled(unsettled);
        let may_leave = |lsn: &&Lsn| is_ready(**lsn) && known.may_bury(**lsn, horizon.installed());
        let lsns = &fragment.lsns[..fragment.lsns.iter().take_while(may_leave).count()];
        let Some(newest) = lsns.last() else { return 0 };
        let is_noted = horizon.newest_validating(*newest).is_some();
        if is_noted && self.ranges.len() < LONG {
            return 0;
        }
        let Some(removed) = self.remove_covered((from, end.as_ref()), lsns, horizon, newly_retaining) else {
            // What is not pruned of them yet is behind this one.
            self.note_unsettled(self.undo.front().map(|record| record.by));
            return 0;
        };
        self.map.bury_range((from, end.as_deref()), lsns, horizon.installed(), is_noted);
        self.ranges.remove(from, end.as_ref(), lsns.len());
        self.sweep.has_moved = true;
        removed
    }

    fn note_unsettled(&mut self, lsn: Option<Lsn>) {
        self.sweep.unsettled = [self.sweep.unsettled, lsn].into_iter().flatten().min();
    }

    /// Takes the records that the range tombstones of `lsns` cover out of the map, and retains what held snapshots read of them. None
    /// of them, if one leads to a superseded version that is not pruned.
    fn remove_covered(
        &mut self,
        (from, end): (&Key, Option<&Key>),
        lsns: &[Lsn],
        horizon: &Horizon,
        newly_retaining: &mut Vec<Holder>,
    ) -> Option<usize> {
        let range = (Bound::Included(from.as_slice()), end.map_or(Bound::Unbounded, |end| Bound::Excluded(&**end)));
        let (mut covered, mut live, mut large) = (Vec::new(), 0, 0);
        let has_unpruned = self.map.any(range, |key, version| {
            // The oldest deletion above it superseded it.
            let Some(until) = lsns.get(lsns.partition_point(|lsn| *lsn <= version.lsn)).copied() else { return false };
            if self.undo.has(version.older) {
                return true;
            }
            let holder = horizon.newest_held(version.lsn, until);
            let kept = holder.map(|holder| {
                let kept = version.content.value().map_or(Kept::Tombstone, Kept::Value);
                (holder, Entry { from: version.lsn, until, by_tombstone: true, kept })
            });
            covered.push((Key::from(key), kept));
            live += usize::from(!version.content.is_deleted());
            large += outside_len(key, version.content);
            false
        });
        if has_unpruned {
            return None;
        }
        let count = covered.len();
        self.live -= live;
        self.large -= large;
        for (key, kept) in covered {
            self.keys -= usize::from(self.map.remove(&key));
            if let Some((holder, entry)) = kept
                && self.retained.add(holder, key, entry)
            {
                newly_retaining.push(holder);
            }
        }
        Some(count)
    }
}
