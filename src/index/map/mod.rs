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
mod row;

use std::ops::Bound;

use super::key::Key;
use super::versions::Chain;

use branch::{Branch, Node, Which};
use leaf::{Entry, Leaf};
use range::{Path, Range};

/// A range of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The most entries of a leaf, and children of a branch.
const FAN_OUT: usize = 128;

/// Keys in order, each with its versions.
#[derive(Debug)]
pub(super) struct Map<const N: usize = FAN_OUT> {
    root: Node<N>,
}

/// The place of a key in the map, found by one search.
pub(super) enum Slot<'a, const N: usize = FAN_OUT> {
    /// The key is there: as the map holds it, so that it can be shared.
    Taken(Key, &'a mut Chain),
    /// The key is not there.
    Free(FreeSlot<'a, N>),
}

/// The place where a key would be.
pub(super) struct FreeSlot<'a, const N: usize = FAN_OUT>(Key, Room<'a, N>);

enum Room<'a, const N: usize> {
    In(&'a mut Leaf<N>, usize),
    /// The leaf is full.
    None(&'a mut Map<N>),
}

impl<const N: usize> FreeSlot<'_, N> {
    pub(super) fn fill(self, chain: Chain) {
        let FreeSlot(key, room) = self;
        let entry = Entry { key, chain };
        match room {
            Room::In(leaf, index) => leaf.insert(index, entry),
            Room::None(map) => map.insert(entry),
        }
    }
}

impl<const N: usize> Default for Map<N> {
    fn default() -> Self {
        Map { root: Node::Leaf(Leaf::empty()) }
    }
}

impl<const N: usize> Map<N> {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Chain> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.search(key).ok().map(|index| &leaf.entry(index).chain),
                Node::Branch(branch) => node = &branch.children()[branch.route(key)],
            }
        }
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Chain> {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let index = leaf.search(key).ok()?;
                    return Some(&mut leaf.entry_mut(index).chain);
                }
                Node::Branch(branch) => {
                    let index = branch.route(key);
                    node = branch.child_mut(index);
                }
            }
        }
    }

    pub(super) fn slot(&mut self, key: Key) -> Slot<'_, N> {
        let (path, leaf) = Path::to(&self.root, &key);
        match leaf.search(&key) {
            Ok(index) => {
                let entry = path.follow(&mut self.root).entry_mut(index);
                Slot::Taken(entry.key.clone(), &mut entry.chain)
            }
            Err(_) if leaf.is_full() => Slot::Free(FreeSlot(key, Room::None(self))),
            Err(index) => Slot::Free(FreeSlot(key, Room::In(path.follow(&mut self.root), index))),
        }
    }

    /// Inserts an entry whose key is not there.
    fn insert(&mut self, entry: Entry) {
        if let Some(split) = self.root.insert(entry) {
            let root = std::mem::replace(&mut self.root, Node::Leaf(Leaf::empty()));
            self.root = Node::Branch(Branch::over(root, split));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.remove_entry(Which::Key(key));
    }

    /// Removes some key; `None` if there is none.
    pub(super) fn remove_any(&mut self) -> Option<Chain> {
        self.remove_entry(Which::Last).map(|entry| entry.chain)
    }

    fn remove_entry(&mut self, which: Which<'_>) -> Option<Entry> {
        let entry = self.root.remove(which)?;
        while let Node::Branch(branch) = &mut self.root
            && let Some(child) = branch.pop_only_child()
        {
            self.root = child;
        }
        if self.root.len() == 0 {
            // Not a branch without children, nor the memory of the entries that were there.
            self.root = Node::Leaf(Leaf::empty());
        }
        Some(entry)
    }

    /// The keys of `range` in order; none if it ends before it begins.
    pub(super) fn range(&self, range: KeyRange<'_>) -> impl DoubleEndedIterator<Item = (&Key, &Chain)> {
        Range::new(&self.root, range)
    }
}
