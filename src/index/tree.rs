//! One keyspace: its name, its creation and drop, and its keys in order.

use std::fmt;
use std::ops::{Bound, Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

use crate::rt::sync::ShortRwLock as RwLock;

use crate::base::error::Result;
use crate::base::types::Lsn;

use super::beyond::{AwayKeyspace, Beyond, Layers};
use super::key::Key;
use super::map::{Built, KeyRange, Known, Map, SharedLeaf};
use super::meter::{Bytes, Changing, Measured, Meter};
use super::scan::{Piece, Scanned, Unknown};
use super::snapshot::{Holder, Horizon};
use super::state::{MAX_PIECE, TreeState};
use super::value::Value;
use super::version::{Content, Direction, Look};

/// A keyspace. A reader passes an LSN, which a held snapshot must keep readable meanwhile.
pub(crate) struct Tree {
    id: u32,
    name: Box<str>,
    created: Lsn,
    /// [`ALIVE`], or the LSN that dropped it.
    dropped: AtomicU64,
    /// Asked where memory does not know; `None` if there are no tables.
    beyond: Option<Arc<dyn Beyond>>,
    /// Held for one key, or for one bounded piece of a scan; never while a caller's code runs, and never during I/O.
    state: RwLock<TreeState>,
    meter: Arc<Meter>,
}

const ALIVE: u64 = u64::MAX;

/// The result of pruning one keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pruned {
    /// The number of versions looked at.
    pub(super) used: usize,
    /// The LSN that must settle before there is more to prune.
    pub(super) next: Option<Lsn>,
    /// There is more to prune once a checkpoint is installed.
    pub(super) is_stuck: bool,
    /// Whether most of the map's memory has become unused.
    pub(super) is_sparse: bool,
}

/// What a load has made of a keyspace, or of a part of it.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// All its leaves, in order.
    pub(super) built: Vec<Built>,
    /// Layers have keys that are not in them.
    pub(super) is_away: bool,
    pub(super) keys: usize,
    /// Keys with a value.
    pub(super) live: usize,
    /// The bytes of long keys and large values, which lie outside of the leaves.
    pub(super) large: usize,
    pub(super) newest: Lsn,
    /// Those that may leave once layers have them.
    pub(super) tombstones: Vec<(Lsn, Key)>,
    /// The newest deletion of which there is no record.
    pub(super) buried: Lsn,
}

impl Loaded {
    /// Adds the next part.
    pub(super) fn append(&mut self, next: Loaded) {
        self.built.extend(next.built);
        self.keys += next.keys;
        self.live += next.live;
        self.large += next.large;
        self.tombstones.extend(next.tombstones);
        self.newest = self.newest.max(next.newest);
        self.buried = self.buried.max(next.buried);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.meter.change(self.state.read().bytes(), Bytes::default());
    }
}

impl Tree {
    /// A keyspace all of which is in memory. What its records take is counted with `meter`.
    pub(super) fn new(id: u32, name: &str, created: Lsn, beyond: Option<Arc<dyn Beyond>>, meter: &Arc<Meter>) -> Self {
        let (dropped, state) = (AtomicU64::new(ALIVE), RwLock::default());
        Tree { id, name: name.into(), created, dropped, beyond, state, meter: Arc::clone(meter) }
    }

    /// A keyspace that layers know.
    pub(super) fn away(keyspace: &AwayKeyspace, beyond: Arc<dyn Beyond>, meter: &Arc<Meter>) -> Self {
        let tree = Tree::new(keyspace.id, &keyspace.name, keyspace.created, Some(beyond), meter);
        // Where they have nothing, what is deleted needs no tombstone.
        if let Some(keys) = keyspace.keys {
            let mut state = tree.change();
            state.map = Map::bare(Known::AWAY);
            state.away = usize::try_from(keys).unwrap_or(usize::MAX);
        }
        tree
    }

