//! A B+tree for memory that is not in the cache.
//!
//! Writes come in bursts between two flushes, when the caches hold other data, so the cost of a write is the number of
//! cache lines that it waits for one after the other. Wide nodes keep the tree low. In a node a search reads heads of
//! eight bytes (`heads`), which can all be fetched at once. It reads a key only where the heads are equal: mostly only
//! the key that it searches.

use super::super::version::Version;
use super::branch::{Branch, Leaves, Node, Split};
use super::known::Known;
use super::leaf::Leaf;
use super::pool::Id;
use super::range::{Parts, Path, Range};
use super::shape::New;
use super::{AT_ONCE, KeyRange, MOST_ROOM, WIDEST};
use crate::base::types::Lsn;

/// With leaves of up to `N` entries in `ROOM` bytes, and branches of up to `N` children.
#[derive(Debug)]
pub(in super::super) struct BTree<const N: usize = WIDEST, const ROOM: usize = MOST_ROOM> {
    pub(super) root: Node<N, ROOM>,
    pub(super) leaves: Leaves<N, ROOM>,
    /// The largest `complete_from` that any of its ranges may have.
    pub(super) complete_from: Lsn,
    /// The largest `forgot` that any of its ranges had.
    pub(super) forgot: Lsn,
    /// How often a range has stopped being complete.
    pub(super) times_forgotten: u64,
}

/// Where a key is, or would be, found by one search.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Place {
    /// `None` in a bare range.
    leaf: Option<Id>,
    index: usize,
    pub(in super::super) is_taken: bool,
    /// Whether a key of its range without a record is absent.
    pub(in super::super) is_complete: bool,
}

impl<const N: usize, const ROOM: usize> Default for BTree<N, ROOM> {
    fn default() -> Self {
        BTree::bare(Known::COMPLETE)
    }
}

impl<const N: usize, const ROOM: usize> BTree<N, ROOM> {
    /// A map without records, all of whose range knows this.
    pub(in super::super) fn bare(known: Known) -> Self {
        let root = Node::Bare(Box::new(known));
        BTree {
            root,
            leaves: Leaves::new(),
            complete_from: known.complete_from,
            forgot: known.forgot,
            times_forgotten: 0,
        }
    }

    /// The newest version of `key`, and what its range knows.
    #[inline]
    pub(in super::super) fn get(&self, key: &[u8]) -> (Option<Version<'_>>, &Known) {
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

    #[inline]
    pub(in super::super) fn find(&self, key: &[u8]) -> Place {
        match Path::to(&self.root, key).1 {
            Node::Leaf(id) => {
                let leaf = &self.leaves[*id];
                let (found, is_complete) = (leaf.search(key), leaf.known.is_complete());
                let (Ok(index) | Err(index)) = found;
                Place { leaf: Some(*id), index, is_taken: found.is_ok(), is_complete }
            }
            Node::Bare(known) => Place { leaf: None, index: 0, is_taken: false, is_complete: known.is_complete() },
            Node::Branch(_) => unreachable!("a path leads to the lowest level"),
        }
    }

    fn leaf_at(&self, place: Place) -> &Leaf<N, ROOM> {
        &self.leaves[place.leaf.expect("a bare range has no key")]
    }

    /// The newest version of the key at `place`, which is taken.
    #[inline]
    pub(in super::super) fn version(&self, place: Place) -> Version<'_> {
        self.leaf_at(place).entry(place.index).1
    }

    /// What the range at `place` knows, which is taken.
    pub(in super::super) fn known(&self, place: Place) -> &Known {
        &self.leaf_at(place).known
    }

    /// Replaces the version of the key at `place`, which is taken. Returns the bytes of the value that lie outside of the leaf: one
    /// that does not fit into it moves out.
    #[inline]
    pub(in super::super) fn set(&mut self, place: Place, version: Version<'_>) -> usize {
        self.leaves[place.leaf.expect("a bare range has no key")].set(place.index, version)
    }

