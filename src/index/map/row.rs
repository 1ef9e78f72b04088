//! The contents of a node, stored in the node itself: a separate allocation would be one more page to wait for.

use std::ops::{Index, IndexMut};

/// Up to `N` items in a row.
#[derive(Debug)]
pub(super) struct Row<T, const N: usize> {
    len: usize,
    /// The first `len` are there.
    items: [Option<T>; N],
}

impl<T, const N: usize> Row<T, N> {
    pub(super) fn new() -> Self {
        Row { len: 0, items: [const { None }; N] }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        (0..self.len).map(|index| &self[index])
    }

    /// Appends an item; there must be room.
    pub(super) fn push(&mut self, item: T) {
        self.items[self.len] = Some(item);
        self.len += 1;
    }

    pub(super) fn insert(&mut self, index: usize, item: T) {
        self.push(item);
        self.items[index..self.len].rotate_right(1);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        self.items[self.len].take()
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        self.items[index..self.len].rotate_left(1);
        self.pop()
    }

    /// Appends the items of `other` from `from` on; there must be room.
    pub(super) fn take_from(&mut self, other: &mut Self, from: usize) {
        for item in other.items[from..other.len].iter_mut().filter_map(Option::take) {
            self.push(item);
        }
        other.len = from;
    }
}

impl<T, const N: usize> Index<usize> for Row<T, N> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        match &self.items[index] {
            Some(item) => item,
            None => no_such_item(index),
        }
    }
}

impl<T, const N: usize> IndexMut<usize> for Row<T, N> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        match &mut self.items[index] {
            Some(item) => item,
            None => no_such_item(index),
        }
    }
}

#[cold]
fn no_such_item(index: usize) -> ! {
    unreachable!("item {index} of a shorter row")
}
