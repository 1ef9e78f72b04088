//! The ordinary build: each call is the plain one of `parking_lot`, `std` or `crossbeam`, unless the feature `sim` is
//! on and the thread takes part in a simulation.

use std::ops::{Deref, DerefMut};
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
pub(crate) use std::thread_local;

/// Locks under which no thread waits, locks or spawns: the work under one is a single step to all other threads.
pub(crate) use parking_lot::{Mutex as ShortMutex, RwLock as ShortRwLock};

use crate::rt::clock::{self, Moment};
#[cfg(feature = "sim")]
use crate::rt::schedule;

/// A mutual exclusion lock without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

/// The guard of a [`Mutex`].
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    /// `None` only while a simulated wait has released the lock.
    inner: Option<parking_lot::MutexGuard<'a, T>>,
    #[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "a simulated wait takes the lock again through it"))]
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        #[cfg(feature = "sim")]
        if schedule::is_simulated() {
            return Guard { inner: Some(self.lock_simulated()), mutex: self };
        }
        Guard { inner: Some(self.0.lock()), mutex: self }
    }

    #[cfg(feature = "sim")]
    fn lock_simulated(&self) -> parking_lot::MutexGuard<'_, T> {
        schedule::yield_point();
        loop {
            match self.0.try_lock() {
                Some(guard) => return guard,
                None => schedule::block_on(self.place(), None),
            };
        }
    }

    #[cfg(feature = "sim")]
    fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
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

#[cfg(feature = "sim")]
impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.inner.take().is_some() {
            schedule::wake_all(self.mutex.place());
        }
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(parking_lot::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        self.wait_until(guard, None);
    }

    /// Waits until notified, or until `deadline` if there is one; returns whether the deadline passed.
    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, deadline: Option<Moment>) -> bool {
        #[cfg(feature = "sim")]
        if schedule::is_simulated() {
            // Only one simulated thread runs at a time, so no notification can come between releasing the lock and
            // blocking.
            guard.inner = None;
            schedule::wake_all(guard.mutex.place());
            let timed_out = schedule::block_on(std::ptr::from_ref(self).addr(), deadline);
            guard.inner = Some(guard.mutex.lock_simulated());
            return timed_out;
        }
        let inner = guard.inner.as_mut().expect("held while the guard is visible");
        match deadline.and_then(clock::instant) {
            Some(instant) => self.0.wait_until(inner, instant).timed_out(),
            None => {
                self.0.wait(inner);
                false
            }
        }
    }

    pub(crate) fn notify_one(&self) {
        #[cfg(feature = "sim")]
        if schedule::is_simulated() {
            schedule::wake_one(std::ptr::from_ref(self).addr());
            return;
        }
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        #[cfg(feature = "sim")]
        if schedule::is_simulated() {
            schedule::wake_all(std::ptr::from_ref(self).addr());
            return;
        }
        self.0.notify_all();
    }
}

/// A background thread.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: std::thread::JoinHandle<()>,
    #[cfg(feature = "sim")]
    simulated: Option<schedule::ThreadId>,
}

/// Starts a background thread called `name`.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
    #[cfg(feature = "sim")]
    if schedule::is_simulated() {
        let (handle, id) = schedule::spawn(name, body)?;
        return Ok(Thread { handle, simulated: Some(id) });
    }
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(Thread {
        handle,
        #[cfg(feature = "sim")]
        simulated: None,
    })
}

impl Thread {
    /// Waits for the thread to end. A thread that joins itself is detached instead.
    pub(crate) fn join(self) {
        if self.handle.thread().id() == std::thread::current().id() {
            return;
        }
        #[cfg(feature = "sim")]
        if let Some(id) = self.simulated
            && schedule::is_simulated()
        {
            schedule::wait_for_end(id);
        }
        // The panic hook has reported a panic of the thread, and the joining thread is cleaning up.
        let _ = self.handle.join();
    }
}

/// The number of threads for work that never waits. In a simulation a constant.
pub(crate) fn parallelism() -> usize {
    #[cfg(feature = "sim")]
    if schedule::is_simulated() {
        return 2;
    }
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Gives the processor to another thread, if one is ready.
pub(crate) fn yield_now() {
    #[cfg(feature = "sim")]
    if schedule::is_simulated() {
        schedule::yield_point();
        return;
    }
    std::thread::yield_now();
}

/// The sending end of a [`channel`].
#[derive(Debug)]
pub(crate) struct Sender<T> {
    queue: crossbeam_channel::Sender<T>,
    /// Declared after the queue, so that it is dropped when the queue is closed.
    #[cfg(feature = "sim")]
    _wakes: WakesReceivers,
}

/// The receiving end of a [`channel`].
#[derive(Debug)]
pub(crate) struct Receiver<T>(crossbeam_channel::Receiver<T>);

/// An unbounded queue between threads. It has one sender, and is closed when that is dropped.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let sender = Sender {
        queue: sender,
        #[cfg(feature = "sim")]
        _wakes: WakesReceivers,
    };
    (sender, Receiver(receiver))
}

#[cfg(feature = "sim")]
/// The place where all simulated receivers wait. Every send wakes all of them, which is cheap because sends are rare.
const CHANNELS: usize = 1;

/// Wakes the receivers when a queue is closed, also by a panic.
#[cfg(feature = "sim")]
#[derive(Debug)]
struct WakesReceivers;

#[cfg(feature = "sim")]
impl Drop for WakesReceivers {
    fn drop(&mut self) {
        schedule::wake_all(CHANNELS);
    }
}

impl<T> Sender<T> {
    /// Queues `value`. Drops it if the receiver is gone.
    pub(crate) fn send(&self, value: T) {
        let _ = self.queue.send(value);
        #[cfg(feature = "sim")]
        schedule::wake_all(CHANNELS);
    }

    /// Closes the queue: the receiver gets the queued values, then `None`.
    pub(crate) fn close(self) {
        drop(self);
    }
}

impl<T> Receiver<T> {
    /// The next value; `None` once the queue is closed and empty.
    pub(crate) fn recv(&self) -> Option<T> {
        #[cfg(feature = "sim")]
        if schedule::is_simulated() {
            loop {
                match self.0.try_recv() {
                    Ok(value) => return Some(value),
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return None,
                    Err(crossbeam_channel::TryRecvError::Empty) => schedule::block_on(CHANNELS, None),
                };
            }
        }
        self.0.recv().ok()
    }

    /// Whether no value is queued now.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
