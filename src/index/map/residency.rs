//! What of a keyspace is in memory, and what only layers have (`table/RULES.md`, 2, 3, 7 and 12).

use std::ops::Bound;

use super::super::key::Key;
use super::super::version::{Direction, Version};
use super::KeyRange;
use super::branch::{Leaves, Node};
use super::btree::BTree;
use super::known::Known;
use super::range::Path;
use crate::base::types::Lsn;

/// Ranges that follow one another, all of which are complete for a reader, or none.
#[derive(Debug)]
pub(in super::super) struct Stretch {
    pub(in super::super) is_complete: bool,
    /// The largest of its ranges.
    pub(in super::super) forgot: Lsn,
    /// Where it ends: forward, the first key behind it; backward, its first key. `None` where the range asked for ends.
    pub(in super::super) end: Option<Key>,
}

/// The keys from one on up to another one, which may be none.
pub(in super::super) type Keys<'a> = (&'a [u8], Option<&'a [u8]>);

impl<const N: usize, const ROOM: usize> Node<N, ROOM> {
    /// What it knows, and its number of entries.
    fn known<'a>(&'a self, leaves: &'a Leaves<N, ROOM>) -> (&'a Known, usize) {
        match self {
            Node::Leaf(id) => (&leaves[*id].known, leaves[*id].len()),
            Node::Bare(known) => (known, 0),
            Node::Branch(_) => unreachable!("a path leads to the lowest level"),
        }
    }

    fn known_mut<'a>(&'a mut self, leaves: &'a mut Leaves<N, ROOM>) -> &'a mut Known {
        match self {
            Node::Leaf(id) => &mut leaves[*id].known,
            Node::Bare(known) => known,
            Node::Branch(_) => unreachable!("a path leads to the lowest level"),
        }
    }
}

impl<const N: usize, const ROOM: usize> BTree<N, ROOM> {
    /// Whether all keys without a version are absent for a reader at `at`.
    #[inline]
    pub(in super::super) fn is_complete_at(&self, at: Lsn) -> bool {
        self.complete_from <= at
    }

    /// Whether they are for the newest reader.
    pub(in super::super) fn is_complete(&self) -> bool {
        Known { complete_from: self.complete_from, ..Known::COMPLETE }.is_complete()
    }

    /// Whether something above `lsn` left memory in a range of keys.
    pub(in super::super) fn has_forgotten(&self, range: KeyRange<'_>, lsn: Lsn) -> bool {
        self.forgot > lsn && self.nodes(range).any(|(_, known, _)| known.forgot > lsn)
    }

    /// The ranges that have keys of `range`, in order: the path to each, what it knows, and its number of entries.
    fn nodes(&self, (low, high): KeyRange<'_>) -> impl Iterator<Item = (Path, &Known, usize)> {
        let mut next = Some(match low {
            Bound::Unbounded => Path::to_end(&self.root, false),
            Bound::Included(key) | Bound::Excluded(key) => Path::to(&self.root, key),
        });
        std::iter::from_fn(move || {
            let (path, node) = next?;
            next = path.next(&self.root).filter(|(path, _)| {
                path.bounds(&self.root).0.is_none_or(|begin| match high {
                    Bound::Unbounded => true,
                    Bound::Included(high) => **begin <= *high,
                    Bound::Excluded(high) => **begin < *high,
                })
            });
            let (known, entries) = node.known(&self.leaves);
            Some((path, known, entries))
        })
    }

    /// The first stretch of a range for a reader at `at`, seen in a direction. It may end early when it has `most` entries.
    pub(in super::super) fn stretch(&self, range: KeyRange<'_>, direction: Direction, at: Lsn, most: usize) -> Stretch {
        match direction {
            Direction::Forward => {
                let ends = |path: &Path| path.bounds(&self.root).1.cloned();
                Self::gather(self.nodes(range), at, most, ends)
            }
            Direction::Backward => {
                let ends = |path: &Path| path.bounds(&self.root).0.cloned();
                Self::gather(self.nodes_backward(range), at, most, ends)
            }
        }
    }

