//! Versions that cannot be pruned yet, and what they wait for.
//!
//! A version is garbage once nobody can read it: the LSN that superseded it is settled (visible and durable), and no
//! snapshot below that LSN reads it. For the first each keyspace has a queue (`undo`), since LSNs settle in order, and
//! the keyspaces that have something in it stand in a queue here. What a held snapshot needs lies with that snapshot in
//! its keyspace (`kept`), and here is noted in which keyspaces: a long-held one costs nothing until it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::base::types::Lsn;

use super::snapshot::Horizon;
use super::tree::Tree;

/// What cannot be pruned yet.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Keyspaces with superseded versions, and the LSN that must be settled for the first of them to go. A keyspace that
    /// could go on waits for those before it; theirs settle in a moment, too.
    waiting: VecDeque<(Lsn, Weak<Tree>)>,
    /// The keyspaces that keep something for a held snapshot, by snapshot. A keyspace does not stay for its garbage.
    filed: BTreeMap<Lsn, Vec<Weak<Tree>>>,
    /// Dropped keyspaces that somebody may still see, oldest drop first.
    dropped: VecDeque<Arc<Tree>>,
    /// Dropped keyspaces that nobody can see, and that still have keys.
    shed: VecDeque<Arc<Tree>>,
    /// Keyspaces most of whose memory is unused.
    sparse: VecDeque<Weak<Tree>>,
    /// Snapshots that a keyspace has begun to keep something for.
    newly_filed: Vec<Lsn>,
}

/// What garbage is left when nothing more is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    Nothing,
    /// What held snapshots need: it is due when they are gone.
    ForSnapshots,
    /// Some that becomes due once its LSN is visible and durable.
    Unsettled,
}

impl Garbage {
    /// Queues a keyspace, the first of whose superseded versions `lsn` superseded.
    pub(super) fn wait(&mut self, lsn: Lsn, tree: &Arc<Tree>) {
        self.waiting.push_back((lsn, Arc::downgrade(tree)));
    }

    /// Takes note of a dropped keyspace.
    pub(super) fn drop_keyspace(&mut self, tree: Arc<Tree>) {
        self.dropped.push_back(tree);
    }

    /// The next dropped keyspace that nobody can see any more: forget it. Its keys go by and by.
    pub(super) fn next_unseen(&mut self, horizon: &Horizon) -> Option<Arc<Tree>> {
        self.dropped.front().filter(|tree| tree.dropped().is_some_and(|lsn| horizon.is_past(lsn)))?;
        let tree = self.dropped.pop_front()?;
        self.shed.push_back(Arc::clone(&tree));
        Some(tree)
    }

    /// Looks at up to `budget` versions that are due, prunes them, and puts off what is still needed. Returns how much of
    /// the budget was used: less than all of it if nothing more is due.
    pub(super) fn prune(&mut self, budget: usize, horizon: &Horizon) -> usize {
        let mut used = 0;
        while used < budget
            && self.waiting.front().is_some_and(|(lsn, _)| horizon.is_settled(*lsn))
            && let Some((_, place)) = self.waiting.pop_front()
        {
            let Some(tree) = place.upgrade() else { continue };
            let settled = tree.settle(budget - used, horizon, &mut self.newly_filed);
            used += settled.used;
            self.file(&place);
            if settled.is_sparse {
                self.sparse.push_back(Weak::clone(&place));
            }
            if let Some(next) = settled.next {
                self.waiting.push_back((next, place));
            }
        }
        while used < budget
            && let Some((held, place)) = self.next_released(horizon)
        {
            let Some(tree) = place.upgrade() else { continue };
            let (looked_at, is_left) = tree.release(held, budget - used, horizon, &mut self.newly_filed);
            used += looked_at;
            self.file(&place);
            if is_left {
                self.filed.entry(held).or_default().push(place);
            }
        }
        while used < budget
            && let Some(tree) = self.shed.front()
        {
            // A leaf counts as one version: its keys only have to be freed, but freeing all at once would hold up a commit.
            if !tree.shed() {
                self.shed.pop_front();
            }
            used += 1;
        }
        used
    }

    /// Moves up to `budget` leaves out of memory that is mostly unused, which goes then. Returns how many it moved, fewer
    /// than `budget` if there is no more to do.
    pub(super) fn tidy(&mut self, budget: usize) -> usize {
        let mut used = 0;
        while used < budget
            && let Some(place) = self.sparse.front()
        {
            let most = budget - used;
            let moved = place.upgrade().map_or(0, |tree| tree.tidy(most));
            used += moved;
            if moved < most {
                self.sparse.pop_front();
            }
        }
        used
    }

    /// What is left, if nothing more is due.
    pub(super) fn left(&self, horizon: &Horizon) -> Left {
        let is_unsettled = |tree: &Arc<Tree>| tree.dropped().is_some_and(|lsn| !horizon.is_reached(lsn));
        if self.waiting.iter().any(|(lsn, _)| !horizon.is_reached(*lsn)) || self.dropped.iter().any(is_unsettled) {
            Left::Unsettled
        } else if self.filed.is_empty() && self.dropped.is_empty() && self.waiting.is_empty() {
            Left::Nothing
        } else {
            Left::ForSnapshots
        }
    }

    /// Notes that `tree` keeps something for held snapshots.
    fn file(&mut self, tree: &Weak<Tree>) {
        for held in self.newly_filed.drain(..) {
            self.filed.entry(held).or_default().push(Weak::clone(tree));
        }
    }

    /// Takes a keyspace that keeps something for a snapshot that is gone.
    fn next_released(&mut self, horizon: &Horizon) -> Option<(Lsn, Weak<Tree>)> {
        let held = self.filed.keys().copied().find(|&lsn| !horizon.is_held(lsn))?;
        let trees = self.filed.get_mut(&held)?;
        let tree = trees.pop()?;
        if trees.is_empty() {
            self.filed.remove(&held);
        }
        Some((held, tree))
    }
}