    /// Inserts an entry at `place`, which [`BTree::find`] has found for its key since the last change, and which is not taken.
    #[inline]
    pub(in super::super) fn fill(&mut self, place: Place, key: &[u8], version: Version<'_>) {
        let new = New { key, version };
        match place.leaf.map(|id| &mut self.leaves[id]) {
            Some(leaf) if leaf.has_room(&new) => leaf.insert(place.index, &new),
            _ => self.insert(&new),
        }
    }

    /// Whether it is one leaf, or none, and takes this entry without becoming more.
    pub(super) fn takes(&self, key: &[u8], version: Version<'_>) -> bool {
        let new = New { key, version };
        match &self.root {
            Node::Leaf(id) => self.leaves[*id].has_room(&new),
            Node::Bare(_) => Leaf::<N, ROOM>::takes(&new),
            Node::Branch(_) => false,
        }
    }

    /// The same map, which is one leaf, or none, in a leaf of another size, which must have room for it.
    pub(super) fn resized<const M: usize, const OTHER: usize>(self) -> BTree<M, OTHER> {
        let BTree { root, mut leaves, complete_from, forgot, times_forgotten } = self;
        let (root, leaves) = match root {
            Node::Bare(known) => (Node::Bare(known), Leaves::new()),
            Node::Leaf(id) => {
                let mut resized = Leaves::new();
                let to = resized.add();
                resized[to].take_all(leaves.take(id));
                (Node::Leaf(to), resized)
            }
            Node::Branch(_) => unreachable!("a map of several leaves has wide ones"),
        };
        BTree { root, leaves, complete_from, forgot, times_forgotten }
    }

    /// Whether no leaf is left of it.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.root, Node::Bare(_)) && self.leaves.used() == 0
    }

    /// Prefetches what writes to `keys` will read. Each step is done for all searches before the next step, because a
    /// search learns what it reads next from what it has waited for.
    pub(in super::super) fn fetch(&self, keys: &[&[u8]]) {
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
    pub(super) fn grow(&mut self, split: Option<Split<N, ROOM>>) {
        if let Some(split) = split {
            let left = std::mem::replace(&mut self.root, Node::Bare(Box::new(Known::COMPLETE)));
            self.root = Node::Branch(Branch::over(left, split));
        }
    }

    /// Removes `key`, if it is there.
    pub(in super::super) fn remove(&mut self, key: &[u8]) -> bool {
        if self.root.remove(key, &mut self.leaves).is_none() {
            return false;
        }
        self.collapse();
        true
    }

    /// A root with one child only is none.
    pub(super) fn collapse(&mut self) {
        while let Node::Branch(branch) = &mut self.root
            && let Some(child) = branch.pop_only_child()
        {
            self.root = child;
        }
    }

    /// Frees one leaf with its entries, and the branches above. Returns `false` if only one leaf is left.
    pub(in super::super) fn free_leaf(&mut self) -> bool {
        self.root = Node::Bare(Box::new(Known::COMPLETE));
        self.leaves.drop_last()
    }

    /// Whether most of the memory of its leaves is unused.
    pub(in super::super) fn is_sparse(&self) -> bool {
        self.leaves.is_sparse()
    }

    /// If most of the memory of its leaves is unused, moves up to `budget` leaves, which frees memory. Returns how many
    /// it moved; fewer than `budget` means that there is no more to do.
    pub(in super::super) fn tidy(&mut self, budget: usize) -> usize {
        let BTree { root, leaves, .. } = self;
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
    pub(in super::super) fn leaf_bytes(&self) -> usize {
        self.leaves.len() * size_of::<Leaf<N, ROOM>>()
    }

    /// The bytes of those of its leaves that have entries.
    pub(in super::super) fn used_leaf_bytes(&self) -> usize {
        self.leaves.used() * size_of::<Leaf<N, ROOM>>()
    }

    /// The keys of `range` in order; none if the range ends before it begins.
    pub(in super::super) fn range(&self, range: KeyRange<'_>) -> impl DoubleEndedIterator<Item = (&[u8], Version<'_>)> {
        Range::new(Parts { root: &self.root, leaves: &self.leaves }, range)
    }
}
