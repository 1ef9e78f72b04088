//! Paths to leaves, and iteration from both ends.

use std::ops::Bound;

use super::super::version::Version;
use super::branch::Node;
use super::leaf::Leaf;
use super::pool::Id;
use super::{KeyRange, Map};

/// The index of the child to take on each level, from the root down to a leaf.
///
/// A level grows only by splits of the level below, so no tree becomes higher than this.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path([u8; 24]);

impl Path {
    /// The path to the leaf that has `key`, or would have it.
    #[inline]
    pub(super) fn to<const N: usize>(root: &Node<N>, key: &[u8]) -> (Self, Id) {
        Path::default().descend(root, 0, |branch| branch.route(key))
    }

    /// Completes the path from `node`, on the level `level`, down to a leaf.
    #[inline]
    fn descend<'a, const N: usize>(
        mut self,
        mut node: &'a Node<N>,
        mut level: usize,
        choose: impl Fn(&'a super::branch::Branch<N>) -> usize,
    ) -> (Self, Id) {
        loop {
            match node {
                Node::Leaf(leaf) => return (self, *leaf),
                Node::Branch(branch) => {
                    let index = choose(branch);
                    self.0[level] = u8::try_from(index).unwrap_or(u8::MAX);
                    level += 1;
                    node = &branch.children()[index];
                }
            }
        }
    }

    /// The path to the next leaf.
    fn next<const N: usize>(self, root: &Node<N>) -> Option<(Self, Id)> {
        self.turn(root, |index, len| (index + 1 < len).then_some(index + 1), |_| 0)
    }

    /// The path to the previous leaf.
    fn previous<const N: usize>(self, root: &Node<N>) -> Option<(Self, Id)> {
        self.turn(root, |index, _| index.checked_sub(1), |len| len - 1)
    }

    /// Takes another child (`other`) at the lowest branch that has one, and the outermost children (`outer`) below it.
    fn turn<const N: usize>(
        mut self,
        root: &Node<N>,
        other: impl Fn(usize, usize) -> Option<usize>,
        outer: impl Fn(usize) -> usize,
    ) -> Option<(Self, Id)> {
        let mut lowest = None;
        let mut node = root;
        let mut level = 0;
        while let Node::Branch(branch) = node {
            let index = usize::from(self.0[level]);
            if let Some(index) = other(index, branch.children().len()) {
                lowest = Some((level, index, branch));
            }
            node = &branch.children()[index];
            level += 1;
        }
        let (level, index, branch) = lowest?;
        self.0[level] = u8::try_from(index).unwrap_or(u8::MAX);
        Some(self.descend(&branch.children()[index], level + 1, |branch| outer(branch.children().len())))
    }
}

/// The place of an entry.
#[derive(Debug)]
struct LeafPosition<'a, const N: usize> {
    path: Path,
    leaf: &'a Leaf<N>,
    index: usize,
}

impl<'a, const N: usize> LeafPosition<'a, N> {
    /// The first entry at or above `low`.
    fn first(Map { root, leaves }: &'a Map<N>, low: Bound<&[u8]>) -> Option<Self> {
        let (path, id) = match low {
            Bound::Unbounded => Path::default().descend(root, 0, |_| 0),
            Bound::Included(key) | Bound::Excluded(key) => Path::to(root, key),
        };
        let leaf = &leaves[id];
        let index = leaf.indices((low, Bound::Unbounded)).start;
        if index < leaf.len() {
            return Some(LeafPosition { path, leaf, index });
        }
        path.next(root).map(|(path, id)| LeafPosition { path, leaf: &leaves[id], index: 0 })
    }

    /// The last entry at or below `high`.
    fn last(Map { root, leaves }: &'a Map<N>, high: Bound<&[u8]>) -> Option<Self> {
        let (path, id) = match high {
            Bound::Unbounded => Path::default().descend(root, 0, |branch| branch.children().len() - 1),
            Bound::Included(key) | Bound::Excluded(key) => Path::to(root, key),
        };
        let leaf = &leaves[id];
        let end = leaf.indices((Bound::Unbounded, high)).end;
        if let Some(index) = end.checked_sub(1) {
            return Some(LeafPosition { path, leaf, index });
        }
        path.previous(root).map(|(path, id)| (path, &leaves[id])).map(|(path, leaf)| LeafPosition {
            path,
            leaf,
            index: leaf.len() - 1,
        })
    }

    fn key(&self) -> &'a [u8] {
        self.leaf.key(self.index)
    }

    fn entry(&self) -> (&'a [u8], Version<'a>) {
        self.leaf.entry(self.index)
    }

    fn is(&self, other: &Self) -> bool {
        self.index == other.index && std::ptr::eq(self.leaf, other.leaf)
    }
}

/// The records of a leaf lie in insertion order, not key order: each is prefetched this number of entries before its
/// turn.
const AHEAD: usize = 8;

/// The entries of a range.
#[derive(Debug)]
pub(super) struct Range<'a, const N: usize>(Option<Rest<'a, N>>);

/// The entries that neither end has handed out: at least one.
#[derive(Debug)]
struct Rest<'a, const N: usize> {
    map: &'a Map<N>,
    first: LeafPosition<'a, N>,
    last: LeafPosition<'a, N>,
}

impl<'a, const N: usize> Range<'a, N> {
    pub(super) fn new(map: &'a Map<N>, (low, high): KeyRange<'_>) -> Self {
        let rest = LeafPosition::first(map, low).zip(LeafPosition::last(map, high));
        let rest = rest.filter(|(first, last)| first.key() <= last.key());
        Range(rest.map(|(first, last)| Rest { map, first, last }))
    }
}

impl<'a, const N: usize> Iterator for Range<'a, N> {
    type Item = (&'a [u8], Version<'a>);

    // Always, as `Leaf::entry`.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let Rest { map, first, last } = self.0.as_mut()?;
        let entry = first.entry();
        if first.is(last) {
            self.0 = None;
        } else if first.index + 1 < first.leaf.len() {
            first.index += 1;
            first.leaf.fetch_entry(first.index + AHEAD);
        } else if let Some((path, id)) = first.path.next(&map.root) {
            *first = LeafPosition { path, leaf: &map.leaves[id], index: 0 };
            (0..AHEAD).for_each(|index| first.leaf.fetch_entry(index));
        }
        Some(entry)
    }
}

impl<const N: usize> DoubleEndedIterator for Range<'_, N> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let Rest { map, first, last } = self.0.as_mut()?;
        let entry = last.entry();
        if last.is(first) {
            self.0 = None;
        } else if last.index > 0 {
            last.index -= 1;
            last.leaf.fetch_entry(last.index.saturating_sub(AHEAD));
        } else if let Some((path, id)) = last.path.previous(&map.root) {
            let leaf = &map.leaves[id];
            *last = LeafPosition { path, leaf, index: leaf.len() - 1 };
        }
        Some(entry)
    }
}
