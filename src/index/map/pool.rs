//! Memory for the leaves of one map, in large chunks.
//!
//! A search in memory that is not in the cache waits for the address translation as long as for the data. So the pool
//! asks the kernel for large pages: one translation then covers more than a hundred leaves (at 1M keys of 16 bytes with
//! values of 100, point reads are faster by half in a virtual machine).

use std::ops::{Index, IndexMut};

use crate::rt::memory::{LARGE, LargePages, LargeVec, give_back_unused};

/// The place of an item in its pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(u32);

impl Id {
    fn new(chunk: usize, at: usize) -> Self {
        Id(u32::try_from(chunk * CHUNK + at).expect("the leaves of a map are in memory"))
    }

    /// The index of its chunk.
    #[inline]
    pub(super) fn chunk(self) -> usize {
        self.0 as usize / CHUNK
    }

    /// The index in that chunk.
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

/// Up to [`CHUNK`] items in contiguous memory.
#[derive(Debug)]
pub(super) struct Chunk<T> {
    items: LargeVec<T>,
    /// The items that are not in use.
    free: Free,
    /// Whether the pool lists this chunk as one with room.
    is_listed: bool,
}

/// A set of places in a chunk.
#[derive(Debug)]
struct Free {
    words: [u64; CHUNK / WORD],
    count: usize,
}

const WORD: usize = u64::BITS as usize;

impl Free {
    fn new() -> Self {
        Free { words: [0; CHUNK / WORD], count: 0 }
    }

    fn insert(&mut self, at: usize) {
        self.words[at / WORD] |= 1 << (at % WORD);
        self.count += 1;
    }

    /// Removes `at`. Returns whether it was in the set.
    // With a branch: `self.count -= usize::from(is_there)` loses updates of `count` in optimized loops of rustc 1.95.0, and
    // a chunk then grows over its end.
    fn remove(&mut self, at: usize) -> bool {
        let (word, bit) = (&mut self.words[at / WORD], 1 << (at % WORD));
        let is_there = *word & bit != 0;
        if is_there {
            *word &= !bit;
            self.count -= 1;
        }
        is_there
    }

    fn pop_first(&mut self) -> Option<usize> {
        let word = self.words.iter().position(|word| *word != 0)?;
        let at = word * WORD + self.words[word].trailing_zeros() as usize;
        self.remove(at).then_some(at)
    }
}

impl<T: Default> Chunk<T> {
    /// With at least this number of items, a chunk does not move in memory to grow.
    const MOST_MOVED: usize = 64;

    /// An empty chunk that does not move before it has `items` items.
    pub(super) fn with_room(items: usize) -> Self {
        let mut chunk = Chunk { items: LargeVec::new_in(LargePages), free: Free::new(), is_listed: false };
        chunk.reserve(items.clamp(1, CHUNK));
        chunk
    }

    fn reserve(&mut self, items: usize) {
        let len = self.items.len();
        self.items.reserve_exact(Self::whole_pages(items) - len);
    }

    /// A number of items that fills its last large page, since that is there as a whole.
    fn whole_pages(items: usize) -> usize {
        let size = size_of::<T>().max(1);
        if items * size < LARGE / 8 * 7 { items } else { ((items * size).div_ceil(LARGE) * LARGE / size).min(CHUNK) }
    }

    /// Gives memory back, if most of it is unused. There were `before` items.
    fn trim(&mut self, before: usize) {
        let (len, capacity) = (self.items.len(), self.items.capacity());
        let page = |items: usize| items * size_of::<T>() / LARGE;
        if page(capacity) == 0 {
            if len < capacity / 2 {
                self.items.shrink_to_fit();
            }
        } else if page(before) != page(len) {
            // To shrink it would move it.
            give_back_unused(&mut self.items);
        }
    }

    /// Gives memory back, if more than an eighth of it is unused: more items were expected than came.
    pub(super) fn end_building(&mut self) {
        let needed = Self::whole_pages(self.items.len());
        if needed < self.items.capacity() - self.items.capacity() / 8 {
            self.items.shrink_to(needed);
        }
    }

    /// Whether it has [`CHUNK`] items, free ones included.
    pub(super) fn is_full(&self) -> bool {
        self.items.len() == CHUNK
    }

    fn has_room(&self) -> bool {
        let most = self.items.capacity().clamp(Self::MOST_MOVED, CHUNK);
        self.free.count > 0 || self.items.len() < most
    }

    /// Adds an empty item; there must be room.
    pub(super) fn add(&mut self) -> &mut T {
        let len = self.items.len();
        if len == self.items.capacity() {
            self.reserve((len * 2).clamp(1, CHUNK));
        }
        self.items.push(T::default());
        &mut self.items[len]
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.items.last_mut()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &T {
        &self.items[at]
    }
}

/// Items that stay where they are, unless their chunk grows or shrinks, or [`Pool::move_one`] moves them.
#[derive(Debug)]
pub(super) struct Pool<T> {
    chunks: Vec<Chunk<T>>,
    /// The numbers of the chunks that have room for more items. It may list some that have none now.
    with_room: Vec<usize>,
    /// The number of items, free ones included.
    len: usize,
    /// The number of free items.
    free: usize,
}

impl<T: Default> Pool<T> {
    pub(super) fn new() -> Self {
        Pool { chunks: Vec::new(), with_room: Vec::new(), len: 0, free: 0 }
    }

