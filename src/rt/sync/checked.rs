//! The build for a model checker: every name of the ordinary build, implemented with the checker's types.
//!
//! **Time** stands still, except for two events: a yield takes [`YIELD`], and a wait with a deadline may end at the
//! deadline. Under shuttle such a wait ends at its deadline after a random number of turns (PCT gives it none while
//! another thread can run), even if other threads can still run: as early and as late as any device. Under loom it
//! never ends by its deadline, which keeps a model finite: a loom model must end without a timeout.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[cfg(loom)]
use loom::{sync, thread};
#[cfg(shuttle)]
use shuttle::{sync, thread};

#[cfg(loom)]
pub(crate) use loom::thread_local;
#[cfg(shuttle)]
pub(crate) use shuttle::thread_local;

use super::short::assert_none_is_held;
use crate::rt::clock::Moment;

/// The time that a yield takes: the whole time that a gathering leader waits, so that it yields once.
const YIELD: Duration = Duration::from_micros(50);

mod virtual_time {
    use std::sync::atomic::AtomicU64;
    // One for each execution. A plain atomic: reading the clock is not a step of the model.
    #[cfg(loom)]
    loom::lazy_static! { pub(super) static ref NANOS: AtomicU64 = AtomicU64::new(0); }
    #[cfg(shuttle)]
    shuttle::lazy_static! { pub(super) static ref NANOS: AtomicU64 = AtomicU64::new(0); }
}

/// The present moment of the execution.
pub(crate) fn time() -> Moment {
    Moment::at(Duration::from_nanos(virtual_time::NANOS.load(Ordering::Relaxed)))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A point at which another thread may get its turn.
pub(crate) fn point() {
    assert_none_is_held();
    // Shuttle's sleep only changes threads. Under loom the model's disk has such points of its own.
    #[cfg(shuttle)]
    thread::sleep(Duration::ZERO);
}

/// Gives the turn to another thread, if one is runnable.
pub(crate) fn yield_now() {
    assert_none_is_held();
    virtual_time::NANOS.fetch_add(nanos(YIELD), Ordering::Relaxed);
    thread::yield_now();
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// An atomic. At each access another thread may get its turn.
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            value: atomics::$name,
            accesses: atomics::Accesses,
        }

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                $name { value: atomics::$name::new(value), accesses: atomics::Accesses::default() }
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.accesses.note();
                self.value.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.accesses.note();
                self.value.store(value, order);
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU64, u64);

#[cfg(unix)]
impl AtomicBool {
    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        self.accesses.note();
        self.value.swap(value, order)
    }
}

#[cfg(unix)]
impl AtomicU64 {
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.accesses.note();
        self.value.fetch_max(value, order)
    }
}

#[cfg(loom)]
mod atomics {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64};

    /// Loom races each access only with the one before it, so a thread that loads before it stores hides its store from
    /// threads that loaded earlier. Here every access is a read-modify-write as well, so each one races with the one
    /// before. That access is relaxed, so it orders nothing that the program does not order.
    #[derive(Debug, Default)]
    pub(super) struct Accesses(AtomicU64);

    impl Accesses {
        pub(super) fn note(&self) {
            self.0.fetch_add(1, super::Ordering::Relaxed);
        }
    }
}

#[cfg(shuttle)]
mod atomics {
    // Shuttle's own atomics do no more than these, and would give up the turn under a short lock too.
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64};

    #[derive(Debug, Default)]
    pub(super) struct Accesses;

    impl Accesses {
        pub(super) fn note(&self) {
            // Accesses under a short lock are one step with the lock.
            if !super::super::short::is_held() {
                super::point();
            }
        }
    }
}

/// A mutual exclusion lock without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// The guard of a [`Mutex`].
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    /// `None` only while a wait has released the lock.
    inner: Option<sync::MutexGuard<'a, T>>,
    #[cfg_attr(loom, expect(dead_code, reason = "a wait with a deadline takes the lock again through it"))]
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        assert_none_is_held();
        Guard { inner: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)), mutex: self }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.inner.as_ref().expect("held while the guard is visible")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("held while the guard is visible")
    }
}

