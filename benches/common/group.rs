//! The raw limit of a disk for several threads: a group commit without an engine.
//!
//! One thread at a time, the leader, writes and syncs for all that wait. These rules make it fast and right:
//!
//! 1. A commit takes its place by [`Group::append`]. Its `sync` returns after a sync that began after its bytes were written.
//! 2. A thread that finds no leader becomes the leader. A thread that finds one waits, and is signalled exactly once.
//! 3. A flush signals the threads that it served, and no others. If threads are left waiting, it makes the first of them
//!    the next leader, and signals that one first, so that the device is busy again while the others wake up.
//! 4. The leader gathers before it writes: it yields until as many threads are there as the last flush served, for at most
//!    [`GATHER`]. A leader whose last flush served no other thread gathers none.
//! 5. A failed flush is final: every waiting thread, and every later `sync`, is told.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::raw::{Medium, Ring};

/// The longest that a leader waits for others.
const GATHER: Duration = Duration::from_micros(50);

/// What a waiting thread is told.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Signal {
    /// Its bytes are durable.
    Durable = 1,
    /// It is the leader now.
    Lead = 2,
    /// The flush failed.
    Failed = 3,
}

/// A thread that waits.
struct Waiter {
    thread: Thread,
    /// Zero, or the [`Signal`].
    signal: AtomicU8,
}

impl Waiter {
    fn of_this_thread() -> Arc<Self> {
        Arc::new(Waiter { thread: thread::current(), signal: AtomicU8::new(0) })
    }

    fn wait(&self) -> Signal {
        loop {
            match self.signal.load(Ordering::Acquire) {
                0 => thread::park(),
                1 => return Signal::Durable,
                2 => return Signal::Lead,
                _ => return Signal::Failed,
            }
        }
    }

    fn signal(&self, signal: Signal) {
        self.signal.store(signal as u8, Ordering::Release);
        self.thread.unpark();
    }
}

pub(crate) struct Group<M = File> {
    ring: Ring<M>,
    state: Mutex<State>,
    /// The length of [`State::waiting`], for a leader that gathers without the lock.
    pub(crate) waiting: AtomicUsize,
    /// Threads woken so far, counted where they are woken.
    pub(crate) wake_ups: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Bytes that no leader has taken.
    buffer: Vec<u8>,
    /// The last flush's buffer, to be filled again.
    spare: Vec<u8>,
    /// Bytes ever appended, and how many of them are durable.
    appended: u64,
    durable: u64,
    has_leader: bool,
    /// The threads that the last flush served, its leader included.
    crowd: usize,
    /// What ends where, and who waits for it, in the order of arrival.
    waiting: VecDeque<(u64, Arc<Waiter>)>,
    failed: Option<(ErrorKind, String)>,
}

impl State {
    fn error(&self) -> Option<Error> {
        self.failed.as_ref().map(|(kind, why)| Error::new(*kind, why.clone()))
    }

    /// Takes the threads whose bytes are durable, or after a failure all.
    fn take_served(&mut self) -> Vec<Arc<Waiter>> {
        let (is_failed, durable) = (self.failed.is_some(), self.durable);
        let (mut served, mut left) = (Vec::with_capacity(self.waiting.len()), VecDeque::new());
        for (end, waiter) in self.waiting.drain(..) {
            if is_failed || end <= durable {
                served.push(waiter);
            } else {
                left.push_back((end, waiter));
            }
        }
        self.waiting = left;
        served
    }
}

impl<M: Medium> Group<M> {
    pub(crate) fn new(ring: Ring<M>) -> Self {
        Group { ring, state: Mutex::default(), waiting: AtomicUsize::new(0), wake_ups: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Adds a record. Returns where it ends, and the bytes that are not durable.
    pub(crate) fn append(&self, record: &[u8]) -> (u64, u64) {
        let mut state = self.lock();
        state.buffer.extend_from_slice(record);
        state.appended += record.len() as u64;
        (state.appended, state.appended - state.durable)
    }

    /// Returns when everything before `end`, which an append has returned, is durable.
    pub(crate) fn sync(&self, end: u64) -> Result<()> {
        let mut state = self.lock();
        if let Some(error) = state.error() {
            return Err(error);
        }
        if state.durable >= end {
            return Ok(());
        }
        if !std::mem::replace(&mut state.has_leader, true) {
            return self.lead(state);
        }
        let waiter = Waiter::of_this_thread();
        state.waiting.push_back((end, Arc::clone(&waiter)));
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        match waiter.wait() {
            Signal::Durable => Ok(()),
            Signal::Lead => self.lead(self.lock()),
            Signal::Failed => self.lock().error().map_or(Ok(()), Err),
        }
    }

    /// Flushes everything appended so far, the leader's own bytes among it.
    fn lead(&self, state: MutexGuard<'_, State>) -> Result<()> {
        let crowd = state.crowd;
        drop(state);
        self.gather(crowd);
        let mut state = self.lock();
        let spare = std::mem::take(&mut state.spare);
        let bytes = std::mem::replace(&mut state.buffer, spare);
        let to = state.appended;
        drop(state);
        let flushed = self.ring.write(&bytes).and_then(|()| self.ring.sync());
        self.hand_over(bytes, to, flushed)
    }

    /// Lets the threads come back that the last flush released.
    fn gather(&self, crowd: usize) {
        if self.waiting.load(Ordering::Relaxed) + 1 >= crowd {
            return;
        }
        let deadline = Instant::now() + GATHER;
        while self.waiting.load(Ordering::Relaxed) + 1 < crowd && Instant::now() < deadline {
            thread::yield_now();
        }
    }

    /// Publishes what a flush up to `to` came to, and ends the leader's turn.
    fn hand_over(&self, mut bytes: Vec<u8>, to: u64, flushed: Result<()>) -> Result<()> {
        bytes.clear();
        let mut state = self.lock();
        state.spare = bytes;
        match &flushed {
            Ok(()) => state.durable = to,
            Err(error) => state.failed = Some((error.kind(), error.to_string())),
        }
        let served = state.take_served();
        state.crowd = served.len() + 1;
        let next = state.waiting.pop_front();
        state.has_leader = next.is_some();
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        if let Some((_, next)) = next {
            self.wake(&next, Signal::Lead);
        }
        let signal = if flushed.is_ok() { Signal::Durable } else { Signal::Failed };
        served.iter().for_each(|waiter| self.wake(waiter, signal));
        flushed
    }

    fn wake(&self, waiter: &Waiter, signal: Signal) {
        self.wake_ups.fetch_add(1, Ordering::Relaxed);
        waiter.signal(signal);
    }
}
