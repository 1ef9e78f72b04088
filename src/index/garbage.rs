//! Versions that are superseded, and what each must wait for before it is pruned.
//!
//! A version is garbage once no reader can read it: the LSN that superseded it is settled (visible and durable), and no
//! holder below that LSN reads the version. LSNs settle in order, so each keyspace has a queue of superseded versions
//! (`undo`), and the keyspaces with a non-empty queue stand in a queue here. A version that a holder needs moves to that
//! holder's entries in its keyspace (`retained`), and here the keyspace is noted under the holder. So a long-held
//! snapshot costs nothing until it ends. A dropped keyspace is garbage in the same way: it waits for its drop to settle,
//! and then under the newest holder that sees it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::base::types::Lsn;

use super::snapshot::{Holder, Horizon};
use super::sweep::Next;
use super::tree::Tree;

#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Keyspaces with superseded versions, each with the LSN that must settle before its first version can be pruned. A
    /// keyspace further back may be ready earlier; it waits, because the LSNs before its own settle in a moment.
    waiting: VecDeque<(Lsn, Weak<Tree>)>,
    /// Keyspaces with tombstones that may leave once layers have them.
    stuck: Vec<Weak<Tree>>,
    /// The end of the layers when that was looked at last.
    installed: Lsn,
    /// Keyspaces of which ranges were deleted, each with the LSN that must settle before there is something to sweep.
    sweeping: VecDeque<(Lsn, Weak<Tree>)>,
    /// Those that wait for a checkpoint, or for a snapshot to end.
    resting: Vec<Weak<Tree>>,
    /// How often something has come for which a sweep may wait.
    changes: u64,
    /// For each holder, the keyspaces that retain entries for it. Weak: garbage does not keep a keyspace alive.
    retaining: BTreeMap<Holder, Vec<Weak<Tree>>>,
    /// Keyspaces that retain entries for a holder that has ended.
    released: VecDeque<(Holder, Weak<Tree>)>,
    /// Dropped keyspaces, oldest drop first.
    dropped: VecDeque<Arc<Tree>>,
    /// Dropped keyspaces whose drop is settled, under the newest holder that sees them.
    seen: BTreeMap<Holder, Vec<Arc<Tree>>>,
    /// Dropped keyspaces that no reader can see, and that still have leaves to free.
    freeing: VecDeque<Arc<Tree>>,
    /// Keyspaces in which most of the memory for leaves is unused.
    sparse: VecDeque<Weak<Tree>>,
    /// Holders for which the keyspace just pruned has begun to retain entries.
    newly_retaining: Vec<Holder>,
}

/// The garbage that is left when nothing more is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    Nothing,
    /// Entries that held snapshots need: due when the snapshots end.
    ForSnapshots,
    /// Some that is due once its LSN is visible and durable.
    Unsettled,
}

impl Garbage {
    /// Queues a keyspace. `lsn` superseded the first of its superseded versions.
    pub(super) fn wait(&mut self, lsn: Lsn, tree: &Arc<Tree>) {
        self.waiting.push_back((lsn, Arc::downgrade(tree)));
    }

    /// Queues a keyspace of which a range was deleted at `lsn`.
    pub(super) fn sweep_later(&mut self, lsn: Lsn, tree: &Arc<Tree>) {
        self.sweeping.push_back((lsn, Arc::downgrade(tree)));
    }

    /// Queues a dropped keyspace, which readers may still see.
    pub(super) fn drop_keyspace(&mut self, tree: Arc<Tree>) {
        self.dropped.push_back(tree);
    }

    /// What waits for `holder`, which has ended, is due.
    pub(super) fn end(&mut self, holder: Holder) {
        let trees = self.retaining.remove(&holder).into_iter().flatten();
        self.released.extend(trees.map(|tree| (holder, tree)));
        if holder.validates() {
            self.rouse();
        }
        self.seen.remove(&holder).into_iter().flatten().for_each(|tree| self.dropped.push_front(tree));
    }

    /// Takes the next dropped keyspace that no reader can see. The caller removes it from the catalogue;
    /// [`Garbage::prune`] frees its leaves.
    pub(super) fn next_unseen(&mut self, horizon: &Horizon) -> Option<Arc<Tree>> {
        while let Some(lsn) =
            self.dropped.front().and_then(|tree| tree.dropped()).filter(|lsn| horizon.is_settled(*lsn))
        {
            let tree = self.dropped.pop_front()?;
            match horizon.newest_held(tree.created(), lsn) {
                Some(holder) => self.seen.entry(holder).or_default().push(tree),
                None => {
                    self.freeing.push_back(Arc::clone(&tree));
                    return Some(tree);
                }
            }
        }
        None
    }

