//! Scans: the keys of a keyspace in order, merged from the map and from the entries that held snapshots retain.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::Peekable;
use std::ops::Bound;

use crate::base::types::Lsn;

use super::key::Key;
use super::map::KeyRange;
use super::range_tombstones::Deleted;
use super::retained::Entry;
use super::version::{Content, Direction, Look, Version};

pub(super) struct Piece<'a> {
    pub(super) range: KeyRange<'a>,
    pub(super) at: Lsn,
    pub(super) direction: Direction,
    /// The scan stops after this number of entries.
    pub(super) limit: usize,
}

/// How far a piece has come.
pub(super) enum Scanned {
    /// Memory has had the answer. Behind this bound the next piece begins; `None` if the range is used up.
    Known(Option<Bound<Key>>),
    /// Layers may have more.
    Unknown(Unknown),
}

/// A piece that memory does not know alone.
pub(super) struct Unknown {
    /// What it has, in the direction of the scan: all that there is in memory up to `next`.
    pub(super) looks: Vec<(Key, Look)>,
    /// Behind this bound the next piece begins; `None` if the range is used up.
    pub(super) next: Option<Bound<Key>>,
    /// Nothing above this has left memory there.
    pub(super) forgot: Lsn,
    /// What was deleted by range at the reader's LSN, newest commits only: layers that end below do not know it.
    pub(super) deleted: Vec<Deleted>,
}

/// The map, and the entries of each holder that the reader searches, all in the direction of the scan.
pub(super) struct Sources<'a, M: Iterator, K> {
    map: Peekable<M>,
    retained: BinaryHeap<Source<'a, K>>,
    direction: Direction,
    /// The reader's LSN.
    at: Lsn,
}

/// The entries of one holder: the first one, and those behind it. The greatest in the heap is the one whose key comes
/// first.
struct Source<'a, K> {
    key: &'a [u8],
    entry: &'a Entry,
    rest: K,
    direction: Direction,
}

/// A key, its newest version if the map has one, and what is retained for the reader, if anything.
pub(super) type Found<'a> = (&'a [u8], Option<Version<'a>>, Option<(Lsn, Content<'a>)>);

/// Compares two keys; the one that comes first in a scan is the greater.
fn earlier(a: &[u8], b: &[u8], direction: Direction) -> Ordering {
    match direction {
        Direction::Forward => b.cmp(a),
        Direction::Backward => a.cmp(b),
    }
}

impl<K> Ord for Source<'_, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        earlier(self.key, other.key, self.direction)
    }
}

impl<K> PartialOrd for Source<'_, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Source<'_, K> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<K> Eq for Source<'_, K> {}

impl<'a, K: Iterator<Item = (&'a Key, &'a Entry)>> Source<'a, K> {
    fn new(mut entries: K, direction: Direction) -> Option<Self> {
        let (key, entry) = entries.next()?;
        Some(Source { key, entry, rest: entries, direction })
    }
}

impl<'a, M, K> Sources<'a, M, K>
where
    M: Iterator<Item = (&'a [u8], Version<'a>)>,
    K: Iterator<Item = (&'a Key, &'a Entry)>,
{
    pub(super) fn new(map: M, retained: impl Iterator<Item = K>, piece: &Piece<'_>) -> Self {
        let Piece { direction, at, .. } = *piece;
        let retained = retained.filter_map(|entries| Source::new(entries, direction)).collect();
        Sources { map: map.peekable(), retained, direction, at }
    }

    /// The next key, and its newest version if the map has one. `see` is shown what is retained of it, by holder.
    #[inline]
    pub(super) fn next_key(&mut self, mut see: impl FnMut(&'a Entry)) -> Option<(&'a [u8], Option<Version<'a>>)> {
        let of_map = self.map.peek().map(|(key, _)| *key);
        let of_retained = self.retained.peek().map(|source| source.key);
        let direction = self.direction;
        let key = of_map.into_iter().chain(of_retained).max_by(|a, b| earlier(a, b, direction))?;
        let version = self.map.next_if(|(other, _)| *other == key).map(|(_, version)| version);
        while let Some(mut first) = self.retained.peek_mut().filter(|first| first.key == key) {
            see(first.entry);
            match first.rest.next() {
                Some((key, entry)) => (first.key, first.entry) = (key, entry),
                None => drop(PeekMut::pop(first)),
            }
        }
        Some((key, version))
    }
}

impl<'a, M, K> Iterator for Sources<'a, M, K>
where
    M: Iterator<Item = (&'a [u8], Version<'a>)>,
    K: Iterator<Item = (&'a Key, &'a Entry)>,
{
    type Item = Found<'a>;

    /// The next key. The reader may find nothing of it.
    #[inline]
    fn next(&mut self) -> Option<Found<'a>> {
        let (at, mut kept) = (self.at, None);
        let (key, version) = self.next_key(|entry| kept = kept.or_else(|| entry.read(at)))?;
        Some((key, version, kept))
    }
}
