//! Building a map from entries in key order: leaf after leaf, without a search.

use std::sync::Arc;

use super::super::version::Version;
use super::branch::{Branch, Leaves, Node, Split};
use super::btree::BTree;
use super::known::Known;
use super::leaf::{Leaf, separator};
use super::pool::{Chunk, Id};
use super::row::Row;
use super::shape::New;
use super::{KeyRange, MOST_ROOM, WIDEST};

/// Leaves in order, in the chunks that hold them.
#[derive(Debug)]
pub(in super::super) struct Built<const N: usize = WIDEST, const ROOM: usize = MOST_ROOM> {
    chunks: Vec<Chunk<Leaf<N, ROOM>>>,
}

/// Puts entries that come in key order into leaves.
#[derive(Debug)]
pub(in super::super) struct Builder<const N: usize = WIDEST, const ROOM: usize = MOST_ROOM> {
    chunks: Vec<Chunk<Leaf<N, ROOM>>>,
    /// How many more leaves are expected.
    expected: usize,
    /// The number of entries in the last leaf.
    len: usize,
}

/// The loader leaves an eighth of a leaf free: a full one would split at the first key inserted.
const fn loaded(full: usize) -> usize {
    full - full / 8
}

impl<const N: usize, const ROOM: usize> Builder<N, ROOM> {
    /// A builder for at most about `entries` entries, given the total bytes of their keys and of their inline values.
    pub(in super::super) fn new(entries: usize, bytes: usize) -> Self {
        Builder { chunks: Vec::new(), expected: Leaf::<N, ROOM>::count_for(entries, bytes, loaded), len: 0 }
    }

    /// Appends an entry. Its key must be above all others.
    pub(in super::super) fn push(&mut self, key: &[u8], version: Version<'_>) {
        let new = New { key, version };
        let len = self.len;
        let room = |leaf: &&mut Leaf<N, ROOM>| len < loaded(N) && leaf.is_below(loaded, &new);
        if let Some(leaf) = self.chunks.last_mut().and_then(Chunk::last_mut).filter(room) {
            leaf.push(len, &new);
            self.len += 1;
            return;
        }
        self.end_leaf();
        if self.chunks.last().is_none_or(Chunk::is_full) {
            self.chunks.push(Chunk::with_room(self.expected));
        }
        self.expected = self.expected.saturating_sub(1);
        if let Some(leaf) = self.chunks.last_mut().map(Chunk::add) {
            leaf.push(0, &new);
        }
        self.len = 1;
    }

    fn end_leaf(&mut self) {
        if let Some(leaf) = self.chunks.last_mut().and_then(Chunk::last_mut) {
            leaf.end_pushing(self.len);
        }
    }

    pub(in super::super) fn finish(mut self) -> Built<N, ROOM> {
        self.end_leaf();
        // There may be fewer leaves than expected.
        self.chunks.last_mut().into_iter().for_each(Chunk::end_building);
        Built { chunks: self.chunks }
    }
}

impl<const N: usize, const ROOM: usize> BTree<N, ROOM> {
    /// Builds the map over some leaves, all of whose ranges know this. No leaf may have a key below those of a leaf before it.
    pub(in super::super) fn of(built: impl IntoIterator<Item = Built<N, ROOM>>, known: Known) -> Self {
        let chunks: Vec<_> = built.into_iter().flat_map(|built| built.chunks).collect();
        if chunks.is_empty() {
            return BTree::bare(known);
        }
        let mut leaves = Leaves::of(chunks);
        leaves.ids().collect::<Vec<_>>().into_iter().for_each(|id| leaves[id].known = known);
        let mut before: Option<&Leaf<N, ROOM>> = None;
        let mut level: Vec<Split<N, ROOM>> = Vec::new();
        for id in leaves.ids() {
            let leaf = &leaves[id];
            let low = before.map_or_else(|| [][..].into(), |before| separator(before.last_key(), leaf.key(0)));
            level.push((low, Node::Leaf(id)));
            before = Some(leaf);
        }
        while level.len() > 1 {
            level = branches(level);
        }
        let root = level.pop().expect("there is a leaf").1;
        BTree { root, leaves, complete_from: known.complete_from, forgot: known.forgot, times_forgotten: 0 }
    }

    /// Its leaves in order. The memory of a chunk is freed with the last of its leaves.
    pub(in super::super) fn into_shared_leaves(self) -> Vec<SharedLeaf<N, ROOM>> {
        let mut ids = Vec::new();
        self.root.leaf_ids(&mut ids);
        let chunks: Vec<_> = self.leaves.into_chunks().map(Arc::new).collect();
        let shared = |id: Id| SharedLeaf { chunk: Arc::clone(&chunks[id.chunk()]), at: id.at() };
        ids.into_iter().map(shared).collect()
    }
}

/// Builds the level above `level`. All branches are about equally full.
fn branches<const N: usize, const ROOM: usize>(level: Vec<Split<N, ROOM>>) -> Vec<Split<N, ROOM>> {
    let (nodes, count) = (level.len(), level.len().div_ceil(loaded(N)));
    let mut level = level.into_iter();
    let mut above = Vec::with_capacity(count);
    for number in 0..count {
        let (mut children, mut separators) = (Row::new(), Vec::with_capacity(N));
        let mut low = None;
        for (separator, node) in level.by_ref().take(nodes * (number + 1) / count - nodes * number / count) {
            children.push(node);
            match low {
                None => low = Some(separator),
                Some(_) => separators.push(separator),
            }
        }
        above.extend(low.map(|low| (low, Node::Branch(Branch::new(children, separators)))));
    }
    above
}

/// A leaf of a map that was taken apart.
#[derive(Clone, Debug)]
pub(in super::super) struct SharedLeaf<const N: usize = WIDEST, const ROOM: usize = MOST_ROOM> {
    chunk: Arc<Chunk<Leaf<N, ROOM>>>,
    at: usize,
}

impl<const N: usize, const ROOM: usize> SharedLeaf<N, ROOM> {
    fn leaf(&self) -> &Leaf<N, ROOM> {
        self.chunk.get(self.at)
    }

    pub(in super::super) fn first_key(&self) -> &[u8] {
        self.leaf().key(0)
    }

    /// The number of entries, and the bytes of their records.
    pub(in super::super) fn size(&self) -> (usize, usize) {
        (self.leaf().len(), self.leaf().used())
    }

    pub(in super::super) fn entries(&self, range: KeyRange<'_>) -> impl Iterator<Item = (&[u8], Version<'_>)> {
        let leaf = self.leaf();
        leaf.indices(range).map(|index| leaf.entry(index))
    }
}