    fn gather<'a>(
        mut nodes: impl Iterator<Item = (Path, &'a Known, usize)>,
        at: Lsn,
        most: usize,
        ends: impl Fn(&Path) -> Option<Key>,
    ) -> Stretch {
        let (mut path, first, mut entries) = nodes.next().expect("every key has a place");
        let (mut forgot, is_complete) = (first.forgot, first.complete_from <= at);
        for (next, known, more) in nodes {
            if (known.complete_from <= at) != is_complete || entries >= most {
                return Stretch { is_complete, forgot, end: ends(&path) };
            }
            (path, forgot, entries) = (next, forgot.max(known.forgot), entries + more);
        }
        Stretch { is_complete, forgot, end: None }
    }

    /// [`BTree::nodes`], from the last one on.
    fn nodes_backward(&self, (low, high): KeyRange<'_>) -> impl Iterator<Item = (Path, &Known, usize)> {
        let last = match high {
            Bound::Unbounded => Path::to_end(&self.root, true),
            Bound::Included(key) | Bound::Excluded(key) => Path::to(&self.root, key),
        };
        // Nothing of a range that begins at its own end.
        let begins_there = |path: &Path| match (high, path.bounds(&self.root).0) {
            (Bound::Excluded(high), Some(begin)) => **begin == *high,
            _ => false,
        };
        let mut next = if begins_there(&last.0) { last.0.previous(&self.root) } else { Some(last) };
        std::iter::from_fn(move || {
            let (path, node) = next?;
            let begin = path.bounds(&self.root).0;
            let has_more = begin.is_some_and(|begin| match low {
                Bound::Unbounded => true,
                Bound::Included(low) | Bound::Excluded(low) => *low < **begin,
            });
            next = if has_more { path.previous(&self.root) } else { None };
            let (known, entries) = node.known(&self.leaves);
            Some((path, known, entries))
        })
    }

    /// The range of keys of the first node at or behind `key` that is not complete.
    pub(in super::super) fn gap_from(&self, key: &[u8]) -> Option<(Key, Option<Key>)> {
        if self.is_complete() {
            return None;
        }
        let from = (Bound::Included(key), Bound::Unbounded);
        let (path, ..) = self.nodes(from).find(|(_, known, _)| !known.is_complete())?;
        let (low, high) = path.bounds(&self.root);
        Some((low.cloned().unwrap_or_else(|| Key::from(&[])), high.cloned()))
    }

    /// Looks from where on the next `count` ranges behind `low` are complete, given that no reader asks below `settled`. Returns
    /// that, and where the next range begins.
    pub(in super::super) fn settle(&mut self, low: &[u8], count: usize, settled: Lsn) -> (Lsn, Option<Key>) {
        let last = self.nodes((Bound::Included(low), Bound::Unbounded)).take(count).last();
        let next = last.and_then(|(path, ..)| path.bounds(&self.root).1.cloned());
        let mut complete_from = Lsn::ZERO;
        let BTree { root, leaves, .. } = self;
        root.each((low, next.as_deref()), leaves, &mut |node, leaves| {
            let known = node.known_mut(leaves);
            known.settle(settled);
            complete_from = complete_from.max(known.complete_from);
        });
        (complete_from, next)
    }

    /// All of it was seen to be complete from an LSN on, in steps that began when it had forgotten so often.
    pub(in super::super) fn note_complete(&mut self, from: Lsn, times_forgotten: u64) {
        if self.times_forgotten == times_forgotten {
            self.complete_from = from;
        }
    }

    pub(in super::super) fn times_forgotten(&self) -> u64 {
        self.times_forgotten
    }

