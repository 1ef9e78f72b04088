//! The list: the range tombstones of a keyspace that are in memory, beside the map (`table/RULES.md`, 11).

use std::collections::BTreeMap;
use std::ops::Bound;

use super::key::Key;
use super::map::{KeyRange, is_empty};
use crate::base::types::Lsn;

#[cfg(test)]
mod tests;

/// Range tombstones, cut at each other's bounds: so two ranges are equal or disjoint, and what is said of a range of keys is
/// found at one place. What is in a part of a range may leave without the rest.
#[derive(Debug, Default)]
pub(super) struct RangeTombstones {
    /// By their first keys.
    fragments: BTreeMap<Key, Fragment>,
    /// In all fragments.
    lsns: usize,
}

/// The deletions of one range of keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fragment {
    /// The first key behind; `None` at the end of the keyspace.
    pub(super) end: Option<Key>,
    /// The LSNs of the commits that deleted all of it, oldest first: at least one.
    pub(super) lsns: Vec<Lsn>,
}

/// Where the sweep of a keyspace is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The keyspace stands in a queue of the garbage for it.
    pub(super) is_queued: bool,
    /// It stands in the list of those that wait for a checkpoint, or for a snapshot to end.
    pub(super) is_resting: bool,
    /// The key at which it goes on; `None` at the first one.
    pub(super) at: Option<Key>,
    /// Something has left the list since it was at the first key.
    pub(super) has_moved: bool,
    /// How often something had come by then for which it may wait.
    pub(super) changes: u64,
    /// The oldest deletion that was not settled, of those that it came to since.
    pub(super) unsettled: Option<Lsn>,
}

/// A range of keys that was deleted at an LSN.
pub(super) type Deleted = (Key, Option<Key>, Lsn);

impl Fragment {
    fn newest(&self) -> Lsn {
        self.lsns.last().copied().unwrap_or(Lsn::ZERO)
    }

    fn has(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| *key < **end)
    }
}

impl RangeTombstones {
    pub(super) fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// How many there are, as they are cut.
    pub(super) fn len(&self) -> usize {
        self.lsns
    }

    /// About the bytes that it takes, long keys aside.
    pub(super) fn bytes(&self) -> usize {
        // An entry of the map with the room that its nodes leave, and what each list has allocated.
        self.fragments.len() * 2 * (size_of::<(Key, Fragment)>() + 4 * size_of::<Lsn>()) + self.lsns * size_of::<Lsn>()
    }

    /// The fragment that has `key`.
    fn over(&self, key: &[u8]) -> Option<&Fragment> {
        let (_, fragment) = self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        fragment.has(key).then_some(fragment)
    }

    /// The newest one over `key` at or below `at`.
    pub(super) fn newest(&self, key: &[u8], at: Lsn) -> Option<Lsn> {
        let lsns = &self.over(key)?.lsns;
        lsns[..lsns.partition_point(|lsn| *lsn <= at)].last().copied()
    }

    /// The oldest one over `key` above `lsn`: it deleted a version of that LSN.
    pub(super) fn oldest_above(&self, key: &[u8], lsn: Lsn) -> Option<Lsn> {
        let lsns = &self.over(key)?.lsns;
        lsns.get(lsns.partition_point(|other| *other <= lsn)).copied()
    }

