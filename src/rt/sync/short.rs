//! The short locks in a build for a model checker: no other thread gets a turn while one is held, which this file
//! checks.
//!
//! All threads of a model are coroutines of one thread of the operating system. If one gave up its turn under a plain
//! lock, the next thread to take that lock would wait for ever. So giving up a turn under one panics instead.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

thread_local! {
    /// The number of short locks that the running coroutine holds. No other coroutine runs while it is not zero.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Whether the running thread holds a short lock.
pub(super) fn is_held() -> bool {
    HELD.get() > 0
}

/// Called at every point at which another thread may get its turn.
pub(super) fn assert_none_is_held() {
    assert!(!is_held(), "bug in forelog: a thread waits, locks or spawns under a short lock");
}

#[derive(Debug)]
struct Held;

impl Held {
    fn new() -> Self {
        HELD.set(HELD.get() + 1);
        Held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// The guard of a short lock.
#[derive(Debug)]
pub(crate) struct ShortGuard<G> {
    inner: G,
    _held: Held,
}

impl<G> ShortGuard<G> {
    fn new(inner: G) -> Self {
        ShortGuard { inner, _held: Held::new() }
    }
}

impl<G: Deref> Deref for ShortGuard<G> {
    type Target = G::Target;
    fn deref(&self) -> &G::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for ShortGuard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.inner
    }
}

#[derive(Debug, Default)]
pub(crate) struct ShortMutex<T>(parking_lot::Mutex<T>);

impl<T> ShortMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        ShortMutex(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> ShortGuard<parking_lot::MutexGuard<'_, T>> {
        ShortGuard::new(self.0.lock())
    }
}

#[derive(Debug, Default)]
pub(crate) struct ShortRwLock<T>(parking_lot::RwLock<T>);

impl<T> ShortRwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        ShortRwLock(parking_lot::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> ShortGuard<parking_lot::RwLockReadGuard<'_, T>> {
        ShortGuard::new(self.0.read())
    }

    pub(crate) fn write(&self) -> ShortGuard<parking_lot::RwLockWriteGuard<'_, T>> {
        ShortGuard::new(self.0.write())
    }
}
