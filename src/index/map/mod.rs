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
mod known;
mod leaf;
mod pool;
mod range;
mod record;
mod residency;
mod row;
mod shape;

use std::ops::Bound;

use super::version::Version;
use crate::base::types::Lsn;

use branch::{Branch, Leaves, Node, Split};
pub(super) use build::{Builder, Built, SharedLeaf};
pub(super) use heads::{common, head};
pub(super) use known::Known;
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
    /// The largest `complete_from` that any of its ranges may have.
    complete_from: Lsn,
    /// The largest `forgot` that any of its ranges had.
    forgot: Lsn,
    /// How often a range has stopped being complete.
    times_forgotten: u64,
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

    /// Returns the bytes of the value that lie outside of the leaf: one that does not fit into it moves out.
    pub(super) fn set(self, version: Version<'_>) -> usize {
        self.leaf.set(self.index, version)
    }

    /// Whether a key of its range without a record is absent.
    pub(super) fn is_complete(&self) -> bool {
        self.leaf.known.is_complete()
    }

    /// Whether it was before a commit began: a fill may land between two operations of one.
    pub(super) fn was_complete_before(&self, lsn: Lsn) -> bool {
        self.leaf.known.complete_from < lsn
    }
}

/// The place that an absent key would have.
pub(super) struct FreeSlot<'a, const N: usize = FAN_OUT> {
    key: &'a [u8],
    map: &'a mut Map<N>,
    /// `None` in a bare range.
    leaf: Option<Id>,
    index: usize,
    is_complete: bool,
}

impl<const N: usize> FreeSlot<'_, N> {
    pub(super) fn fill(self, version: Version<'_>) {
        let new = New { key: self.key, version };
        match self.leaf.map(|id| &mut self.map.leaves[id]) {
            Some(leaf) if leaf.has_room(&new) => leaf.insert(self.index, &new),
            _ => self.map.insert(&new),
        }
    }

    /// Whether the key is absent. Otherwise layers may have it.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl<const N: usize> Default for Map<N> {
    fn default() -> Self {
        Map::bare(Known::COMPLETE)
    }
}

impl<const N: usize> Map<N> {
    /// A map without records, all of whose range knows this.
    pub(super) fn bare(known: Known) -> Self {
        let root = Node::Bare(Box::new(known));
        Map {
            root,
            leaves: Leaves::new(),
            complete_from: known.complete_from,
            forgot: known.forgot,
            times_forgotten: 0,
        }
    }

    /// The newest version of `key`, and what its range knows.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> (Option<Version<'_>>, &Known) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(id) => {
                    let leaf = &self.leaves[*id];
                    leaf.fetch_all_heads();
                    leaf.note_use();
                    return (leaf.search(key).ok().map(|index| leaf.entry(index).1), &leaf.known);
                }
                Node::Branch(branch) => node = &branch.children()[branch.route(key)],
                Node::Bare(known) => return (None, known),
            }
        }
    }

    pub(super) fn slot<'a>(&'a mut self, key: &'a [u8]) -> Slot<'a, N> {
        let id = match Path::to(&self.root, key).1 {
            Node::Leaf(id) => *id,
            Node::Bare(known) => {
                let is_complete = known.is_complete();
                return Slot::Free(FreeSlot { key, map: self, leaf: None, index: 0, is_complete });
            }
            Node::Branch(_) => unreachable!("a path leads to the lowest level"),
        };
        match self.leaves[id].search(key) {
            Ok(index) => Slot::Taken(TakenSlot { leaf: &mut self.leaves[id], index }),
            Err(index) => {
                let is_complete = self.leaves[id].known.is_complete();
                Slot::Free(FreeSlot { key, map: self, leaf: Some(id), index, is_complete })
            }
        }
    }

    /// Prefetches what writes to `keys` will read. Each step is done for all searches before the next step, because a
    /// search learns what it reads next from what it has waited for.
    pub(super) fn fetch(&self, keys: &[&[u8]]) {
        for keys in keys.chunks(AT_ONCE) {
            let mut ids = [None; AT_ONCE];
            for (id, key) in ids.iter_mut().zip(keys) {
                if let Node::Leaf(leaf) = Path::to(&self.root, key).1 {
                    *id = Some(*leaf);
                    self.leaves[*leaf].fetch();
                }
            }
            let leaves = || ids.iter().zip(keys).filter_map(|(id, key)| Some((&self.leaves[(*id)?], key)));
            leaves().for_each(|(leaf, key)| leaf.fetch_line(key));
            leaves().for_each(|(leaf, key)| leaf.fetch_record(key));
        }
    }

    /// Inserts an entry whose key is not there.
    fn insert(&mut self, new: &New<'_>) {
        let split = self.root.insert(new, &mut self.leaves);
        self.grow(split);
    }

    /// Makes a new root over the old one and its new sibling, if there is one.
    fn grow(&mut self, split: Option<Split<N>>) {
        if let Some(split) = split {
            let left = std::mem::replace(&mut self.root, Node::Bare(Box::new(Known::COMPLETE)));
            self.root = Node::Branch(Branch::over(left, split));
        }
    }

    /// Removes `key`, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        if self.root.remove(key, &mut self.leaves).is_none() {
            return false;
        }
        self.collapse();
        true
    }

    /// A root with one child only is none.
    fn collapse(&mut self) {
        while let Node::Branch(branch) = &mut self.root
            && let Some(child) = branch.pop_only_child()
        {
            self.root = child;
        }
    }

    /// Frees one leaf with its entries, and the branches above. Returns `false` if only one leaf is left.
    pub(super) fn free_leaf(&mut self) -> bool {
        self.root = Node::Bare(Box::new(Known::COMPLETE));
        self.leaves.drop_last()
    }

    /// Whether most of the memory of its leaves is unused.
    pub(super) fn is_sparse(&self) -> bool {
        self.leaves.is_sparse()
    }

    /// If most of the memory of its leaves is unused, moves up to `budget` leaves, which frees memory. Returns how many
    /// it moved; fewer than `budget` means that there is no more to do.
    pub(super) fn tidy(&mut self, budget: usize) -> usize {
        let Map { root, leaves, .. } = self;
        let mut moved = 0;
        while moved < budget
            && let Some(to) = leaves.move_one()
        {
            *root.node_of(leaves[to].key(0)) = Node::Leaf(to);
            moved += 1;
        }
        moved
    }

    /// The bytes of its leaves, without shared values.
    pub(super) fn leaf_bytes(&self) -> usize {
        self.leaves.len() * size_of::<Leaf<N>>()
    }

    /// The bytes of those of its leaves that have entries.
    pub(super) fn used_leaf_bytes(&self) -> usize {
        self.leaves.used() * size_of::<Leaf<N>>()
    }

    /// The keys of `range` in order; none if the range ends before it begins.
    pub(super) fn range(&self, range: KeyRange<'_>) -> impl DoubleEndedIterator<Item = (&[u8], Version<'_>)> {
        Range::new(self, range)
    }
}