    /// What is in memory of it, to read.
    #[inline]
    pub(super) fn look(&self) -> impl Deref<Target = TreeState> + '_ {
        self.state.read()
    }

    /// What is in memory of it, to change.
    #[inline]
    pub(super) fn change(&self) -> Changing<'_, impl DerefMut<Target = TreeState> + '_> {
        Changing::new(self.state.write(), &self.meter)
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
    /// # Errors
    /// Those of a read of layers.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], at: Lsn) -> Result<Option<Value>> {
        #[cfg(test)]
        super::fault::strike()?;
        let look = self.look().look(key, at, |_, content| content.value());
        match look {
            Look::Found(value) => Ok(value),
            #[cfg(debug_assertions)]
            Look::Absent(buried) => {
                self.check_absent(key, at, buried);
                Ok(None)
            }
            #[cfg(not(debug_assertions))]
            Look::Absent(_) => Ok(None),
            Look::Unknown(deleted) => self.get_beyond(key, at, deleted),
        }
    }

    /// The LSN of the commit that wrote the value of `key` at `at`.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub(crate) fn written_at(&self, key: &[u8], at: Lsn) -> Result<Option<Lsn>> {
        let look = self.look().look(key, at, |lsn, content| (!content.is_deleted()).then_some(lsn));
        let deleted = match look {
            Look::Found(lsn) => return Ok(lsn),
            Look::Absent(_) => return Ok(None),
            Look::Unknown(deleted) => deleted,
        };
        let Some(layers) = self.layers_that_know(deleted) else { return Ok(None) };
        let only = (Bound::Included(Key::from(key)), Bound::Included(Key::from(key)));
        let mut scan = layers.scan(self.id, only, Direction::Forward, at);
        Ok(scan.advance()?.then(|| scan.lsn()))
    }

    /// The installed layers, unless they do not know yet that a key was `deleted` with a range: then it is not there.
    fn layers_that_know(&self, deleted: Lsn) -> Option<Arc<dyn Layers>> {
        // Taken after memory was looked at: what left it meanwhile is in them.
        let layers = self.beyond.as_ref()?.installed();
        (deleted <= layers.to()).then_some(layers)
    }

    /// What layers have of `key`, which was `deleted` with a range.
    fn get_beyond(&self, key: &[u8], at: Lsn, deleted: Lsn) -> Result<Option<Value>> {
        let Some(layers) = self.layers_that_know(deleted) else { return Ok(None) };
        let found = layers.get(self.id, key, at);
        if let Some(beyond) = &self.beyond {
            beyond.note_read(self.id, key);
        }
        found
    }

    /// Panics if layers have a key that memory calls absent.
    #[cfg(debug_assertions)]
    fn check_absent(&self, key: &[u8], at: Lsn, buried: Lsn) {
        // What cannot be read is not known. A keyspace that was dropped may be gone from layers, or half gone.
        if let Some(layers) = self.beyond.as_ref().map(|beyond| beyond.installed())
            && buried <= layers.to()
            && let Ok(found) = layers.get(self.id, key, at)
            && self.dropped().is_none()
        {
            assert!(found.is_none(), "layers have {:?} at {at}, which memory calls absent", Key::from(key));
        }
    }

    /// Whether a commit after `lsn` changed `key`. Deleting a key that was not there is no change, as far as memory knows.
    ///
    /// The answer is right as long as a snapshot at `lsn` is held for a transaction: see
    /// [`Index::hold_to_validate`](super::Index::hold_to_validate).
    pub(crate) fn changed_since(&self, key: &[u8], lsn: Lsn) -> Result<bool> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.look();
        let is_changed = || match state.map.get(key) {
            (Some(version), _) => version.lsn > lsn,
            (None, known) => known.forgot > lsn || state.retained.changed_since(key, lsn),
        };
        Ok(state.newest > lsn && (state.ranges.changed_since(key, lsn) || is_changed()))
    }

    /// Whether a commit after `lsn` changed, added or deleted a key of `range`; see [`Tree::changed_since`].
    pub(crate) fn range_changed_since(&self, range: KeyRange<'_>, lsn: Lsn) -> Result<bool> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.look();
        let is_changed = || {
            state.ranges.range_changed_since(range, lsn)
                || state.map.has_forgotten(range, lsn)
                || state.retained.range_changed_since(range, lsn)
                || state.map.any(range, |_, version| version.lsn > lsn)
        };
        Ok(state.newest > lsn && is_changed())
    }

    /// About how many keys there are at the newest LSN, visible or not.
    pub(crate) fn len_estimate(&self) -> usize {
        let state = self.look();
        if state.map.is_complete() { state.live } else { state.live.max(state.away) }
    }

    /// How many keys there are at `lsn`, if that is known without a look at them.
    pub(crate) fn len_at(&self, lsn: Lsn) -> Option<usize> {
        let state = self.look();
        // What a deleted range covers counts as live until it is swept.
        let is_known = state.map.is_complete() && state.newest <= lsn && state.ranges.is_empty();
        is_known.then_some(state.live)
    }

    /// How many versions are in memory, tombstones included.
    pub(crate) fn version_count(&self) -> usize {
        let state = self.look();
        state.keys + state.undo.versions() + state.retained.versions()
    }

    /// Prefetches the leaves and records that writes to `keys` will touch.
    pub(super) fn fetch(&self, keys: &[&[u8]]) {
        self.look().map.fetch(keys);
    }

    /// Takes all keys out, for a rebuild: there are no readers and no superseded versions. [`Tree::put_all`] follows.
    pub(super) fn take_all(&self) -> Vec<SharedLeaf> {
        let mut state = self.change();
        (state.keys, state.live, state.large) = (0, 0, 0);
        state.stuck.clear();
        std::mem::take(&mut state.map).into_shared_leaves()
    }

    /// Replaces the map by what was loaded.
    pub(super) fn put_all(&self, loaded: Loaded) {
        let Loaded { built, is_away, keys, live, large, newest, tombstones, buried } = loaded;
        let mut state = self.change();
        state.stuck = tombstones.into();
        (state.keys, state.live, state.large) = (keys, live, large);
        state.newest = newest.max(state.newest);
        state.buried = buried.max(state.buried);
        // What layers have was away before, and is now.
        let known = if is_away { Known::AWAY } else { Known { buried: state.buried, ..Known::COMPLETE } };
        state.map = Map::of(built, known);
    }

    /// Panics unless its keys are in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.look().map.check();
    }

    /// The bytes of its leaves, unused room included.
    pub(super) fn bytes(&self) -> usize {
        self.look().map.leaf_bytes()
    }

    /// Prunes up to `budget` superseded versions, or retains them for the holders that need them. A holder for which this
    /// keyspace retained nothing before is added to `newly_retaining`.
    pub(super) fn prune(&self, budget: usize, horizon: &Horizon, newly_retaining: &mut Vec<Holder>) -> Pruned {
        let mut state = self.change();
        let state = &mut *state;
        let mut used = state.prune_undo(budget, horizon, newly_retaining);
        used += state.release_stuck(budget - used, horizon, newly_retaining);
        let of_stuck = state.stuck.front().map(|(lsn, _)| *lsn).filter(|lsn| *lsn <= horizon.installed());
        let next = state.undo.front().map(|record| record.by).into_iter().chain(of_stuck).min();
        state.waits = next.is_some();
        let is_stuck = !state.stuck.is_empty() && !std::mem::replace(&mut state.is_stuck, true);
        let is_sparse = state.map.is_sparse() && !std::mem::replace(&mut state.is_sparse, true);
        Pruned { used, next, is_stuck, is_sparse }
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
        let mut state = self.change();
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
        let mut state = self.change();
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
        let mut state = self.change();
        (state.keys, state.live, state.large) = (0, 0, 0);
        let is_left = state.map.free_leaf();
        if !is_left {
            *state = TreeState::default();
        }
        is_left
    }

    /// Reads one piece of a scan. Where memory has the answer, `out` gets the entries of the piece, with
    /// [`Content::Deleted`] for a key that has no value at `piece.at`.
    pub(super) fn scan(&self, piece: &Piece<'_>, mut out: impl FnMut(&[u8], Content<'_>)) -> Result<Scanned> {
        #[cfg(test)]
        super::fault::strike()?;
        let state = self.look();
        let all = |key: &[u8], content: Option<Content<'_>>| out(key, content.unwrap_or(Content::Deleted));
        if state.map.is_complete_at(piece.at) {
            return Ok(Scanned::Known(state.scan(piece, all).map(Bound::Excluded)));
        }
        let stretch = state.map.stretch(piece.range, piece.direction, piece.at, MAX_PIECE);
        let end = stretch.end.as_deref();
        let (low, high) = piece.range;
        let range = match (end, piece.direction) {
            (None, _) => piece.range,
            (Some(end), Direction::Forward) => (low, Bound::Excluded(end)),
            (Some(end), Direction::Backward) => (Bound::Included(end), high),
        };
        let piece = Piece { range, ..*piece };
        let mut looks = Vec::new();
        let deleted = if stretch.is_complete { Vec::new() } else { state.ranges.of_range(range, piece.at) };
        let last = if stretch.is_complete {
            state.scan(&piece, all)
        } else {
            state.scan(&piece, |key, content| {
                let look = content.map_or(Look::Unknown(Lsn::ZERO), |content| Look::Found(content.value()));
                looks.push((Key::from(key), look));
            })
        };
        let direction = piece.direction;
        let next = match (last, stretch.end, direction) {
            (Some(last), ..) => Some(Bound::Excluded(last)),
            (None, Some(end), Direction::Forward) => Some(Bound::Included(end)),
            (None, Some(end), Direction::Backward) => Some(Bound::Excluded(end)),
            (None, None, _) => None,
        };
        Ok(match stretch.is_complete {
            true => Scanned::Known(next),
            false => Scanned::Unknown(Unknown { looks, next, forgot: stretch.forgot, deleted }),
        })
    }

    /// The layers that are installed now; `None` if there are no tables.
    pub(super) fn beyond(&self) -> Option<&Arc<dyn Beyond>> {
        self.beyond.as_ref()
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