    /// A pool of some chunks, none of which is empty.
    pub(super) fn of(mut chunks: Vec<Chunk<T>>) -> Self {
        let with_room: Vec<_> = (0..chunks.len()).rev().filter(|chunk| chunks[*chunk].has_room()).collect();
        with_room.iter().for_each(|chunk| chunks[*chunk].is_listed = true);
        let len = chunks.iter().map(|chunk| chunk.items.len()).sum();
        Pool { chunks, with_room, len, free: 0 }
    }

    pub(super) fn into_chunks(self) -> impl Iterator<Item = Chunk<T>> {
        self.chunks.into_iter()
    }

    /// The ids of all items, in the order of the chunks.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        let of_chunk = |(number, chunk): (usize, &Chunk<T>)| (0..chunk.items.len()).map(move |at| Id::new(number, at));
        self.chunks.iter().enumerate().flat_map(of_chunk)
    }

    /// Adds an empty item.
    pub(super) fn add(&mut self) -> Id {
        let number = self.chunk_with_room();
        let chunk = &mut self.chunks[number];
        if let Some(at) = chunk.free.pop_first() {
            self.free -= 1;
            return Id::new(number, at);
        }
        chunk.add();
        self.len += 1;
        Id::new(number, chunk.items.len() - 1)
    }

    /// Lists a chunk as one with room.
    fn list(&mut self, chunk: usize) {
        if !std::mem::replace(&mut self.chunks[chunk].is_listed, true) {
            self.with_room.push(chunk);
        }
    }

    fn chunk_with_room(&mut self) -> usize {
        while let Some(&number) = self.with_room.last() {
            match self.chunks.get_mut(number) {
                Some(chunk) if chunk.has_room() => return number,
                Some(chunk) => chunk.is_listed = false,
                // The chunk was emptied and dropped.
                None => {}
            }
            self.with_room.pop();
        }
        // The first chunk begins small and moves while it grows: in an engine with many keyspaces most are small. Each
        // later chunk has as much room as all before it, so at most half of the memory is unused.
        let number = self.chunks.len();
        let mut chunk = Chunk::with_room(self.len);
        chunk.is_listed = true;
        self.chunks.push(chunk);
        self.with_room.push(number);
        number
    }

    /// Drops the last item, and the memory of its chunk if the chunk is empty then; keeps the last chunk. Returns
    /// whether another item is left to be dropped. Nothing can be added any more.
    pub(super) fn drop_last(&mut self) -> bool {
        if self.has_several()
            && let Some(chunk) = self.chunks.last_mut()
            && chunk.items.pop().is_some()
        {
            self.len -= 1;
            self.free -= usize::from(chunk.free.remove(chunk.items.len()));
        }
        self.chunks.pop_if(|chunk| chunk.items.is_empty());
        self.has_several()
    }

    fn has_several(&self) -> bool {
        self.chunks.len() > 1 || self.chunks.first().is_some_and(|chunk| chunk.items.len() > 1)
    }

    /// The number of items, free ones included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of items that are in use.
    pub(super) fn used(&self) -> usize {
        self.len - self.free
    }

    /// Whether enough items are free for it to be worth [moving](Pool::move_one) the others.
    pub(super) fn is_sparse(&self) -> bool {
        const FEW: usize = 8;
        self.free >= FEW && self.free * 2 >= self.len
    }

    /// Moves the last used item to the first free place before it, so that the memory behind it can be freed. Returns
    /// its new place; `None` if few items are free.
    pub(super) fn move_one(&mut self) -> Option<Id> {
        while self.free * 8 > self.len {
            let last = self.chunks.last_mut()?;
            let before = last.items.len() + 1;
            while let Some(at) = last.items.len().checked_sub(1)
                && last.free.remove(at)
            {
                last.items.pop();
                self.len -= 1;
                self.free -= 1;
            }
            last.trim(before);
            if last.items.is_empty() {
                self.chunks.pop();
                continue;
            }
            let number = self.chunks.iter().position(|chunk| chunk.free.count > 0)?;
            let at = self.chunks[number].free.pop_first()?;
            let item = self.chunks.last_mut()?.items.pop()?;
            self.list(self.chunks.len() - 1);
            self.len -= 1;
            self.free -= 1;
            self.chunks[number].items[at] = item;
            return Some(Id::new(number, at));
        }
        None
    }

    /// Two different items at once.
    pub(super) fn two_mut(&mut self, a: Id, b: Id) -> (&mut T, &mut T) {
        let ((a, at_a), (b, at_b)) = (a.place(), b.place());
        let found = if a == b {
            self.chunks[a].items.get_disjoint_mut([at_a, at_b]).map(|[a, b]| (a, b))
        } else {
            self.chunks.get_disjoint_mut([a, b]).map(|[a, b]| (&mut a.items[at_a], &mut b.items[at_b]))
        };
        found.expect("two items that are there")
    }

    /// Takes an item out. Its place is then free, and holds an empty item.
    pub(super) fn take(&mut self, id: Id) -> T {
        let chunk = &mut self.chunks[id.chunk()];
        chunk.free.insert(id.at());
        self.free += 1;
        self.list(id.chunk());
        std::mem::take(&mut self[id])
    }
}

impl<T> Index<Id> for Pool<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: Id) -> &T {
        let (chunk, at) = id.place();
        &self.chunks[chunk].items[at]
    }
}

impl<T> IndexMut<Id> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, id: Id) -> &mut T {
        let (chunk, at) = id.place();
        &mut self.chunks[chunk].items[at]
    }
}
