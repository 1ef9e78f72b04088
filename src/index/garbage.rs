//! Versions that cannot be pruned yet, and what they wait for.
//!
//! A version is garbage once nobody can read it: the LSN that superseded it is settled (visible and durable), and no
//! snapshot below that LSN reads it. The first is waited for in a queue, since LSNs settle in order. What a held
//! snapshot keeps is filed under that snapshot, so that a long-held one costs nothing until it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::words::types::Lsn;

use super::key::Key;
use super::snapshot::Horizon;
use super::tree::Tree;
use super::versions::{Due, Filing};

/// What cannot be pruned yet.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Keys with a version that waits for the LSN that superseded it to settle; rising LSNs.
    waiting: VecDeque<(Lsn, Place)>,
    /// Versions (by their LSN) that held snapshots read, by snapshot.
    filed: BTreeMap<Lsn, Vec<(Lsn, Place)>>,
    /// Dropped keyspaces that somebody may still see, oldest drop first.
    dropped: VecDeque<Arc<Tree>>,
    /// Dropped keyspaces that nobody can see, and that still have keys.
    shed: VecDeque<Arc<Tree>>,
    filings: Vec<Filing>,
}

/// Where a key is. A keyspace does not stay for its garbage.
#[derive(Clone, Debug)]
struct Place {
    tree: Weak<Tree>,
    key: Key,
}

impl Garbage {
    /// How many keys of a forgotten keyspace count as one looked at: they only have to be freed, but freeing a large
    /// map at once would hold up a commit.
    const SHED: usize = 32;

    /// Queues a key with a version that `lsn` superseded.
    pub(super) fn wait(&mut self, lsn: Lsn, tree: &Arc<Tree>, key: Key) {
        self.waiting.push_back((lsn, Place { tree: Arc::downgrade(tree), key }));
    }

    /// Takes note of a dropped keyspace.
    pub(super) fn drop_keyspace(&mut self, tree: Arc<Tree>) {
        self.dropped.push_back(tree);
    }

    /// The next dropped keyspace that nobody can see any more: forget it. Its keys go by and by.
    pub(super) fn next_unseen(&mut self, horizon: &Horizon) -> Option<Arc<Tree>> {
        let tree = self.dropped.pop_front_if(|tree| tree.dropped().is_some_and(|lsn| horizon.is_past(lsn)))?;
        self.shed.push_back(Arc::clone(&tree));
        Some(tree)
    }

    /// Looks at up to `budget` keys that are due, prunes them, and puts off what is still needed. `applied` is the
    /// newest LSN applied. Returns how much of the budget was used: less than all of it if nothing more is due.
    pub(super) fn prune(&mut self, applied: Lsn, budget: usize, horizon: &Horizon) -> usize {
        let mut used = 0;
        while used < budget
            && let Some((lsn, place)) = self.waiting.pop_front_if(|(lsn, _)| horizon.is_settled(*lsn))
        {
            debug_assert!(lsn <= applied);
            self.settle(place, Due::Superseded, applied, horizon);
            used += 1;
        }
        while used < budget
            && let Some((version, place)) = self.next_released(horizon)
        {
            self.settle(place, Due::Released(version), applied, horizon);
            used += 1;
        }
        while used < budget
            && let Some(tree) = self.shed.front()
        {
            if !tree.shed(Self::SHED) {
                self.shed.pop_front();
            }
            used += 1;
        }
        used
    }

    /// Takes a version that was filed under a snapshot that is gone.
    fn next_released(&mut self, horizon: &Horizon) -> Option<(Lsn, Place)> {
        let released = self.filed.keys().copied().find(|&lsn| !horizon.is_held(lsn))?;
        let versions = self.filed.get_mut(&released)?;
        let next = versions.pop();
        if versions.is_empty() {
            self.filed.remove(&released);
        }
        next
    }

    fn settle(&mut self, place: Place, due: Due, applied: Lsn, horizon: &Horizon) {
        let Some(tree) = place.tree.upgrade() else { return };
        let waits = tree.settle(&place.key, due, horizon, &mut self.filings);
        for Filing { version, held } in self.filings.drain(..) {
            self.filed.entry(held).or_default().push((version, place.clone()));
        }
        if waits {
            // Not the LSN that it waits for, which may be lower: the queue stays in order.
            self.waiting.push_back((applied, place));
        }
    }
}
