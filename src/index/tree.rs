//! One keyspace: its name and life, and its keys in order.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::words::sync::ShortRwLock as RwLock;

use crate::words::types::Lsn;

use super::key::Key;
use super::map::{KeyRange, Map, Slot};
use super::snapshot::Horizon;
use super::value::Value;
use super::versions::{Chain, Due, Filing};

/// A keyspace. Reads ask for an LSN, which a held snapshot must keep readable meanwhile.
pub(crate) struct Tree {
    id: u32,
    name: Box<str>,
    created: Lsn,
    /// [`ALIVE`], or the LSN that dropped it.
    dropped: AtomicU64,
    /// Held for one key, or for one bounded piece of a scan; never while a caller's code runs.
    state: RwLock<State>,
}

const ALIVE: u64 = u64::MAX;

#[derive(Default)]
struct State {
    map: Map,
    /// The newest LSN that wrote here.
    newest: Lsn,
    /// Keys whose newest version is no tombstone.
    live: usize,
    versions: usize,
}

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// One piece of a scan.
pub(super) struct Piece<'a> {
    pub(super) range: KeyRange<'a>,
    pub(super) at: Lsn,
    pub(super) direction: Direction,
    /// The most entries to take.
    pub(super) limit: usize,
}

impl Tree {
    /// The most keys that a piece of a scan looks at, so that a range of tombstones does not keep writers out.
    const MAX_PIECE: usize = 1024;

    pub(super) fn new(id: u32, name: &str, created: Lsn) -> Self {
        Tree { id, name: name.into(), created, dropped: AtomicU64::new(ALIVE), state: RwLock::default() }
    }

    /// Its id, never used for another.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The LSN that created it.
    #[cfg(test)]
    pub(crate) fn created(&self) -> Lsn {
        self.created
    }

    /// The LSN that dropped it, if one did; visible or not yet.
    pub(crate) fn dropped(&self) -> Option<Lsn> {
        match self.dropped.load(Ordering::Acquire) {
            ALIVE => None,
            lsn => Some(Lsn::new(lsn)),
        }
    }

    /// Whether a snapshot at `at` sees it.
    pub(crate) fn is_visible(&self, at: Lsn) -> bool {
        self.created <= at && self.dropped().is_none_or(|dropped| at < dropped)
    }

    pub(super) fn drop_at(&self, lsn: Lsn) {
        self.dropped.store(lsn.get(), Ordering::Release);
    }

    /// The value of `key` at `at`.
    pub(crate) fn get(&self, key: &[u8], at: Lsn) -> Option<Value> {
        self.state.read().map.get(key)?.get(at).cloned()
    }

    /// Whether a commit after `lsn` changed `key`. Deleting what was not there is no change.
    ///
    /// The answer is right as long as a snapshot at or below `lsn` is held.
    pub(crate) fn changed_since(&self, key: &[u8], lsn: Lsn) -> bool {
        let state = self.state.read();
        state.newest > lsn && state.map.get(key).is_some_and(|chain| chain.newest() > lsn)
    }

    /// Whether a commit after `lsn` changed, added or deleted a key of `range`; see [`Tree::changed_since`].
    pub(crate) fn range_changed_since(&self, range: KeyRange<'_>, lsn: Lsn) -> bool {
        let state = self.state.read();
        state.newest > lsn && state.map.range(range).any(|(_, chain)| chain.newest() > lsn)
    }

    /// About how many keys there are: at the newest LSN, visible or not.
    pub(crate) fn len_estimate(&self) -> usize {
        self.state.read().live
    }

    /// How many versions are in memory, tombstones included.
    pub(crate) fn version_count(&self) -> usize {
        self.state.read().versions
    }

    /// Writes one version (`None`: a tombstone). Returns the key if it must be put into the garbage queue.
    pub(super) fn write(&self, key: &[u8], value: Option<&[u8]>, lsn: Lsn, horizon: &Horizon) -> Option<Key> {
        let key = Key::from(key);
        let value = value.map(Value::from);
        let mut state = self.state.write();
        let state = &mut *state;
        match state.map.slot(key) {
            Slot::Taken(key, chain) => {
                if value.is_none() && chain.is_deleted() {
                    return None;
                }
                state.live -= usize::from(!chain.is_deleted());
                state.live += usize::from(value.is_some());
                let written = chain.write(lsn, value, horizon);
                state.newest = lsn;
                state.versions += written.added;
                state.versions -= written.pruned;
                written.to_wait.then_some(key)
            }
            Slot::Free(slot) => {
                slot.fill(Chain::new(lsn, value?));
                state.newest = lsn;
                state.live += 1;
                state.versions += 1;
                None
            }
        }
    }

    /// Prunes the versions of `key`, and says where what is left must be looked for again: under which snapshots
    /// (in `filings`), and whether in the garbage queue.
    pub(super) fn settle(&self, key: &Key, due: Due, horizon: &Horizon, filings: &mut Vec<Filing>) -> bool {
        let mut state = self.state.write();
        let Some(chain) = state.map.get_mut(key) else { return false };
        let settled = chain.settle(due, horizon, filings);
        state.versions -= settled.pruned;
        if settled.is_gone {
            state.map.remove(key);
            state.versions -= 1;
        }
        settled.to_wait
    }

    /// Lets go of up to `limit` keys of a keyspace that nobody can see any more; returns whether some are left.
    pub(super) fn shed(&self, limit: usize) -> bool {
        let mut shed = Vec::with_capacity(limit);
        let mut state = self.state.write();
        while shed.len() < limit {
            let Some(chain) = state.map.remove_any() else { break };
            state.versions -= chain.len();
            state.live -= usize::from(!chain.is_deleted());
            shed.push(chain);
        }
        // The values are freed when the lock is not held any more.
        drop(state);
        shed.len() == limit
    }

    /// Takes the entries of one piece of a scan into `out`. Returns the key that the next piece begins behind, or
    /// `None` if there is nothing left.
    pub(super) fn scan(&self, piece: &Piece<'_>, mut out: impl FnMut(Key, Value)) -> Option<Key> {
        let state = self.state.read();
        let mut range = state.map.range(piece.range);
        let mut step = || match piece.direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        };
        let mut taken = 0;
        let mut last = None;
        for _ in 0..Self::MAX_PIECE {
            let (key, chain) = step()?;
            if let Some(value) = chain.get(piece.at) {
                out(key.clone(), value.clone());
                taken += 1;
            }
            if taken == piece.limit {
                return Some(key.clone());
            }
            last = Some(key);
        }
        last.cloned()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("created", &self.created)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
