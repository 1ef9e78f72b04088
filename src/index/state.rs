//! The versions of one keyspace that are in memory, and what they say of a key.

use std::collections::VecDeque;

use super::key::Key;
use super::map::{Map, each};
use super::meter::{Bytes, Measured};
use super::range_tombstones::{RangeTombstones, Sweep};
use super::retained::{Entry, Kept, Retained};
use super::scan::{Found, Piece, Sources};
use super::snapshot::{Holder, Horizon};
use super::undo::Undo;
use super::version::{Content, Direction, Look, Version, long_key_len};
use crate::base::types::Lsn;

/// A piece of a scan looks at no more keys than this, so that a range of tombstones does not block writers for long.
pub(super) const MAX_PIECE: usize = 1024;

/// The newest version of each key is in `map`. A superseded version is in `undo` while any LSN that reads it may still
/// be asked for, and then in `retained` while a held snapshot needs it.
#[derive(Default)]
pub(super) struct TreeState {
    pub(super) map: Map,
    pub(super) undo: Undo,
    pub(super) retained: Retained,
    pub(super) ranges: RangeTombstones,
    /// Where the sweep of `ranges` goes on.
    pub(super) sweep: Sweep,
    /// The newest LSN that wrote to this keyspace.
    pub(super) newest: Lsn,
    /// The newest deletion that a load has left no record of. A map that is built anew has to know.
    pub(super) buried: Lsn,
    /// Keys in the map, those with a tombstone included.
    pub(super) keys: usize,
    /// Keys whose newest version is not a tombstone.
    pub(super) live: usize,
    /// The bytes of their long keys and large values, which do not lie in leaves.
    pub(super) large: usize,
    /// Tombstones of which pruning would not come to know: they had no predecessor in memory, or pruning came to them before a
    /// checkpoint did. Oldest first, mostly.
    pub(super) stuck: VecDeque<(Lsn, Key)>,
    /// Whether the keyspace stands in the garbage queue for these, until a checkpoint is installed.
    pub(super) is_stuck: bool,
    /// About how many keys layers had when all of them were away.
    pub(super) away: usize,
    /// Whether the keyspace stands in the garbage queue for the versions in `undo`.
    pub(super) waits: bool,
    /// Whether it stands in the garbage queue because most of the map's memory is unused.
    pub(super) is_sparse: bool,
}

impl Measured for TreeState {
    #[inline]
    fn bytes(&self) -> Bytes {
        let outside = self.large + self.ranges.bytes();
        Bytes {
            all: self.map.leaf_bytes() + outside,
            in_use: self.map.used_leaf_bytes() + outside,
            superseded: self.undo.memory() + self.retained.memory(),
        }
    }
}

