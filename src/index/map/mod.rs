//! The ordered map under a keyspace: a B+tree made for memory that is not in the cache.
//!
//! A write comes once between two flushes, when the caches hold other things, so what it costs is the lines of memory
//! that it waits for one after the other. Wide nodes keep the tree low. In a node a search looks at eight-byte heads
//! (`heads`), all of which can be fetched at once, and at a key only where the head is the same: mostly at the one
//! that it looks for.

mod branch;
#[cfg(test)]
mod check;
mod heads;
mod leaf;
mod range;
mod record;
mod row;

use std::ops::Bound;

use super::version::Version;

use branch::{Branch, Node, Which};
use leaf::{Leaf, New};
use range::{Path, Range};

/// A range of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The most entries of a leaf, and children of a branch.
const FAN_OUT: usize = 128;

/// Keys in order, each with its newest version.
#[derive(Debug)]
pub(super) struct Map<const N: usize = FAN_OUT> {
    root: Node<N>,
}

/// The place of a key in the map, found by one search.
pub(super) enum Slot<'a, const N: usize = FAN_OUT> {
    Taken(TakenSlot<'a, N>),
    Free(FreeSlot<'a, N>),
}

/// The place where a key is.
pub(super) struct TakenSlot<'a, const N: usize = FAN_OUT> {
    leaf: &'a mut Leaf<N>,
    index: usize,
}

impl<const N: usize> TakenSlot<'_, N> {
    pub(super) fn version(&self) -> Version<'_> {
        self.leaf.entry(self.index).1
    }

    pub(super) fn set(self, version: Version<'_>) {
        self.leaf.set(self.index, version);
    }
}

/// The place where a key would be.
pub(super) struct FreeSlot<'a, const N: usize = FAN_OUT> {
    key: &'a [u8],
    room: Room<'a, N>,
}

enum Room<'a, const N: usize> {
    In(&'a mut Leaf<N>, usize),
    /// The leaf is full.
    None(&'a mut Map<N>),
}

impl<const N: usize> FreeSlot<'_, N> {
    pub(super) fn fill(self, version: Version<'_>) {
        let new = New { key: self.key, version };
        match self.room {
            Room::In(leaf, index) => leaf.insert(index, &new),
            Room::None(map) => map.insert(&new),
        }
    }
}

impl<const N: usize> Default for Map<N> {
    fn default() -> Self {
        Map { root: Node::Leaf(Leaf::empty()) }
    }
}

impl<const N: usize> Map<N> {
    pub(super) fn get(&self, key: &[u8]) -> Option<Version<'_>> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.search(key).ok().map(|index| leaf.entry(index).1),
                Node::Branch(branch) => node = &branch.children()[branch.route(key)],
            }
        }
    }

    pub(super) fn slot<'a>(&'a mut self, key: &'a [u8]) -> Slot<'a, N> {
        let (path, leaf) = Path::to(&self.root, key);
        match leaf.search(key) {
            Ok(index) => Slot::Taken(TakenSlot { leaf: path.follow(&mut self.root), index }),
            Err(_) if leaf.is_full() => Slot::Free(FreeSlot { key, room: Room::None(self) }),
            Err(index) => Slot::Free(FreeSlot { key, room: Room::In(path.follow(&mut self.root), index) }),
        }
    }

    /// Inserts an entry whose key is not there.
    fn insert(&mut self, new: &New<'_>) {
        if let Some(split) = self.root.insert(new) {
            let root = std::mem::replace(&mut self.root, Node::Leaf(Leaf::empty()));
            self.root = Node::Branch(Branch::over(root, split));
        }
    }

    /// Removes `key`, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_entry(Which::Key(key))
    }

    /// Removes some key; `false` if there is none.
    pub(super) fn remove_any(&mut self) -> bool {
        self.remove_entry(Which::Last)
    }

    fn remove_entry(&mut self, which: Which<'_>) -> bool {
        if self.root.remove(which).is_none() {
            return false;
        }
        while let Node::Branch(branch) = &mut self.root
            && let Some(child) = branch.pop_only_child()
        {
            self.root = child;
        }
        if self.root.len() == 0 {
            // Not a branch without children, nor the memory of the entries that were there.
            self.root = Node::Leaf(Leaf::empty());
        }
        true
    }

    /// The keys of `range` in order; none if it ends before it begins.
    pub(super) fn range(&self, range: KeyRange<'_>) -> impl DoubleEndedIterator<Item = (&[u8], Version<'_>)> {
        Range::new(&self.root, range)
    }
}
