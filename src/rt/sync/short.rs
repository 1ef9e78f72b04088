//! The locks that are no place for another thread's turn, in a build for a model checker, which proves it.
//!
//! All threads of a model are coroutines of one thread of the operating system: had one given up its turn under a
//! plain lock, the next to want that lock would wait for ever. So whoever gives up a turn under one panics instead.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

thread_local! {
    /// By the coroutine that runs now: there is no other while it is not zero.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Whether the running thread is inside a single step.
pub(super) fn is_held() -> bool {
    HELD.get() > 0
}

/// To be called wherever another thread may get its turn.
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

/// The right to what a short lock guards.
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
