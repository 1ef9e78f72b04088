//! What a keyspace has in memory above the end of the layers, for a layer that is written from memory (`table/RULES.md`, 1).
//!
//! It is read piece by piece, each under the keyspace's lock, and nothing is locked between two of them. A piece says of its keys in
//! what the answers of some readers differ from those of the layers. That stays right while these readers are held, whatever memory
//! does in between: nothing above the layers is forgotten, and what is pruned meanwhile none of them reads.

use std::ops::Bound;

use super::key::Key;
use super::map::each;
use super::range_tombstones::Deleted;
use super::scan::{Piece, Sources};
use super::state::{MAX_PIECE, TreeState};
use super::tree::Tree;
use super::value::Value;
use super::version::{Content, Direction, Version};
use crate::base::types::Lsn;

/// The LSN of a version, and its value; `None` for a tombstone.
pub(crate) type Written = (Lsn, Option<Value>);

/// What memory has of some keys above an LSN.
#[derive(Debug, Default)]
pub(crate) struct Above {
    /// The keys in order, and of each the versions that readers find, the newest first.
    pub(crate) keys: Vec<(Key, Vec<Written>)>,
    /// Ranges all of which was deleted at an LSN. They may overlap.
    pub(crate) deleted: Vec<Deleted>,
    /// Where the next piece begins; `None` at the end of the keyspace.
    pub(crate) next: Option<Key>,
}

/// Whose answers are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readers<'a> {
    /// Up to here layers have all.
    pub(crate) from: Lsn,
    /// Their LSNs, all of them above that, ascending. Each is held.
    pub(crate) at: &'a [Lsn],
}

/// The gaps between the keys that have a value for one reader.
#[derive(Debug)]
struct Gaps {
    /// The reader's LSN.
    at: Lsn,
    /// Where the present one begins.
    from: Key,
}

impl Gaps {
    /// The present one ends in front of a key that has a value.
    fn end_at(&mut self, key: &[u8]) -> Option<Deleted> {
        let from = std::mem::replace(&mut self.from, behind(key));
        (*from < *key).then(|| (from, Some(Key::from(key)), self.at))
    }

    /// The last one ends with the piece.
    fn end(self, end: Option<&Key>) -> Option<Deleted> {
        end.is_none_or(|end| self.from < *end).then(|| (self.from, end.cloned(), self.at))
    }
}

/// The first key behind one.
fn behind(key: &[u8]) -> Key {
    Key::from(&*[key, &[0]].concat())
}

impl Tree {
    /// What memory has above the layers for `readers`, of the first keys from `low` on.
    pub(crate) fn above(&self, low: &[u8], readers: Readers<'_>) -> Above {
        self.look().above(low, readers)
    }
}

impl TreeState {
    fn above(&self, low: &[u8], readers: Readers<'_>) -> Above {
        let lowest = readers.at.first().copied().filter(|_| self.newest > readers.from);
        // Mostly nothing was written to a keyspace.
        let Some(lowest) = lowest else { return Above::default() };
        let (end, known) = self.map.range_of(low);
        let mut above = Above { next: end.cloned(), ..Above::default() };
        // Of what was buried there is no trace but the key that is not found. It hides what layers have, if there are any, and what
        // an older reader finds.
        let has_buried = known.buried > readers.from;
        let is_told = |at: &&Lsn| has_buried && known.complete_from <= **at;
        let mut gaps: Vec<_> =
            readers.at.iter().filter(is_told).map(|at| Gaps { at: *at, from: Key::from(low) }).collect();
        // These are the newest of the readers.
        let untold = readers.at.len() - gaps.len();
        let range = (Bound::Included(low), end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice())));
        let piece = Piece { range, at: lowest, direction: Direction::Forward, limit: MAX_PIECE };
        let retained = self.retained.ranges(range, lowest);
        each!(&self.map, map => {
            for (number, (key, newest, _)) in Sources::new(map.range(range), retained, &piece).enumerate() {
                // What held snapshots retain may be any number of keys.
                if number == piece.limit {
                    above.next = Some(Key::from(key));
                    break;
                }
                if gaps.is_empty() && newest.is_some_and(|newest| newest.lsn <= readers.from) {
                    continue;
                }
                let mut has_value = |reader: usize| {
                    let of_reader = reader.checked_sub(untold).and_then(|number| gaps.get_mut(number));
                    above.deleted.extend(of_reader.and_then(|gaps| gaps.end_at(key)));
                };
                let versions = self.versions_above(key, newest.as_ref(), readers, &mut has_value);
                if !versions.is_empty() {
                    above.keys.push((Key::from(key), versions));
                }
            }
        });
        let end = above.next.clone();
        above.deleted.extend(gaps.into_iter().filter_map(|gaps| gaps.end(end.as_ref())));
        self.add_listed((low, end.as_ref()), readers, &mut above.deleted);
        above
    }

    /// The versions of a key above the layers that readers find, the newest first. `has_value` is told each reader for whom the key
    /// has one, there or in layers.
    fn versions_above(
        &self,
        key: &[u8],
        newest: Option<&Version<'_>>,
        readers: Readers<'_>,
        has_value: &mut impl FnMut(usize),
    ) -> Vec<Written> {
        let mut versions: Vec<Written> = Vec::new();
        for (reader, at) in readers.at.iter().copied().enumerate().rev() {
            let deleted = self.deleted(key, at);
            let mut take = |found: Option<(Lsn, Content<'_>)>| {
                // Of what a range tombstone covers the list tells.
                let Some((lsn, content)) = found.filter(|(lsn, _)| deleted <= *lsn) else { return };
                if !content.is_deleted() {
                    has_value(reader);
                }
                if lsn > readers.from && versions.last().is_none_or(|(last, _)| lsn < *last) {
                    versions.push((lsn, content.value()));
                }
            };
            match newest {
                Some(newest) => self.read(key, newest, at, take),
                None => take(self.retained.get(key, at)),
            }
        }
        versions
    }

    /// Adds what the list has of the keys from `low` on, up to `end`.
    fn add_listed(&self, (low, end): (&[u8], Option<&Key>), readers: Readers<'_>, deleted: &mut Vec<Deleted>) {
        let range = (Bound::Included(low), end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice())));
        for at in readers.at {
            let listed = self.ranges.of_range(range, *at).into_iter().filter(|(.., lsn)| *lsn > readers.from);
            deleted.extend(listed.map(|(start, to, lsn)| {
                let to = to.into_iter().chain(end.cloned()).min();
                (start.max(Key::from(low)), to, lsn)
            }));
        }
    }
}
