//! Paths to leaves, and iteration from both ends.

use std::ops::Bound;

use super::super::key::Key;
use super::super::version::Version;
use super::KeyRange;
use super::branch::{Leaves, Node};
use super::leaf::Leaf;

/// The index of the child to take on each level, from the root down to a leaf or a bare node.
///
/// A level grows only by splits of the level below, so no tree becomes higher than this.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path([u8; 24]);

impl Path {
    /// The path to the leaf or bare node that has `key`, or would have it.
    #[inline]
    pub(super) fn to<'a, const N: usize, const ROOM: usize>(
        root: &'a Node<N, ROOM>,
        key: &[u8],
    ) -> (Self, &'a Node<N, ROOM>) {
        Path::default().descend(root, 0, |branch| branch.route(key))
    }

    /// The path to the first one, or to the last.
    pub(super) fn to_end<const N: usize, const ROOM: usize>(
        root: &Node<N, ROOM>,
        is_last: bool,
    ) -> (Self, &Node<N, ROOM>) {
        Path::default().descend(root, 0, |branch| if is_last { branch.children().len() - 1 } else { 0 })
    }

    /// The bounds of the range of keys that the path leads to: the first key, and the first one behind; `None` at the ends.
    pub(super) fn bounds<'a, const N: usize, const ROOM: usize>(
        &self,
        root: &'a Node<N, ROOM>,
    ) -> (Option<&'a Key>, Option<&'a Key>) {
        let (mut low, mut high, mut node, mut level) = (None, None, root, 0);
        while let Node::Branch(branch) = node {
            let index = usize::from(self.0[level]);
            low = index.checked_sub(1).map(|before| &branch.separators()[before]).or(low);
            high = branch.separators().get(index).or(high);
            node = &branch.children()[index];
            level += 1;
        }
        (low, high)
    }

    /// Completes the path from `node`, on the level `level`, down to a leaf or bare node.
    #[inline]
    fn descend<'a, const N: usize, const ROOM: usize>(
        mut self,
        mut node: &'a Node<N, ROOM>,
        mut level: usize,
        choose: impl Fn(&'a super::branch::Branch<N, ROOM>) -> usize,
    ) -> (Self, &'a Node<N, ROOM>) {
        loop {
            match node {
                Node::Leaf(_) | Node::Bare(_) => return (self, node),
                Node::Branch(branch) => {
                    let index = choose(branch);
                    self.0[level] = u8::try_from(index).unwrap_or(u8::MAX);
                    level += 1;
                    node = &branch.children()[index];
                }
            }
        }
    }

    /// The path to the next leaf or bare node.
    pub(super) fn next<const N: usize, const ROOM: usize>(
        self,
        root: &Node<N, ROOM>,
    ) -> Option<(Self, &Node<N, ROOM>)> {
        self.turn(root, |index, len| (index + 1 < len).then_some(index + 1), |_| 0)
    }

    /// The path to the previous leaf or bare node.
    pub(super) fn previous<const N: usize, const ROOM: usize>(
        self,
        root: &Node<N, ROOM>,
    ) -> Option<(Self, &Node<N, ROOM>)> {
        self.turn(root, |index, _| index.checked_sub(1), |len| len - 1)
    }

    /// Takes another child (`other`) at the lowest branch that has one, and the outermost children (`outer`) below it.
    fn turn<const N: usize, const ROOM: usize>(
        mut self,
        root: &Node<N, ROOM>,
        other: impl Fn(usize, usize) -> Option<usize>,
        outer: impl Fn(usize) -> usize,
    ) -> Option<(Self, &Node<N, ROOM>)> {
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

/// What a map consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a, const N: usize, const ROOM: usize> {
    pub(super) root: &'a Node<N, ROOM>,
    pub(super) leaves: &'a Leaves<N, ROOM>,
}

/// The place of an entry.
#[derive(Debug)]
struct LeafPosition<'a, const N: usize, const ROOM: usize> {
    path: Path,
    leaf: &'a Leaf<N, ROOM>,
    index: usize,
}

