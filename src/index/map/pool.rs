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

    fn new(chunk: usize, at: usize) -> Self {
        Id(u32::try_from(chunk * CHUNK + at).expect("the leaves of a map are in memory"))
    }

    /// Which chunk it is in.
    #[inline]
    pub(super) fn chunk(self) -> usize {
        self.0 as usize / CHUNK
    }

    /// Where in that chunk.
    #[inline]
    pub(super) fn at(self) -> usize {
        self.0 as usize % CHUNK
    }

    #[inline]
    fn place(self) -> (usize, usize) {
        (self.chunk(), self.at())
    }
}

/// Items of a chunk.
const CHUNK: usize = 1024;

/// Up to so many items in one piece of memory.
#[derive(Debug)]
pub(super) struct Chunk<T>(Vec<T>);

impl<T: Default> Chunk<T> {
    /// An empty one that does not move before it has so many items.
    pub(super) fn with_room(items: usize) -> Self {
        let mut chunk = Chunk(Vec::new());
        chunk.reserve(items.clamp(1, CHUNK));
        chunk
    }

    fn reserve(&mut self, items: usize) {
        self.0.reserve_exact(items - self.0.len());
        prefer_large_pages(&mut self.0);
    }

    /// Gives memory back, if most of it is not used.
    pub(super) fn trim(&mut self) {
        if self.0.len() < self.0.capacity() / 2 {
            self.0.shrink_to_fit();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() == CHUNK
    }

    /// Adds an empty item; there must be room.
    pub(super) fn add(&mut self) -> &mut T {
        let len = self.0.len();
        if len == self.0.capacity() {
            self.reserve((len * 2).clamp(1, CHUNK));
        }
        self.0.push(T::default());
        &mut self.0[len]
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.0.last_mut()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &T {
        &self.0[at]
    }
}

/// Items that stay where they are, unless their chunk grows, as one that begins small does.
#[derive(Debug)]
pub(super) struct Pool<T> {
    chunks: Vec<Chunk<T>>,
    /// The numbers of chunks that have room for more items, and of some that had.
    with_room: Vec<usize>,
    free: Vec<Id>,
}

impl<T: Default> Pool<T> {
    pub(super) fn new() -> Self {
        Pool { chunks: Vec::new(), with_room: Vec::new(), free: Vec::new() }
    }

    /// The items of some chunks, none of which is empty.
    pub(super) fn of(chunks: Vec<Chunk<T>>) -> Self {
        let with_room = (0..chunks.len()).rev().filter(|chunk| !chunks[*chunk].is_full()).collect();
        Pool { chunks, with_room, free: Vec::new() }
    }

    pub(super) fn into_chunks(self) -> impl Iterator<Item = Chunk<T>> {
        self.chunks.into_iter()
    }

    /// The items in the order of their chunks.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        self.chunks.iter().enumerate().flat_map(|(number, chunk)| (0..chunk.0.len()).map(move |at| Id::new(number, at)))
    }

    /// Adds an empty item.
    pub(super) fn add(&mut self) -> Id {
        if let Some(id) = self.free.pop() {
            return id;
        }
        while self.with_room.pop_if(|chunk| self.chunks[*chunk].is_full()).is_some() {}
        let number = *self.with_room.last().unwrap_or(&self.chunks.len());
        if number == self.chunks.len() {
            // The first begins small and moves while it grows: most keyspaces of an engine with many are small.
            self.chunks.push(Chunk::with_room(if number == 0 { 1 } else { CHUNK }));
            self.with_room.push(number);
        }
        let chunk = &mut self.chunks[number];
        chunk.add();
        Id::new(number, chunk.0.len() - 1)
    }

    /// Drops the last item, and the memory of its chunk if that is empty then, unless it is the only one; returns whether
    /// another is left to be dropped. Nothing can be added any more.
    pub(super) fn shed(&mut self) -> bool {
        if self.has_several() {
            self.chunks.last_mut().and_then(|chunk| chunk.0.pop());
        }
        self.chunks.pop_if(|chunk| chunk.0.is_empty());
        self.has_several()
    }

    fn has_several(&self) -> bool {
        self.chunks.len() > 1 || self.chunks.first().is_some_and(|chunk| chunk.0.len() > 1)
    }

    /// How many items there are, free ones included.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.0.len()).sum()
    }

    /// Two items at once, which are not the same.
    pub(super) fn two_mut(&mut self, a: Id, b: Id) -> (&mut T, &mut T) {
        let ((a, at_a), (b, at_b)) = (a.place(), b.place());
        let found = if a == b {
            self.chunks[a].0.get_disjoint_mut([at_a, at_b]).map(|[a, b]| (a, b))
        } else {
            self.chunks.get_disjoint_mut([a, b]).map(|[a, b]| (&mut a.0[at_a], &mut b.0[at_b]))
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
        &self.chunks[chunk].0[at]
    }
}

impl<T> IndexMut<Id> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, id: Id) -> &mut T {
        let (chunk, at) = id.place();
        &mut self.chunks[chunk].0[at]
    }
}
