//! Scans: the keys of a keyspace in order, from the map and from what held snapshots keep.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::base::types::Lsn;

use super::kept::Entry;
use super::key::Key;
use super::map::KeyRange;
use super::value::Value;
use super::version::{Direction, Version};

/// One piece of a scan.
pub(super) struct Piece<'a> {
    pub(super) range: KeyRange<'a>,
    pub(super) at: Lsn,
    pub(super) direction: Direction,
    /// The most entries to take.
    pub(super) limit: usize,
}

/// The map, and the entries of each snapshot that the reader looks at, all in the order of the scan.
pub(super) struct Sources<M: Iterator, K: Iterator> {
    map: Peekable<M>,
    kept: Vec<Peekable<K>>,
    /// Whether, by this comparison of one key with another, the one comes first.
    comes_first: fn(Ordering) -> bool,
}

/// A key, its newest version if the map has one, and what is kept of it for the reader.
type Found<'a> = (&'a [u8], Option<Version<'a>>, Option<&'a Value>);

impl<'a, M, K> Sources<M, K>
where
    M: Iterator<Item = (&'a [u8], Version<'a>)>,
    K: Iterator<Item = (&'a Key, &'a Entry)>,
{
    pub(super) fn new(map: M, kept: impl Iterator<Item = K>, comes_first: fn(Ordering) -> bool) -> Self {
        Sources { map: map.peekable(), kept: kept.map(Iterator::peekable).collect(), comes_first }
    }

    /// The next key, for a reader at `at`, who may find that nothing of it is to be read.
    #[inline]
    pub(super) fn next(&mut self, at: Lsn) -> Option<Found<'a>> {
        if self.kept.is_empty() {
            return self.map.next().map(|(key, version)| (key, Some(version), None));
        }
        let of_map = self.map.peek().map(|(key, _)| *key);
        let of_kept = self.kept.iter_mut().filter_map(|entries| entries.peek().map(|(key, _)| key.as_slice()));
        let first = |a: &'a [u8], b: &'a [u8]| if (self.comes_first)(b.cmp(a)) { b } else { a };
        let key = of_map.into_iter().chain(of_kept).reduce(first)?;
        let version = self.map.next_if(|(other, _)| *other == key).map(|(_, version)| version);
        let mut value = None;
        for entries in &mut self.kept {
            if let Some((_, entry)) = entries.next_if(|(other, _)| other.as_slice() == key) {
                value = value.or_else(|| entry.read(at));
            }
        }
        Some((key, version, value))
    }
}
