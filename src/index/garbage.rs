//! Versions that cannot be pruned yet, and what they wait for.
//!
//! A version is garbage once nobody can read it: the LSN that superseded it is settled (visible and durable), and no
//! snapshot below that LSN reads it. For the first each keyspace has a queue (`undo`), since LSNs settle in order, and
//! the keyspaces that have something in it stand in a queue here. What a held snapshot keeps is filed under that
//! snapshot, so that a long-held one costs nothing until it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::words::types::Lsn;

use super::key::Key;
use super::snapshot::Horizon;
use super::tree::{Filing, Tree};

/// What cannot be pruned yet.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Keyspaces with superseded versions, and the LSN that must be settled for the first of them to go. A keyspace that
    /// could go on waits for those before it; theirs settle in a moment, too.
    waiting: VecDeque<(Lsn, Weak<Tree>)>,
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
            let settled = tree.settle(budget - used, horizon, &mut self.filings);
            used += settled.used;
            self.file(&place);
            if let Some(next) = settled.next {
                self.waiting.push_back((next, place));
            }
        }
        while used < budget
            && let Some((place, released)) = self.next_released(horizon)
        {
            used += 1;
            let Some(tree) = place.upgrade() else { continue };
            tree.release(&released, horizon, &mut self.filings);
            self.file(&place);
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

    /// Files what held snapshots need of a keyspace.
    fn file(&mut self, tree: &Weak<Tree>) {
        for Filing { held, version, key } in self.filings.drain(..) {
            self.filed.entry(held).or_default().push((version, Place { tree: Weak::clone(tree), key }));
        }
    }

    /// Takes a version that was filed under a snapshot that is gone.
    fn next_released(&mut self, horizon: &Horizon) -> Option<(Weak<Tree>, Filing)> {
        let held = self.filed.keys().copied().find(|&lsn| !horizon.is_held(lsn))?;
        let versions = self.filed.get_mut(&held)?;
        let (version, Place { tree, key }) = versions.pop()?;
        if versions.is_empty() {
            self.filed.remove(&held);
        }
        Some((tree, Filing { held, version, key }))
    }
}
