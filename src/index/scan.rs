//! Scans: the keys of a keyspace in order, merged from the map and from the entries that held snapshots retain.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::base::types::Lsn;

use super::key::Key;
use super::map::KeyRange;
use super::retained::Entry;
use super::value::Value;
use super::version::{Direction, Version};

pub(super) struct Piece<'a> {
    pub(super) range: KeyRange<'a>,
    pub(super) at: Lsn,
    pub(super) direction: Direction,
    /// The scan stops after this number of entries.
    pub(super) limit: usize,
}

/// The map, and the entries of each snapshot that the reader searches, all in the direction of the scan.
pub(super) struct Sources<M: Iterator, K: Iterator> {
    map: Peekable<M>,
    retained: Vec<Peekable<K>>,
    /// Whether the first key comes before the second in the direction of the scan, given how the two compare.
    comes_first: fn(Ordering) -> bool,
    /// The reader's LSN.
    at: Lsn,
}

/// A key, its newest version if the map has one, and the value retained for the reader, if any.
pub(super) type Found<'a> = (&'a [u8], Option<Version<'a>>, Option<&'a Value>);

impl<'a, M, K> Sources<M, K>
where
    M: Iterator<Item = (&'a [u8], Version<'a>)>,
    K: Iterator<Item = (&'a Key, &'a Entry)>,
{
    pub(super) fn new(map: M, retained: impl Iterator<Item = K>, comes_first: fn(Ordering) -> bool, at: Lsn) -> Self {
        Sources { map: map.peekable(), retained: retained.map(Iterator::peekable).collect(), comes_first, at }
    }
}

impl<'a, M, K> Iterator for Sources<M, K>
where
    M: Iterator<Item = (&'a [u8], Version<'a>)>,
    K: Iterator<Item = (&'a Key, &'a Entry)>,
{
    type Item = Found<'a>;

    /// The next key. The reader may find no value for it.
    fn next(&mut self) -> Option<Found<'a>> {
        let of_map = self.map.peek().map(|(key, _)| *key);
        let of_retained = self.retained.iter_mut().filter_map(|entries| entries.peek().map(|(key, _)| key.as_slice()));
        let first = |a: &'a [u8], b: &'a [u8]| if (self.comes_first)(b.cmp(a)) { b } else { a };
        let key = of_map.into_iter().chain(of_retained).reduce(first)?;
        let version = self.map.next_if(|(other, _)| *other == key).map(|(_, version)| version);
        let mut value = None;
        for entries in &mut self.retained {
            if let Some((_, entry)) = entries.next_if(|(other, _)| other.as_slice() == key) {
                value = value.or_else(|| entry.read(self.at));
            }
        }
        Some((key, version, value))
    }
}
