//! Memory for the leaves of one map, in large pieces.
//!
//! A search in memory that is not in the cache waits for the address translation as much as for the data, so the kernel
//! is asked for large pages: one translation then covers more than a hundred leaves (at 1M keys of 16 bytes with values of
//! 100, point reads are faster by half in a virtual machine).

use std::ops::{Index, IndexMut};

use crate::words::memory::prefer_large_pages;

/// The place of an item in its pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(u32);

impl Id {
    /// Of the item that is added first.
    pub(super) const FIRST: Id = Id(0);

    /// Which chunk it is in, and where.
    #[inline]
    fn place(self) -> (usize, usize) {
        (self.0 as usize / CHUNK, self.0 as usize % CHUNK)
    }
}

/// Items that stay where they are, but for the first few.
#[derive(Debug)]
pub(super) struct Pool<T> {
    /// All but the last are full.
    chunks: Vec<Vec<T>>,
    free: Vec<Id>,
}

/// Items of a chunk.
const CHUNK: usize = 1024;

impl<T: Default> Pool<T> {
    pub(super) fn new() -> Self {
        Pool { chunks: Vec::new(), free: Vec::new() }
    }

    /// Adds an empty item.
    pub(super) fn add(&mut self) -> Id {
        if let Some(id) = self.free.pop() {
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::new());
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        if chunk.len() == chunk.capacity() {
            // The first begins small and moves while it grows: most keyspaces of an engine with many are small.
            let room = if number == 0 { (chunk.len() * 2).clamp(1, CHUNK) } else { CHUNK };
            chunk.reserve_exact(room - chunk.len());
            prefer_large_pages(chunk);
        }
        chunk.push(T::default());
        Id(u32::try_from(number * CHUNK + chunk.len() - 1).expect("the leaves of a map are in memory"))
    }

    /// Drops the last item, and the memory of its chunk if that is empty then, unless it is the only one; returns whether
    /// another is left to be dropped.
    pub(super) fn shed(&mut self) -> bool {
        if self.len() > 1 {
            self.chunks.last_mut().and_then(Vec::pop);
        }
        self.chunks.pop_if(|chunk| chunk.is_empty());
        self.len() > 1
    }

    /// How many items there are, free ones included.
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Two items at once, which are not the same.
    pub(super) fn two_mut(&mut self, a: Id, b: Id) -> (&mut T, &mut T) {
        let ((a, at_a), (b, at_b)) = (a.place(), b.place());
        let found = if a == b {
            self.chunks[a].get_disjoint_mut([at_a, at_b]).map(|[a, b]| (a, b))
        } else {
            self.chunks.get_disjoint_mut([a, b]).map(|[a, b]| (&mut a[at_a], &mut b[at_b]))
        };
        found.expect("two items that are there")
    }

    /// Takes an item out; its place is free then, and empty.
    pub(super) fn take(&mut self, id: Id) -> T {
        self.free.push(id);
        std::mem::take(&mut self[id])
    }
}

impl<T> Index<Id> for Pool<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: Id) -> &T {
        let (chunk, at) = id.place();
        &self.chunks[chunk][at]
    }
}

impl<T> IndexMut<Id> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, id: Id) -> &mut T {
        let (chunk, at) = id.place();
        &mut self.chunks[chunk][at]
    }
}
