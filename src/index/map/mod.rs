//! The ordered map of a keyspace: a B+tree for memory that is not in the cache.
//!
//! Writes come in bursts between two flushes, when the caches hold other data, so the cost of a write is the number of
//! cache lines that it waits for one after the other. Wide nodes keep the tree low. In a node a search reads heads of
//! eight bytes (`heads`), which can all be fetched at once. It reads a key only where the heads are equal: mostly only
//! the key that it searches.

mod branch;
mod build;
#[cfg(test)]
mod check;
mod heads;
mod leaf;
mod pool;
mod range;
mod record;
mod row;
mod shape;

use std::ops::Bound;

use super::version::Version;

use branch::{Branch, Leaves, Node};
pub(super) use build::{Builder, Built, SharedLeaf};
pub(super) use heads::{common, head};
use leaf::Leaf;
use pool::Id;
use range::{Path, Range};
pub(super) use record::LONGEST_KEY;
use shape::New;

/// A range of keys.
pub(crate) type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Whether no key can be in `range`; `BTreeMap::range` panics on some of these.
pub(crate) fn is_empty(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

/// The most entries of a leaf, and the most children of a branch.
const FAN_OUT: usize = 128;

/// About as many searches as the processor can wait for at once.
pub(super) const AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct Map<const N: usize = FAN_OUT> {
    root: Node<N>,
    leaves: Leaves<N>,
}

/// The place of a key in the map, found by one search.
pub(super) enum Slot<'a, const N: usize = FAN_OUT> {
    Taken(TakenSlot<'a, N>),
    Free(FreeSlot<'a, N>),
}

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

/// The place that an absent key would have.
pub(super) struct FreeSlot<'a, const N: usize = FAN_OUT> {
    key: &'a [u8],
    map: &'a mut Map<N>,
    leaf: Id,
    index: usize,
}

impl<const N: usize> FreeSlot<'_, N> {
    pub(super) fn fill(self, version: Version<'_>) {
        let new = New { key: self.key, version };
        let leaf = &mut self.map.leaves[self.leaf];
        if leaf.has_room(&new) {
            leaf.insert(self.index, &new);
        } else {
            self.map.insert(&new);
        }
    }
}

impl<const N: usize> Default for Map<N> {
    fn default() -> Self {
        let mut leaves = Leaves::new();
        Map { root: Node::Leaf(leaves.add()), leaves }
    }
}

impl<const N: usize> Map<N> {
    /// A placeholder for a map that was taken away. It has no leaf, so no method may be called on it.
    pub(super) fn taken() -> Self {
        Map { root: Node::Leaf(Id::FIRST), leaves: Leaves::new() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Version<'_>> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(id) => {
                    let leaf = &self.leaves[*id];
                    leaf.fetch_all_heads();
                    return leaf.search(key).ok().map(|index| leaf.entry(index).1);
                }
                Node::Branch(branch) => node = &branch.children()[branch.route(key)],
            }
        }
    }

    pub(super) fn slot<'a>(&'a mut self, key: &'a [u8]) -> Slot<'a, N> {
        let (_, id) = Path::to(&self.root, key);
        match self.leaves[id].search(key) {
            Ok(index) => Slot::Taken(TakenSlot { leaf: &mut self.leaves[id], index }),
            Err(index) => Slot::Free(FreeSlot { key, map: self, leaf: id, index }),
        }
    }

    /// Prefetches what writes to `keys` will read. Each step is done for all searches before the next step, because a
    /// search learns what it reads next from what it has waited for.
    pub(super) fn fetch(&self, keys: &[&[u8]]) {
        for keys in keys.chunks(AT_ONCE) {
            let mut ids = [Id::FIRST; AT_ONCE];
            for (id, key) in ids.iter_mut().zip(keys) {
                *id = Path::to(&self.root, key).1;
                self.leaves[*id].fetch();
            }
            let leaves = || ids.iter().map(|id| &self.leaves[*id]).zip(keys);
            leaves().for_each(|(leaf, key)| leaf.fetch_line(key));
            leaves().for_each(|(leaf, key)| leaf.fetch_record(key));
        }
    }

    /// Inserts an entry whose key is not there.
    fn insert(&mut self, new: &New<'_>) {
        if let Some(split) = self.root.insert(new, &mut self.leaves) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Id::FIRST));
            self.root = Node::Branch(Branch::over(left, split));
        }
    }

    /// Removes `key`, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        if self.root.remove(key, &mut self.leaves).is_none() {
            return false;
        }
        while let Node::Branch(branch) = &mut self.root
            && let Some(child) = branch.pop_only_child()
        {
            self.root = child;
        }
        if matches!(&self.root, Node::Branch(branch) if branch.children().len() == 0) {
            self.root = Node::Leaf(self.leaves.add());
        }
        true
    }

    /// Frees one leaf with its entries, and the branches above. Returns `false` if only one leaf is left.
    pub(super) fn free_leaf(&mut self) -> bool {
        self.root = Node::Leaf(Id::FIRST);
        self.leaves.drop_last()
    }

    /// Whether most of the memory of its leaves is unused.
    pub(super) fn is_sparse(&self) -> bool {
        self.leaves.is_sparse()
    }

    /// If most of the memory of its leaves is unused, moves up to `budget` leaves, which frees memory. Returns how many
    /// it moved; fewer than `budget` means that there is no more to do.
    pub(super) fn tidy(&mut self, budget: usize) -> usize {
        let Map { root, leaves } = self;
        let mut moved = 0;
        while moved < budget
            && let Some(to) = leaves.move_one()
        {
            let leaf = &leaves[to];
            // Only a root can be empty, and any key leads to it.
            let key = if leaf.len() == 0 { &[] } else { leaf.key(0) };
            *root.leaf_of(key) = to;
            moved += 1;
        }
        moved
    }

    /// The bytes of its leaves, without shared values.
    pub(super) fn leaf_bytes(&self) -> usize {
        self.leaves.len() * size_of::<Leaf<N>>()
    }

    /// The keys of `range` in order; none if the range ends before it begins.
    pub(super) fn range(&self, range: KeyRange<'_>) -> impl DoubleEndedIterator<Item = (&[u8], Version<'_>)> {
        Range::new(self, range)
    }
}
