//! One keyspace: its name, its creation and drop, and its keys in order.

use std::fmt;
use std::sync::atomic::{self, AtomicU64};

use crate::rt::sync::ShortRwLock as RwLock;

use crate::base::error::Result;
use crate::base::types::Lsn;

use super::key::Key;
use super::map::{KeyRange, Map, SharedLeaf, Slot};
use super::retained::{Entry, Retained};
use super::scan::{Found, Piece, Sources};
use super::snapshot::{Holder, Horizon};
use super::undo::Undo;
use super::value::Value;
use super::version::{Content, Direction, MOST_IN_PLACE, Seq, Version};

/// A keyspace. A reader passes an LSN, which a held snapshot must keep readable meanwhile.
pub(crate) struct Tree {
    id: u32,
    name: Box<str>,
    created: Lsn,
    /// [`ALIVE`], or the LSN that dropped it.
    dropped: AtomicU64,
    /// Held for one key, or for one bounded piece of a scan; never while a caller's code runs.
    state: RwLock<TreeState>,
}

const ALIVE: u64 = u64::MAX;

/// The newest version of each key is in `map`. A superseded version is in `undo` while any LSN that reads it may still
/// be asked for, and then in `retained` while a held snapshot needs it.
#[derive(Default)]
struct TreeState {
    map: Map,
    undo: Undo,
    retained: Retained,
    /// The newest LSN that wrote to this keyspace.
    newest: Lsn,
    /// Keys in the map, those with a tombstone included.
    keys: usize,
    /// Keys whose newest version is not a tombstone.
    live: usize,
    /// Whether the keyspace stands in the garbage queue for the versions in `undo`.
    waits: bool,
    /// Whether it stands in the garbage queue because most of the map's memory is unused.
    is_sparse: bool,
}

impl TreeState {
    /// Passes to `with` what a reader at `at` finds for `key`, whose newest version is `version`.
    fn read<R>(&self, key: &[u8], version: &Version<'_>, at: Lsn, with: impl FnOnce(Content<'_>) -> R) -> R {
        if version.lsn <= at {
            return with(version.content);
        }
        let older = match self.undo.find(version.older, at) {
            Some(superseded) => self.undo.value(superseded),
            None => self.retained.get(key, at).cloned(),
        };
        with(older.as_ref().map_or(Content::Deleted, Content::Shared))
    }

    /// Takes the entries of one piece of a scan from `sources`: see [`Tree::scan`].
    #[inline]
    fn walk<'a>(
        &'a self,
        mut sources: impl Iterator<Item = Found<'a>>,
        piece: &Piece<'_>,
        mut out: impl FnMut(&[u8], Content<'_>),
    ) -> Option<Key> {
        let mut taken = 0;
        let mut last = None;
        for _ in 0..Tree::MAX_PIECE {
            let (key, version, retained) = sources.next()?;
            let mut take = |content: Content<'_>| {
                out(key, content);
                !content.is_deleted()
            };
            let is_there = match version {
                Some(version) => self.read(key, &version, piece.at, take),
                None => take(retained.map_or(Content::Deleted, Content::Shared)),
            };
            taken += usize::from(is_there);
            if taken == piece.limit {
                return Some(key.into());
            }
            last = Some(key);
        }
        last.map(Key::from)
    }

    /// Prunes the superseded version `entry` of `key`, which is settled, or retains it for the holder that needs it. If a
    /// tombstone superseded it and is still the newest version, the key leaves the map.
    fn prune_version(&mut self, key: Key, mut entry: Entry, horizon: &Horizon, newly_retaining: &mut Vec<Holder>) {
        if entry.by_tombstone
            && self.map.get(&key).is_some_and(|newest| newest.lsn == entry.until && newest.content.is_deleted())
        {
            let removed = usize::from(self.map.remove(&key));
            // A keyspace that is being freed counts its keys no more.
            self.keys = self.keys.saturating_sub(removed);
        }
        if let Some(holder) = entry.needed_by(horizon, || self.map.get(&key).is_some())
            && self.retained.add(holder, key, entry)
        {
            newly_retaining.push(holder);
        }
    }
}

/// The result of pruning one keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pruned {
    /// The number of versions looked at.
    pub(super) used: usize,
    /// The LSN that must settle before there is more to prune.
    pub(super) next: Option<Lsn>,
    /// Whether most of the map's memory has become unused.
    pub(super) is_sparse: bool,
}

impl Tree {
    /// A piece of a scan looks at no more keys than this, so that a range of tombstones does not block writers for
    /// long.
    const MAX_PIECE: usize = 1024;

    pub(super) fn new(id: u32, name: &str, created: Lsn) -> Self {
        Tree { id, name: name.into(), created, dropped: AtomicU64::new(ALIVE), state: RwLock::default() }
    }