    /// The fragments that have keys of a range, in order.
    fn within<'a>(&'a self, (low, high): KeyRange<'a>) -> impl Iterator<Item = (&'a Key, &'a Fragment)> {
        let (Bound::Included(first) | Bound::Excluded(first)) = low else {
            return self.from(None, high);
        };
        let before = self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(first))).next_back();
        let begin = before.filter(|(_, fragment)| fragment.has(first)).map_or(first, |(from, _)| from.as_slice());
        self.from(Some(begin), high)
    }

    fn from<'a>(
        &'a self,
        begin: Option<&[u8]>,
        high: Bound<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Fragment)> {
        let begin = begin.map_or(Bound::Unbounded, Bound::Included);
        self.fragments.range::<[u8], _>((begin, Bound::Unbounded)).take_while(move |(from, _)| match high {
            Bound::Unbounded => true,
            Bound::Included(high) => from.as_slice() <= high,
            Bound::Excluded(high) => from.as_slice() < high,
        })
    }

    /// Whether one over `key` is above `lsn`.
    pub(super) fn changed_since(&self, key: &[u8], lsn: Lsn) -> bool {
        self.over(key).is_some_and(|fragment| fragment.newest() > lsn)
    }

    /// Whether one over a part of `range` is above `lsn`.
    pub(super) fn range_changed_since(&self, range: KeyRange<'_>, lsn: Lsn) -> bool {
        self.newest_within(range) > lsn
    }

    /// The newest one over a part of `range`; zero if there is none.
    pub(super) fn newest_within(&self, range: KeyRange<'_>) -> Lsn {
        if is_empty(range) {
            return Lsn::ZERO;
        }
        self.within(range).map(|(_, fragment)| fragment.newest()).max().unwrap_or(Lsn::ZERO)
    }

    /// For each part of `range` the newest one at or below `at`, in order.
    pub(super) fn of_range(&self, range: KeyRange<'_>, at: Lsn) -> Vec<Deleted> {
        if self.is_empty() || is_empty(range) {
            return Vec::new();
        }
        let newest = |(from, fragment): (&Key, &Fragment)| {
            let lsns = &fragment.lsns[..fragment.lsns.partition_point(|lsn| *lsn <= at)];
            Some((from.clone(), fragment.end.clone(), *lsns.last()?))
        };
        self.within(range).filter_map(newest).collect()
    }

    /// The fragments that have keys from `low` on, in order: each with the LSNs above `from` that are the newest for one of the readers
    /// `at`, which ascend.
    pub(super) fn for_readers<'a>(
        &'a self,
        low: &'a [u8],
        (from, at): (Lsn, &'a [Lsn]),
    ) -> impl Iterator<Item = (&'a Key, Option<&'a Key>, impl Iterator<Item = Lsn> + 'a)> {
        self.within((Bound::Included(low), Bound::Unbounded)).map(move |(start, fragment)| {
            let lsns = &fragment.lsns[fragment.lsns.partition_point(|lsn| *lsn <= from)..];
            let newer = lsns.iter().skip(1).map(Some).chain([None]);
            let found = lsns.iter().zip(newer).filter(move |(lsn, newer)| {
                let reader = at.get(at.partition_point(|at| at < *lsn));
                reader.is_some_and(|reader| newer.is_none_or(|newer| reader < newer))
            });
            (start, fragment.end.as_ref(), found.map(|(lsn, _)| *lsn))
        })
    }

    /// The first fragment at or behind `key`, from there on.
    pub(super) fn next_from(&self, key: &[u8]) -> Option<(Key, Fragment)> {
        let (from, fragment) = self.within((Bound::Included(key), Bound::Unbounded)).next()?;
        let from = if from.as_slice() < key { Key::from(key) } else { from.clone() };
        Some((from, fragment.clone()))
    }

    /// Adds one, above all that are there. In each part of its range, of two others that follow one another the older one goes
    /// if `gives_way` says so.
    pub(super) fn insert(&mut self, from: &[u8], to: Option<&[u8]>, lsn: Lsn, gives_way: impl Fn(Lsn, Lsn) -> bool) {
        self.cut(from);
        to.into_iter().for_each(|to| self.cut(to));
        let mut from = Key::from(from);
        let is_over = |from: &Key| to.is_some_and(|to| from.as_slice() >= to);
        while !is_over(&from) {
            let next = self.fragments.range::<Key, _>(&from..).next().map(|(next, _)| next.clone());
            let next = next.filter(|next| !is_over(next));
            if next.as_ref() == Some(&from)
                && let Some(fragment) = self.fragments.get_mut(&from)
            {
                let before = fragment.lsns.len();
                give_way(&mut fragment.lsns, &gives_way);
                fragment.lsns.push(lsn);
                self.lsns = self.lsns + fragment.lsns.len() - before;
                let end = fragment.end.clone();
                // What has given way may have been all that told it from the one before: a queue whose front is deleted up to a
                // key, again and again, would leave a fragment for each time.
                self.join(&from);
                let Some(end) = end else { return };
                from = end;
                continue;
            }
            // Up to the next one there is none.
            let end = next.or_else(|| to.map(Key::from));
            self.lsns += 1;
            self.fragments.insert(from.clone(), Fragment { end: end.clone(), lsns: vec![lsn] });
            self.join(&from);
            let Some(end) = end else { return };
            from = end;
        }
        self.join(&from);
    }

    /// Cuts the fragment that has `key` and keys before it.
    fn cut(&mut self, key: &[u8]) {
        let before = self.fragments.range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(key))).next_back();
        if let Some((_, fragment)) = before.filter(|(_, fragment)| fragment.has(key)) {
            let behind = fragment.clone();
            fragment.end = Some(Key::from(key));
            self.lsns += behind.lsns.len();
            self.fragments.insert(Key::from(key), behind);
        }
    }

    /// The `count` oldest of the fragment that has `from` leave the list, for the keys from there on, up to `end`, which is not
    /// behind the fragment's.
    pub(super) fn remove(&mut self, from: &[u8], end: Option<&Key>, count: usize) {
        self.cut(from);
        end.into_iter().for_each(|end| self.cut(end));
        let Some(fragment) = self.fragments.get_mut(from) else { return };
        let removed = fragment.lsns.drain(..count.min(fragment.lsns.len())).count();
        self.lsns -= removed;
        if fragment.lsns.is_empty() {
            self.fragments.remove(from);
        } else {
            self.join(from);
        }
    }

    /// Joins a fragment to the one before it, if both say the same: so a range that is gone through part by part does not leave
    /// a fragment for each.
    fn join(&mut self, key: &[u8]) {
        let Some((from, fragment)) = self.fragments.get_key_value(key) else { return };
        let before = self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key))).next_back();
        if let Some((before, other)) = before
            && other.end.as_ref() == Some(from)
            && other.lsns == fragment.lsns
        {
            let (before, end, count) = (before.clone(), fragment.end.clone(), fragment.lsns.len());
            self.lsns -= count;
            self.fragments.remove(key);
            if let Some(other) = self.fragments.get_mut(&before) {
                other.end = end;
            }
        }
    }
}

/// Of two that follow one another the older one goes if nobody can tell it from the newer one.
fn give_way(lsns: &mut Vec<Lsn>, gives_way: impl Fn(Lsn, Lsn) -> bool) {
    let mut index = 0;
    while let Some([older, newer]) = lsns.get(index..index + 2) {
        if gives_way(*older, *newer) {
            lsns.remove(index);
        } else {
            index += 1;
        }
    }
}
