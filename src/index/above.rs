//! What a keyspace has in memory above the end of the layers, for a layer that is written from memory (`table/RULES.md`, 1).
//!
//! It is read piece by piece, each under the keyspace's lock, and nothing is locked between two of them. A piece says of its keys in
//! what the answers of some readers differ from those of the layers. That stays right while these readers are held, whatever memory
//! does in between: nothing above the layers is forgotten, and what is pruned meanwhile none of them reads.

use std::ops::{Bound, Range};

use super::key::Key;
use super::map::each;
use super::range_tombstones::Deleted;
use super::retained::Entry;
use super::scan::{Piece, Sources};
use super::state::{MAX_PIECE, TreeState};
use super::tree::Tree;
use super::value::Value;
use super::version::{Content, Direction, MOST_IN_PLACE, Version};
use crate::base::types::Lsn;

/// A piece ends when it has copied so many bytes: a key may be long, and a gap names two.
pub(super) const MOST_BYTES: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// The LSN of a version, and its value; `None` for a tombstone.
pub(crate) type Written = (Lsn, Option<Value>);

/// What memory has of some keys above an LSN.
#[derive(Clone, Debug, Default)]
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

/// What the list has for a piece.
struct Listed {
    deleted: Vec<Deleted>,
    /// The most that it has of one key.
    of_one: usize,
    /// Where the piece ends.
    end: Option<Key>,
}

/// What is told of a piece.
struct Told {
    /// So many readers, the oldest ones, are told nothing of a key of which memory has no version.
    untold: usize,
    /// Something may lie below what the others find: what these find, or what layers have.
    has_older: bool,
}

/// The keys of a piece, and the gaps between those that have a value for somebody.
struct Keys {
    above: Above,
    /// The LSN of the oldest reader who is told of gaps, and where the present one begins.
    gap: Option<(Lsn, Key)>,
    /// What one more range tombstone becomes at most, when all are cut at each other's bounds.
    cut_into: usize,
    bytes: usize,
}

/// What a reader finds of a key, and the LSN that wrote it.
type Found<'a> = Option<(Lsn, Content<'a>)>;

impl Keys {
    fn add(&mut self, key: &[u8], versions: Vec<Written>) {
        if !versions.is_empty() {
            // What is larger is shared.
            let copied = |value: &Value| if value.len() > MOST_IN_PLACE { 0 } else { value.len() };
            let values: usize = versions.iter().filter_map(|(_, value)| value.as_ref()).map(copied).sum();
            self.bytes += key.len() + values + size_of_val(&*versions);
            self.above.keys.push((Key::from(key), versions));
        }
    }

    /// The present gap ends in front of a key that has a value.
    fn end_gap(&mut self, key: &[u8]) {
        let Some((at, from)) = &mut self.gap else { return };
        let from = std::mem::replace(from, Key::from(&*[key, &[0]].concat()));
        if *from < *key {
            self.bytes += self.cut_into * (from.len() + key.len() + size_of::<Deleted>());
            self.above.deleted.push((from, Some(Key::from(key)), *at));
        }
    }

    /// The piece ends.
    fn end(mut self, listed: Listed) -> Above {
        let end = self.above.next.clone();
        let is_in = |from: &Key| end.as_ref().is_none_or(|end| from < end);
        self.above.deleted.extend(self.gap.filter(|(_, from)| is_in(from)).map(|(at, from)| (from, end.clone(), at)));
        let listed = listed.deleted.into_iter().filter(|(from, ..)| is_in(from));
        self.above.deleted.extend(listed.map(|(from, to, lsn)| (from, earlier(to, end.as_ref()), lsn)));
        self.above
    }
}

/// The first of two ends.
fn earlier(end: Option<Key>, other: Option<&Key>) -> Option<Key> {
    end.into_iter().chain(other.cloned()).min()
}

/// What is retained for a reader, of entries in the order of their LSNs. Of readers down to the LSN beside it nobody finds another one.
fn retained<'a>(entries: &[&'a Entry], at: Lsn) -> (Found<'a>, Lsn) {
    match entries[..entries.partition_point(|entry| entry.from <= at)].last() {
        Some(entry) if at < entry.until => (entry.read(at), entry.from),
        Some(entry) => (None, entry.until),
        None => (None, Lsn::ZERO),
    }
}

impl Tree {
    /// What memory has above the layers for `readers`, of the first keys from `low` on.
    pub(crate) fn above(&self, low: &[u8], readers: Readers<'_>) -> Above {
        self.look().above(low, readers, self.created())
    }
}