    /// Looks at up to `budget` versions that are due: prunes each, or retains it for the holder that needs it.
    /// Returns how many it looked at; fewer than `budget` means that nothing more is due.
    pub(super) fn prune(&mut self, budget: usize, horizon: &Horizon) -> usize {
        let mut used = 0;
        if self.installed < horizon.installed() {
            self.installed = horizon.installed();
            let is_due = |weak: &Weak<Tree>| weak.upgrade().is_some_and(|tree| tree.unstick());
            self.rouse();
            self.waiting.extend(self.stuck.drain(..).filter(is_due).map(|tree| (Lsn::ZERO, tree)));
        }
        while used < budget
            && self.waiting.front().is_some_and(|(lsn, _)| horizon.is_settled(*lsn))
            && let Some((_, weak)) = self.waiting.pop_front()
        {
            let Some(tree) = weak.upgrade() else { continue };
            let pruned = tree.prune(budget - used, horizon, &mut self.newly_retaining);
            used += pruned.used;
            self.note_retaining(&weak);
            if pruned.is_sparse {
                self.sparse.push_back(Weak::clone(&weak));
            }
            if pruned.is_stuck {
                self.stuck.push(Weak::clone(&weak));
            }
            if let Some(next) = pruned.next {
                self.waiting.push_back((next, weak));
            }
        }
        while used < budget
            && let Some((holder, weak)) = self.released.pop_front()
        {
            if horizon.is_held(holder) {
                // It has begun again meanwhile.
                self.retaining.entry(holder).or_default().push(weak);
                continue;
            }
            let Some(tree) = weak.upgrade() else { continue };
            let (looked_at, is_left) = tree.release(holder, budget - used, horizon, &mut self.newly_retaining);
            used += looked_at;
            self.note_retaining(&weak);
            if is_left {
                self.released.push_front((holder, weak));
            }
        }
        while used < budget
            && let Some(tree) = self.freeing.front()
        {
            // A leaf counts as one version. Freeing all leaves at once would delay a commit.
            if !tree.free_leaf() {
                self.freeing.pop_front();
            }
            used += 1;
        }
        used
    }

    /// What rested may be swept now.
    fn rouse(&mut self) {
        self.changes += 1;
        let is_due = |weak: &Weak<Tree>| weak.upgrade().is_some_and(|tree| tree.rouse());
        self.sweeping.extend(self.resting.drain(..).filter(is_due).map(|tree| (Lsn::ZERO, tree)));
    }

    /// Sweeps what was deleted by range, up to `budget` records and parts of ranges. Returns how many it looked at; fewer than
    /// `budget` means that nothing more is due.
    pub(super) fn sweep(&mut self, budget: usize, horizon: &Horizon) -> usize {
        let mut used = 0;
        while used < budget
            && self.sweeping.front().is_some_and(|(lsn, _)| horizon.is_settled(*lsn))
            && let Some((_, weak)) = self.sweeping.pop_front()
        {
            let Some(tree) = weak.upgrade() else { continue };
            let swept = tree.sweep(budget - used, self.changes, horizon, &mut self.newly_retaining);
            used += swept.used;
            self.note_retaining(&weak);
            if swept.is_sparse {
                self.sparse.push_back(Weak::clone(&weak));
            }
            match swept.next {
                Next::Nothing => {}
                Next::Now => self.sweeping.push_front((Lsn::ZERO, weak)),
                Next::Settled(lsn) => self.sweeping.push_back((lsn, weak)),
                Next::Later(true) => self.resting.push(weak),
                Next::Later(false) => {}
            }
        }
        used
    }

    /// Moves up to `budget` leaves out of memory that is mostly unused, which frees that memory. Returns how many it
    /// moved; fewer than `budget` means that there is no more to do.
    pub(super) fn tidy(&mut self, budget: usize) -> usize {
        let mut used = 0;
        while used < budget
            && let Some(weak) = self.sparse.front()
        {
            let most = budget - used;
            let moved = weak.upgrade().map_or(0, |tree| tree.tidy(most));
            used += moved;
            if moved < most {
                self.sparse.pop_front();
            }
        }
        used
    }

    /// Tells which garbage is left. Right only if nothing more is due.
    pub(super) fn left(&self) -> Left {
        let is_retaining = !self.retaining.is_empty() || !self.seen.is_empty() || !self.released.is_empty();
        if !self.waiting.is_empty() || !self.dropped.is_empty() || !self.sweeping.is_empty() {
            Left::Unsettled
        } else if is_retaining || !self.resting.is_empty() {
            Left::ForSnapshots
        } else {
            Left::Nothing
        }
    }

    /// Notes `tree` under each holder for which it has begun to retain entries.
    fn note_retaining(&mut self, tree: &Weak<Tree>) {
        for holder in self.newly_retaining.drain(..) {
            self.retaining.entry(holder).or_default().push(Weak::clone(tree));
        }
    }
}