/// A condition variable for [`Mutex`]. It never wakes spuriously; the callers allow for spurious wakes.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    inner: sync::Condvar,
    /// Counts the notifications, for waits with a deadline: these take turns instead of sleeping.
    #[cfg(shuttle)]
    notified: std::sync::atomic::AtomicU64,
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        assert_none_is_held();
        let inner = guard.inner.take().expect("held while the guard is visible");
        guard.inner = Some(self.inner.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until notified, or until `deadline` if there is one; returns whether the deadline passed.
    #[cfg(loom)]
    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _: Option<Moment>) -> bool {
        self.wait(guard);
        false
    }

    /// Waits until notified, or until `deadline` if there is one; returns whether the deadline passed.
    #[cfg(shuttle)]
    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, deadline: Option<Moment>) -> bool {
        use shuttle::rand::Rng;
        let Some(deadline) = deadline else {
            self.wait(guard);
            return false;
        };
        let before = self.notified.load(Ordering::Relaxed);
        loop {
            guard.inner = None;
            yield_now();
            guard.inner = guard.mutex.lock().inner.take();
            if self.notified.load(Ordering::Relaxed) != before {
                return false;
            }
            if time() >= deadline || shuttle::rand::thread_rng().gen_ratio(1, 4) {
                virtual_time::NANOS.fetch_max(nanos(deadline.since_start()), Ordering::Relaxed);
                return true;
            }
        }
    }

    pub(crate) fn notify_one(&self) {
        self.count();
        self.inner.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.count();
        self.inner.notify_all();
    }

    fn count(&self) {
        assert_none_is_held();
        #[cfg(shuttle)]
        self.notified.fetch_add(1, Ordering::Relaxed);
    }
}

/// A background thread.
#[derive(Debug)]
pub(crate) struct Thread(thread::JoinHandle<()>);

/// Starts a background thread called `name`.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
    assert_none_is_held();
    thread::Builder::new().name(name.to_owned()).spawn(body).map(Thread)
}

impl Thread {
    /// Waits for the thread to end. A thread that joins itself is detached instead.
    pub(crate) fn join(self) {
        assert_none_is_held();
        if self.0.thread().id() != thread::current().id() {
            let _ = self.0.join();
        }
    }
}

/// The number of threads for work that never waits.
pub(crate) fn parallelism() -> usize {
    2
}

/// A value that is set once.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    /// Makes the value visible, in the checker's memory model.
    is_set: AtomicBool,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        OnceLock { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    /// Returns `value` if another one was set before.
    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let result = self.value.set(value);
        if result.is_ok() {
            self.is_set.store(true, Ordering::Release);
        }
        // The thread that set the value may not have reached the line above yet.
        while !self.is_set.load(Ordering::Acquire) {
            yield_now();
        }
        result
    }
}

#[derive(Debug)]
struct Queue<T> {
    /// The values, and whether the sender is closed.
    state: Mutex<(VecDeque<T>, bool)>,
    changed: Condvar,
}

/// The sending end of a [`channel`].
#[derive(Debug)]
pub(crate) struct Sender<T>(std::sync::Arc<Queue<T>>);

/// The receiving end of a [`channel`].
#[derive(Debug)]
pub(crate) struct Receiver<T>(std::sync::Arc<Queue<T>>);

/// An unbounded queue between threads. It has one sender, and is closed when that is dropped.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let queue = std::sync::Arc::new(Queue { state: Mutex::new((VecDeque::new(), false)), changed: Condvar::new() });
    (Sender(std::sync::Arc::clone(&queue)), Receiver(queue))
}

impl<T> Sender<T> {
    /// Queues `value`. Drops it if the receiver is gone.
    pub(crate) fn send(&self, value: T) {
        self.0.state.lock().0.push_back(value);
        self.0.changed.notify_one();
    }

    /// Closes the queue: the receiver gets the queued values, then `None`.
    pub(crate) fn close(self) {
        drop(self);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state.lock().1 = true;
        self.0.changed.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The next value; `None` once the queue is closed and empty.
    pub(crate) fn recv(&self) -> Option<T> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(value) = state.0.pop_front() {
                return Some(value);
            }
            if state.1 {
                return None;
            }
            self.0.changed.wait(&mut state);
        }
    }

    /// Whether no value is queued now.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.state.lock().0.is_empty()
    }
}