impl TreeState {
    fn above(&self, low: &[u8], readers: Readers<'_>, created: Lsn) -> Above {
        let lowest = readers.at.first().copied().filter(|_| self.newest > readers.from);
        // Mostly nothing was written to a keyspace.
        let Some(lowest) = lowest else { return Above::default() };
        let (end, known) = self.map.range_of(low);
        let listed = self.listed((low, end), readers);
        // Of what was buried there is no trace but the key that is not found. It hides what layers have, if there are any, and what
        // an older reader finds.
        let has_buried = known.buried > readers.from;
        let is_untold = |at: &Lsn| !has_buried || *at < known.complete_from;
        let untold = readers.at.partition_point(is_untold);
        // Layers have nothing of a keyspace that came later.
        let told = Told { untold, has_older: untold > 0 || created <= readers.from };
        let is_told = untold < readers.at.len();
        // Where nobody finds anything, the oldest of them hides from all of them what is older.
        let gap = readers.at.get(untold).filter(|_| told.has_older).map(|at| (*at, Key::from(low)));
        let above = Above { next: listed.end.clone(), ..Above::default() };
        let mut keys = Keys { above, gap, cut_into: 1 + listed.of_one, bytes: 0 };
        let end = listed.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice()));
        let range = (Bound::Included(low), end);
        let piece = Piece { range, at: lowest, direction: Direction::Forward, limit: MAX_PIECE };
        let of_holders = self.retained.ranges(range, lowest);
        each!(&self.map, map => {
            let mut sources = Sources::new(map.range(range), of_holders, &piece);
            let mut entries = Vec::new();
            for number in 0.. {
                entries.clear();
                let Some((key, newest)) = sources.next_key(|entry| entries.push(entry)) else { break };
                // What held snapshots retain may be any number of keys.
                if number == piece.limit || (number > 0 && keys.bytes >= MOST_BYTES) {
                    keys.above.next = Some(Key::from(key));
                    break;
                }
                if !is_told && newest.is_some_and(|newest| newest.lsn <= readers.from) {
                    continue;
                }
                let (versions, has_value) = self.versions_above((key, newest.as_ref()), &mut entries, readers, &told);
                if has_value {
                    keys.end_gap(key);
                }
                keys.add(key, versions);
            }
        });
        keys.end(listed)
    }

    /// The versions of a key that a layer needs for its readers, the newest first, and whether the key has a value, there or in layers,
    /// for one of those who are told of gaps. Then those of them who find nothing get a tombstone.
    fn versions_above(
        &self,
        (key, newest): (&[u8], Option<&Version<'_>>),
        entries: &mut Vec<&Entry>,
        readers: Readers<'_>,
        told: &Told,
    ) -> (Vec<Written>, bool) {
        entries.retain(|entry| !entry.is_note());
        entries.sort_unstable_by_key(|entry| entry.from);
        let (mut versions, mut has_value) = (Vec::<Written>::new(), false);
        // The oldest of those who find nothing, in front of an older version.
        let mut absent = None;
        self.each_found(newest, entries, readers.at, |finders, found| {
            let Some((lsn, content)) = found else {
                if told.untold < finders.end {
                    absent = Some(readers.at[finders.start.max(told.untold)]);
                }
                return;
            };
            // Of what a range tombstone covers the list tells. The older a reader, the fewer of them it sees.
            let finds = |reader: usize| self.deleted(key, readers.at[reader]) <= lsn;
            let oldest_told = Some(finders.start.max(told.untold)).filter(|reader| *reader < finders.end);
            has_value |= !content.is_deleted() && oldest_told.is_some_and(finds);
            let absent = absent.take();
            if finds(finders.start) {
                if has_value && !content.is_deleted() {
                    versions.extend(absent.map(|at| (at, None)));
                }
                if lsn > readers.from {
                    versions.push((lsn, content.value()));
                }
            }
        });
        versions.extend(absent.filter(|_| has_value && told.has_older).map(|at| (at, None)));
        debug_assert!(versions.is_sorted_by(|newer, older| newer.0 > older.0));
        (versions, has_value)
    }

    /// Shows what readers find of a key, from the newest one on. Those who find the same follow one another, and are shown together.
    fn each_found(
        &self,
        newest: Option<&Version<'_>>,
        entries: &[&Entry],
        at: &[Lsn],
        mut show: impl FnMut(Range<usize>, Found<'_>),
    ) {
        let mut end = at.len();
        while let Some(reader) = at[..end].last().copied() {
            let (kept, begin) = retained(entries, reader);
            let mut take = |found: Found<'_>| {
                let begin = found.map_or(begin, |(lsn, _)| lsn);
                let begin = at[..end].partition_point(|at| *at < begin);
                show(begin..end, found);
                begin
            };
            end = match newest {
                Some(newest) => self.read_or(newest, reader, || kept, take),
                None => take(kept),
            };
        }
    }

    /// What the list has of the keys from `low` on, up to `end`, or of as many as a piece may have.
    fn listed(&self, (low, end): (&[u8], Option<&Key>), readers: Readers<'_>) -> Listed {
        let mut listed = Listed { deleted: Vec::new(), of_one: 0, end: end.cloned() };
        let mut bytes = 0;
        let fragments = self.ranges.for_readers(low, (readers.from, readers.at)).enumerate();
        for (number, (start, to, lsns)) in fragments {
            if end.is_some_and(|end| start >= end) {
                break;
            }
            if number == MAX_PIECE || (number > 0 && bytes >= MOST_BYTES) {
                listed.end = Some(start.clone());
                break;
            }
            let (start, to) = (start.clone().max(Key::from(low)), earlier(to.cloned(), end));
            let before = listed.deleted.len();
            listed.deleted.extend(lsns.map(|lsn| (start.clone(), to.clone(), lsn)));
            let of_it = listed.deleted.len() - before;
            listed.of_one = listed.of_one.max(of_it);
            bytes += of_it * (start.len() + to.map_or(0, |to| to.len()) + size_of::<Deleted>());
        }
        listed
    }
}