    /// Has the next `count` ranges behind `low` forget what layers have up to `to` (rule 2), and shows each version that leaves.
    /// A leaf in which somebody has read since the last time is spared. Returns where the next range begins.
    pub(in super::super) fn forget(
        &mut self,
        low: &[u8],
        count: usize,
        to: Lsn,
        mut show: impl FnMut(&[u8], &Version<'_>),
    ) -> Option<Key> {
        let mut low = Key::from(low);
        for _ in 0..count {
            let next = Path::to(&self.root, &low).0.bounds(&self.root).1.cloned();
            let (mut forgot, mut has_forgotten) = (self.forgot, false);
            self.root.forget(&low, &mut self.leaves, &mut |leaf| {
                // What was buried above has no trace but the record that is absent.
                if leaf.take_use() || leaf.known.buried > to {
                    return;
                }
                let before = leaf.len();
                leaf.forget(to, &mut show);
                let was_complete = leaf.known.is_complete();
                if leaf.len() < before || was_complete {
                    leaf.known = leaf.known.forgotten();
                    has_forgotten |= was_complete;
                }
                forgot = forgot.max(leaf.known.forgot);
            });
            self.forgot = forgot;
            if has_forgotten {
                self.times_forgotten += 1;
                self.complete_from = Known::AWAY.complete_from;
            }
            self.collapse();
            low = next?;
        }
        Some(low)
    }

    /// The tombstone of `lsn` leaves the map, if it may. It is the newest version of `key`.
    pub(in super::super) fn bury(&mut self, key: &[u8], lsn: Lsn, to: Lsn) -> bool {
        let known = self.root.node_of(key).known_mut(&mut self.leaves);
        let may_leave = known.bury(lsn, to);
        self.forgot = self.forgot.max(known.forgot);
        may_leave && self.remove(key)
    }

    /// While there are no readers a deletion of `key` leaves no record, since memory alone answers for its range.
    pub(in super::super) fn note_buried(&mut self, key: &[u8], lsn: Lsn) {
        let known = self.root.node_of(key).known_mut(&mut self.leaves);
        known.buried = lsn.max(known.buried);
    }

    /// Where the range of `key` ends, and what it knows.
    pub(in super::super) fn range_of(&self, key: &[u8]) -> (Option<&Key>, &Known) {
        let (path, node) = Path::to(&self.root, key);
        (path.bounds(&self.root).1, node.known(&self.leaves).0)
    }

    /// Range tombstones leave memory for these keys, of which no record is left that they cover. Each may ([`Known::may_bury`]).
    /// With `is_noted` a transaction that began before one conflicts, whatever it has read there.
    pub(in super::super) fn bury_range(&mut self, keys: Keys<'_>, lsns: &[Lsn], to: Lsn, is_noted: bool) {
        let BTree { root, leaves, forgot, .. } = self;
        root.each(keys, leaves, &mut |node, leaves| {
            let known = node.known_mut(leaves);
            for lsn in lsns {
                let may = known.bury(*lsn, to);
                debug_assert!(may, "the range tombstone of {lsn} may not leave memory");
                if is_noted {
                    known.forgot = known.forgot.max(*lsn);
                }
            }
            *forgot = known.forgot.max(*forgot);
        });
    }

    fn cut(&mut self, key: &[u8]) {
        if !key.is_empty() {
            let split = self.root.cut(key, &mut self.leaves);
            self.grow(split);
        }
    }

    /// Whether what was read of these keys from layers up to `to` may land: nothing above that left memory.
    pub(in super::super) fn may_land(&self, (low, high): Keys<'_>, to: Lsn) -> bool {
        let range = (Bound::Included(low), high.map_or(Bound::Unbounded, Bound::Excluded));
        !self.has_forgotten(range, to)
    }

    /// Makes both ends of a range separators.
    pub(in super::super) fn cut_out(&mut self, (low, high): Keys<'_>) {
        self.cut(low);
        high.into_iter().for_each(|high| self.cut(high));
    }

    /// All that layers have of these keys up to `to` has landed. A reader above that, and above what memory had, is answered
    /// from now on by memory alone: what it sees is the newest version of each key. No reader asks below `settled`.
    pub(in super::super) fn complete(&mut self, keys: Keys<'_>, to: Lsn, settled: Lsn) {
        let BTree { root, leaves, .. } = self;
        root.each(keys, leaves, &mut |node, leaves| {
            let newest = match node {
                Node::Leaf(id) => leaves[*id].newest(),
                _ => Lsn::ZERO,
            };
            let known = node.known_mut(leaves);
            if !known.is_complete() {
                known.complete_from = to.max(newest);
                known.settle(settled);
            }
        });
    }
}
