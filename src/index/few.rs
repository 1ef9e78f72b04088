//! A queue that mostly holds one item, and then needs no memory but its own.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// Items in the order in which they were pushed.
#[derive(Debug)]
pub(super) enum Few<T> {
    Single(Option<T>),
    Queue(VecDeque<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few::Single(None)
    }
}

impl<T> Few<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Few::Single(item) => item.as_slice().len(),
            Few::Queue(items) => items.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        match self {
            Few::Single(item) => item.as_slice().get(index),
            Few::Queue(items) => items.get(index),
        }
    }

    pub(super) fn push_back(&mut self, item: T) {
        match self {
            Few::Single(free @ None) => *free = Some(item),
            Few::Single(first) => *self = Few::Queue(first.take().into_iter().chain([item]).collect()),
            Few::Queue(items) => items.push_back(item),
        }
    }

    /// Drops the first `count` items.
    pub(super) fn drop_front(&mut self, count: usize) {
        match self {
            Few::Single(item) => drop(item.take_if(|_| count > 0)),
            Few::Queue(items) => drop(items.drain(..count)),
        }
    }

    pub(super) fn swap(&mut self, a: usize, b: usize) {
        match self {
            Few::Single(item) => item.as_mut_slice().swap(a, b),
            Few::Queue(items) => items.swap(a, b),
        }
    }

    /// How many items at the front satisfy `is_before`, if none behind them does.
    pub(super) fn partition_point(&self, is_before: impl FnMut(&T) -> bool) -> usize {
        match self {
            Few::Single(item) => item.as_slice().partition_point(is_before),
            Few::Queue(items) => items.partition_point(is_before),
        }
    }
}

impl<T> Index<usize> for Few<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        match self {
            Few::Single(item) => &item.as_slice()[index],
            Few::Queue(items) => &items[index],
        }
    }
}

impl<T> IndexMut<usize> for Few<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        match self {
            Few::Single(item) => &mut item.as_mut_slice()[index],
            Few::Queue(items) => &mut items[index],
        }
    }
}