impl<'a, const N: usize, const ROOM: usize> LeafPosition<'a, N, ROOM> {
    /// The first entry at or above `low`.
    fn first(parts: Parts<'a, N, ROOM>, low: Bound<&[u8]>) -> Option<Self> {
        let (path, node) = match low {
            Bound::Unbounded => Path::to_end(parts.root, false),
            Bound::Included(key) | Bound::Excluded(key) => Path::to(parts.root, key),
        };
        if let Node::Leaf(id) = node {
            let leaf = &parts.leaves[*id];
            let index = leaf.indices((low, Bound::Unbounded)).start;
            if index < leaf.len() {
                return Some(LeafPosition { path, leaf, index });
            }
        }
        Self::next(path, parts)
    }

    /// The last entry at or below `high`.
    fn last(parts: Parts<'a, N, ROOM>, high: Bound<&[u8]>) -> Option<Self> {
        let (path, node) = match high {
            Bound::Unbounded => Path::to_end(parts.root, true),
            Bound::Included(key) | Bound::Excluded(key) => Path::to(parts.root, key),
        };
        if let Node::Leaf(id) = node {
            let leaf = &parts.leaves[*id];
            let end = leaf.indices((Bound::Unbounded, high)).end;
            if let Some(index) = end.checked_sub(1) {
                return Some(LeafPosition { path, leaf, index });
            }
        }
        Self::previous(path, parts)
    }

    /// The first entry behind the leaf or bare node at `path`.
    fn next(mut path: Path, parts: Parts<'a, N, ROOM>) -> Option<Self> {
        loop {
            let (next, node) = path.next(parts.root)?;
            path = next;
            if let Node::Leaf(id) = node {
                return Some(LeafPosition { path, leaf: &parts.leaves[*id], index: 0 });
            }
        }
    }

    /// The last entry before the leaf or bare node at `path`.
    fn previous(mut path: Path, parts: Parts<'a, N, ROOM>) -> Option<Self> {
        loop {
            let (previous, node) = path.previous(parts.root)?;
            path = previous;
            if let Node::Leaf(id) = node {
                let leaf = &parts.leaves[*id];
                return Some(LeafPosition { path, leaf, index: leaf.len() - 1 });
            }
        }
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
pub(super) struct Range<'a, const N: usize, const ROOM: usize>(Option<Rest<'a, N, ROOM>>);

/// The entries that neither end has handed out: at least one.
#[derive(Debug)]
struct Rest<'a, const N: usize, const ROOM: usize> {
    parts: Parts<'a, N, ROOM>,
    first: LeafPosition<'a, N, ROOM>,
    last: LeafPosition<'a, N, ROOM>,
}

impl<'a, const N: usize, const ROOM: usize> Range<'a, N, ROOM> {
    pub(super) fn new(parts: Parts<'a, N, ROOM>, (low, high): KeyRange<'_>) -> Self {
        let rest = LeafPosition::first(parts, low).zip(LeafPosition::last(parts, high));
        let rest = rest.filter(|(first, last)| first.key() <= last.key());
        Range(rest.map(|(first, last)| Rest { parts, first, last }))
    }
}

impl<'a, const N: usize, const ROOM: usize> Iterator for Range<'a, N, ROOM> {
    type Item = (&'a [u8], Version<'a>);

    // Always, as `Leaf::entry`.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let Rest { parts, first, last } = self.0.as_mut()?;
        let entry = first.entry();
        if first.is(last) {
            self.0 = None;
        } else if first.index + 1 < first.leaf.len() {
            first.index += 1;
            first.leaf.fetch_entry(first.index + AHEAD);
        } else if let Some(next) = LeafPosition::next(first.path, *parts) {
            *first = next;
            (0..AHEAD).for_each(|index| first.leaf.fetch_entry(index));
        }
        Some(entry)
    }
}

impl<const N: usize, const ROOM: usize> DoubleEndedIterator for Range<'_, N, ROOM> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let Rest { parts, first, last } = self.0.as_mut()?;
        let entry = last.entry();
        if last.is(first) {
            self.0 = None;
        } else if last.index > 0 {
            last.index -= 1;
            last.leaf.fetch_entry(last.index.saturating_sub(AHEAD));
        } else if let Some(previous) = LeafPosition::previous(last.path, *parts) {
            *last = previous;
        }
        Some(entry)
    }
}