    /// Its id. No other keyspace ever has it.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn created(&self) -> Lsn {
        self.created
    }

    /// The LSN that dropped it, visible or not.
    pub(crate) fn dropped(&self) -> Option<Lsn> {
        match self.dropped.load(atomic::Ordering::Acquire) {
            ALIVE => None,
            lsn => Some(Lsn::new(lsn)),
        }
    }

    /// Whether a snapshot at `at` sees it.
    pub(crate) fn is_visible(&self, at: Lsn) -> bool {
        self.created <= at && self.dropped().is_none_or(|dropped| at < dropped)
    }

    pub(super) fn drop_at(&self, lsn: Lsn) {
        self.dropped.store(lsn.get(), atomic::Ordering::Release);
    }

    /// The value of `key` at `at`.
    ///
    /// Reads return a `Result` although memory does not fail: later, tables hold the entries that are not in memory.
    pub(crate) fn get(&self, key: &[u8], at: Lsn) -> Result<Option<Value>> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.state.read();
        Ok(match state.map.get(key) {
            Some(version) => state.read(key, &version, at, |content| content.value()),
            None => state.retained.get(key, at).cloned(),
        })
    }

    /// Whether a commit after `lsn` changed `key`. Deleting a key that was not there is no change.
    ///
    /// The answer is right as long as a snapshot at `lsn` is held for a transaction: see
    /// [`Index::hold_to_validate`](super::Index::hold_to_validate).
    pub(crate) fn changed_since(&self, key: &[u8], lsn: Lsn) -> Result<bool> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.state.read();
        let is_changed = || match state.map.get(key) {
            Some(version) => version.lsn > lsn,
            None => state.retained.changed_since(key, lsn),
        };
        Ok(state.newest > lsn && is_changed())
    }

    /// Whether a commit after `lsn` changed, added or deleted a key of `range`; see [`Tree::changed_since`].
    pub(crate) fn range_changed_since(&self, range: KeyRange<'_>, lsn: Lsn) -> Result<bool> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.state.read();
        let is_changed = || {
            state.retained.range_changed_since(range, lsn)
                || state.map.range(range).any(|(_, version)| version.lsn > lsn)
        };
        Ok(state.newest > lsn && is_changed())
    }

    /// About how many keys there are at the newest LSN, visible or not.
    pub(crate) fn len_estimate(&self) -> usize {
        self.state.read().live
    }

    /// How many versions are in memory, tombstones included.
    pub(crate) fn version_count(&self) -> usize {
        let state = self.state.read();
        state.keys + state.undo.versions() + state.retained.versions()
    }

    /// Prefetches the leaves and records that writes to `keys` will touch.
    pub(super) fn fetch(&self, keys: &[&[u8]]) {
        self.state.read().map.fetch(keys);
    }

    /// Writes one version (`None`: a tombstone). Returns whether the caller must queue the keyspace as garbage.
    pub(super) fn write(&self, key: &[u8], value: Option<&[u8]>, lsn: Lsn) -> bool {
        let shared = share(value);
        let content = content(value, shared.as_ref());
        let mut state = self.state.write();
        let TreeState { map, undo, keys, live, newest, waits, .. } = &mut *state;
        match map.slot(key) {
            Slot::Taken(slot) => {
                let before = slot.version();
                let was_deleted = before.content.is_deleted();
                if content.is_deleted() && was_deleted {
                    return false;
                }
                *live -= usize::from(!was_deleted);
                // A second write by one transaction: no reader saw the first.
                let version = match before.lsn == lsn {
                    false => Some((lsn, undo.push(key, &before, lsn, content.is_deleted()))),
                    true if content.is_deleted() => undo.delete_again(before.older, lsn),
                    true => Some((lsn, before.older)),
                };
                match version {
                    Some((lsn, older)) => slot.set(Version { lsn, older, content }),
                    None => *keys -= usize::from(map.remove(key)),
                }
            }
            Slot::Free(slot) => {
                if content.is_deleted() {
                    return false;
                }
                slot.fill(Version { lsn, older: Seq::NONE, content });
                *keys += 1;
            }
        }
        *newest = lsn;
        *live += usize::from(!content.is_deleted());
        undo.front().is_some() && !std::mem::replace(waits, true)
    }

    /// Applies the last write to each of some keys, while there are no readers: no other version is needed.
    pub(super) fn load<'a>(&self, writes: impl Iterator<Item = (&'a [u8], Lsn, Option<&'a [u8]>)>) {
        let mut state = self.state.write();
        let TreeState { map, newest, keys, live, .. } = &mut *state;
        for (key, lsn, value) in writes {
            *newest = lsn.max(*newest);
            let shared = share(value);
            let version = Version { lsn, older: Seq::NONE, content: content(value, shared.as_ref()) };
            match map.slot(key) {
                Slot::Taken(slot) => {
                    *live -= usize::from(!slot.version().content.is_deleted());
                    if value.is_some() {
                        *live += 1;
                        slot.set(version);
                    } else {
                        *keys -= usize::from(map.remove(key));
                    }
                }
                Slot::Free(slot) if value.is_some() => {
                    slot.fill(version);
                    *live += 1;
                    *keys += 1;
                }
                Slot::Free(_) => {}
            }
        }
    }

    /// Takes all keys out, for a rebuild: there are no readers and no superseded versions. [`Tree::put_all`] follows.
    pub(super) fn take_all(&self) -> Vec<SharedLeaf> {
        let mut state = self.state.write();
        (state.keys, state.live) = (0, 0);
        std::mem::replace(&mut state.map, Map::taken()).into_shared_leaves()
    }

    /// Replaces the map by `map`, which has `keys` keys.
    pub(super) fn put_all(&self, map: Map, keys: usize, newest: Lsn) {
        let mut state = self.state.write();
        (state.keys, state.live) = (keys, keys);
        state.newest = newest.max(state.newest);
        state.map = map;
    }

    /// Panics unless its keys are in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.state.read().map.check();
    }

    /// The bytes of its leaves, unused room included.
    pub(super) fn bytes(&self) -> usize {
        self.state.read().map.leaf_bytes()
    }

    /// Prunes up to `budget` superseded versions, or retains them for the holders that need them. A holder for which this
    /// keyspace retained nothing before is added to `newly_retaining`.
    pub(super) fn prune(&self, budget: usize, horizon: &Horizon, newly_retaining: &mut Vec<Holder>) -> Pruned {
        let mut state = self.state.write();
        let state = &mut *state;
        let mut used = 0;
        while used < budget
            && let Some(record) = state.undo.front().filter(|record| horizon.is_settled(record.by))
        {
            let (from, until, by_tombstone) = (record.lsn, record.by, record.by_tombstone);
            let is_read = horizon.newest_held(from, until).is_some();
            if is_read || by_tombstone {
                let value = if is_read { state.undo.value(record) } else { None };
                let key = Key::from(&*state.undo.key(record));
                state.prune_version(key, Entry { from, until, by_tombstone, value }, horizon, newly_retaining);
            }
            state.undo.pop_front();
            used += 1;
        }
        let next = state.undo.front().map(|record| record.by);
        state.waits = next.is_some();
        let is_sparse = state.map.is_sparse() && !std::mem::replace(&mut state.is_sparse, true);
        Pruned { used, next, is_sparse }
    }

    /// Looks at up to `budget` entries of `holder`, which is not held, and prunes each unless another one needs it. Returns
    /// how many it looked at, and whether more are left.
    pub(super) fn release(
        &self,
        holder: Holder,
        budget: usize,
        horizon: &Horizon,
        newly_retaining: &mut Vec<Holder>,
    ) -> (usize, bool) {
        let mut state = self.state.write();
        let mut used = 0;
        while used < budget
            && let Some((key, entry)) = state.retained.pop(holder)
        {
            state.prune_version(key, entry, horizon, newly_retaining);
            used += 1;
        }
        (used, state.retained.has(holder))
    }

    /// If most of the map's memory is unused, moves up to `budget` leaves, which frees memory. Returns how many it
    /// moved; fewer than `budget` means that there is no more to do.
    pub(super) fn tidy(&self, budget: usize) -> usize {
        let mut state = self.state.write();
        if self.dropped().is_some() {
            // The whole keyspace is being freed.
            return 0;
        }
        let moved = state.map.tidy(budget);
        state.is_sparse = moved == budget;
        moved
    }

    /// Frees one leaf of a keyspace that no reader can see. Returns whether more are left.
    pub(super) fn free_leaf(&self) -> bool {
        let mut state = self.state.write();
        (state.keys, state.live) = (0, 0);
        let is_left = state.map.free_leaf();
        if !is_left {
            *state = TreeState::default();
        }
        is_left
    }

    /// Passes the entries of one piece of a scan to `out`, with [`Content::Deleted`] for a key that has no value at
    /// `piece.at`. Returns the last key looked at, behind which the next piece begins, or `None` if the range is used
    /// up.
    pub(super) fn scan(&self, piece: &Piece<'_>, out: impl FnMut(&[u8], Content<'_>)) -> Result<Option<Key>> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.state.read();
        let map = state.map.range(piece.range);
        let mut retained = state.retained.ranges(piece.range, piece.at).peekable();
        // Mostly nothing is retained: then each entry of the map costs no more than the step to it.
        let of_map = |(key, version)| (key, Some(version), None);
        Ok(match (piece.direction, retained.peek()) {
            (Direction::Forward, None) => state.walk(map.map(of_map), piece, out),
            (Direction::Backward, None) => state.walk(map.rev().map(of_map), piece, out),
            (Direction::Forward, Some(_)) => state.walk(Sources::new(map, retained, piece), piece, out),
            (Direction::Backward, Some(_)) => {
                let retained = retained.map(Iterator::rev);
                state.walk(Sources::new(map.rev(), retained, piece), piece, out)
            }
        })
    }
}

/// A copy of a value that is too large to lie in a leaf. `None` for smaller ones.
pub(super) fn share(value: Option<&[u8]>) -> Option<Value> {
    value.filter(|value| value.len() > MOST_IN_PLACE).map(Value::from)
}

pub(super) fn content<'a>(value: Option<&'a [u8]>, shared: Option<&'a Value>) -> Content<'a> {
    match (shared, value) {
        (Some(value), _) => Content::Shared(value),
        (None, Some(value)) => Content::InPlace(value),
        (None, None) => Content::Deleted,
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