impl TreeState {
    /// Passes to `with` what a reader at `at` finds for `key`, whose newest version is `version`, and the LSN that wrote it: nothing,
    /// if no version at or below `at` is in memory.
    #[inline]
    pub(super) fn read<R>(
        &self,
        key: &[u8],
        version: &Version<'_>,
        at: Lsn,
        with: impl FnOnce(Option<(Lsn, Content<'_>)>) -> R,
    ) -> R {
        self.read_or(version, at, || self.retained.get(key, at), with)
    }

    /// [`TreeState::read`], given what is retained for the reader.
    #[inline]
    pub(super) fn read_or<'a, R>(
        &'a self,
        version: &Version<'_>,
        at: Lsn,
        retained: impl FnOnce() -> Option<(Lsn, Content<'a>)>,
        with: impl FnOnce(Option<(Lsn, Content<'_>)>) -> R,
    ) -> R {
        if version.lsn <= at {
            return with(Some((version.lsn, version.content)));
        }
        match self.undo.find(version.older, at) {
            Some(superseded) => {
                let value = self.undo.value(superseded);
                with(Some((superseded.lsn, value.as_ref().map_or(Content::Deleted, Content::Shared))))
            }
            None => with(retained()),
        }
    }

    /// The newest deletion of a range that has `key`, for a reader at `at`; zero if there is none.
    #[inline]
    pub(super) fn deleted(&self, key: &[u8], at: Lsn) -> Lsn {
        if self.ranges.is_empty() { Lsn::ZERO } else { self.ranges.newest(key, at).unwrap_or(Lsn::ZERO) }
    }

    /// What memory says of `key` at `at`. `take` makes of a version and its LSN what is asked for.
    #[inline]
    pub(super) fn look<T>(&self, key: &[u8], at: Lsn, take: impl FnOnce(Lsn, Content<'_>) -> Option<T>) -> Look<T> {
        let (version, known) = self.map.get(key);
        let look = |found: Option<(Lsn, Content<'_>)>| {
            let deleted = self.deleted(key, at);
            match found {
                // With equal LSNs the version is newer: its commit has deleted the range before.
                Some((lsn, content)) if deleted <= lsn => Look::Found(take(lsn, content)),
                Some(_) => Look::Found(None),
                None if known.complete_from <= at => Look::Absent(known.buried.max(deleted)),
                None => Look::Unknown(deleted),
            }
        };
        match version {
            Some(version) => self.read(key, &version, at, look),
            None => look(self.retained.get(key, at)),
        }
    }

    /// Shows the keys of one piece of a scan to `out`, each with what memory has of it at `piece.at`. Returns the last key, if
    /// the piece ends before its range does.
    pub(super) fn scan(&self, piece: &Piece<'_>, out: impl FnMut(&[u8], Option<Content<'_>>)) -> Option<Key> {
        // Mostly no range was deleted: then no entry is asked for.
        if self.ranges.is_empty() { self.scan_with::<false>(piece, out) } else { self.scan_with::<true>(piece, out) }
    }

    #[inline]
    fn scan_with<const HAS_RANGES: bool>(
        &self,
        piece: &Piece<'_>,
        out: impl FnMut(&[u8], Option<Content<'_>>),
    ) -> Option<Key> {
        each!(&self.map, map => self.scan_in::<HAS_RANGES>(map.range(piece.range), piece, out))
    }

    #[inline]
    fn scan_in<'a, const HAS_RANGES: bool>(
        &'a self,
        map: impl DoubleEndedIterator<Item = (&'a [u8], Version<'a>)>,
        piece: &Piece<'_>,
        out: impl FnMut(&[u8], Option<Content<'_>>),
    ) -> Option<Key> {
        let mut retained = self.retained.ranges(piece.range, piece.at).peekable();
        // Mostly nothing is retained: then each entry of the map costs no more than the step to it.
        let of_map = |(key, version)| (key, Some(version), None);
        match (piece.direction, retained.peek()) {
            (Direction::Forward, None) => self.walk::<HAS_RANGES>(map.map(of_map), piece, out),
            (Direction::Backward, None) => self.walk::<HAS_RANGES>(map.rev().map(of_map), piece, out),
            (Direction::Forward, Some(_)) => self.walk::<HAS_RANGES>(Sources::new(map, retained, piece), piece, out),
            (Direction::Backward, Some(_)) => {
                let retained = retained.map(Iterator::rev);
                self.walk::<HAS_RANGES>(Sources::new(map.rev(), retained, piece), piece, out)
            }
        }
    }

    /// Takes the keys of one piece of a scan from `sources`.
    #[inline]
    fn walk<'a, const HAS_RANGES: bool>(
        &'a self,
        mut sources: impl Iterator<Item = Found<'a>>,
        piece: &Piece<'_>,
        mut out: impl FnMut(&[u8], Option<Content<'_>>),
    ) -> Option<Key> {
        let mut taken = 0;
        let mut last = None;
        for _ in 0..MAX_PIECE {
            let (key, version, retained) = sources.next()?;
            let mut take = |found: Option<(Lsn, Content<'_>)>| {
                let content = match found {
                    Some((lsn, _)) if HAS_RANGES && self.deleted(key, piece.at) > lsn => Some(Content::Deleted),
                    found => found.map(|(_, content)| content),
                };
                out(key, content);
                content.is_some_and(|content| !content.is_deleted())
            };
            let is_there = match version {
                Some(version) => self.read(key, &version, piece.at, take),
                None => take(retained),
            };
            taken += usize::from(is_there);
            if taken == piece.limit {
                return Some(key.into());
            }
            last = Some(key);
        }
        last.map(Key::from)
    }

    /// Prunes up to `budget` superseded versions that are settled, or retains them. Returns how many it looked at.
    pub(super) fn prune_undo(&mut self, budget: usize, horizon: &Horizon, newly_retaining: &mut Vec<Holder>) -> usize {
        let mut used = 0;
        while used < budget
            && let Some(record) = self.undo.front().filter(|record| horizon.is_settled(record.by))
        {
            let (from, until, by_tombstone) = (record.lsn, record.by, record.by_tombstone);
            let is_read = !record.is_void() && horizon.newest_held(from, until).is_some();
            if is_read || by_tombstone {
                let kept = match self.undo.value(record) {
                    _ if !is_read => Kept::Note,
                    Some(value) => Kept::Value(value),
                    None => Kept::Tombstone,
                };
                let key = Key::from(&*self.undo.key(record));
                self.prune_version(key, Entry { from, until, by_tombstone, kept }, horizon, newly_retaining);
            }
            self.undo.pop_front();
            used += 1;
        }
        used
    }

    /// Prunes the superseded version `entry` of `key`, which is settled, or retains it for the holder that needs it. If a
    /// tombstone superseded it and is still the newest version, the key leaves the map, unless layers have an older one.
    pub(super) fn prune_version(
        &mut self,
        key: Key,
        mut entry: Entry,
        horizon: &Horizon,
        newly_retaining: &mut Vec<Holder>,
    ) {
        let is_newest = |newest: Version<'_>| newest.lsn == entry.until && newest.content.is_deleted();
        if entry.by_tombstone && self.map.get(&key).0.is_some_and(is_newest) {
            match self.map.bury(&key, entry.until, horizon.installed()) {
                // A keyspace that is being freed counts its keys no more.
                true => {
                    self.keys = self.keys.saturating_sub(1);
                    self.large = self.large.saturating_sub(long_key_len(&key));
                }
                false => self.stuck.push_back((entry.until, key.clone())),
            }
        }
        if let Some(holder) = entry.needed_by(horizon, || self.map.get(&key).0.is_some())
            && self.retained.add(holder, key, entry)
        {
            newly_retaining.push(holder);
        }
    }

    /// Looks at up to `budget` stuck tombstones, and lets those leave that may. Returns how many it looked at.
    pub(super) fn release_stuck(
        &mut self,
        budget: usize,
        horizon: &Horizon,
        newly_retaining: &mut Vec<Holder>,
    ) -> usize {
        let mut used = 0;
        // What is not in layers yet may leave a complete leaf. It is not looked for: it waits with the others.
        while used < budget
            && self.stuck.front().is_some_and(|(lsn, _)| *lsn <= horizon.installed() && horizon.is_settled(*lsn))
            && let Some((lsn, key)) = self.stuck.pop_front()
        {
            let entry = Entry { from: lsn, until: lsn, by_tombstone: true, kept: Kept::Note };
            self.prune_version(key, entry, horizon, newly_retaining);
            used += 1;
        }
        used
    }
}
