//! Who waits for which LSN to become durable, so that a flush wakes exactly those it served.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::words::clock::Moment;
use crate::words::error::Result;
use crate::words::sync::{self, Condvar, Mutex};

/// What a waiting thread is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// Look again: the position is durable, or the log is poisoned.
    Look,
    /// The right to sync is yours.
    Lead,
}

/// Where one thread waits.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    signal: Mutex<Option<Signal>>,
    changed: Condvar,
}

impl Slot {
    /// This thread's slot. A thread waits for one thing at a time, so it can use one slot for ever.
    pub(crate) fn of_this_thread() -> Arc<Slot> {
        sync::thread_local! {
            static SLOT: Arc<Slot> = Arc::default();
        }
        // A destructor that runs as the thread ends, of a user's thread-local engine, may come after this one's.
        SLOT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Waits for a signal, or until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Moment>) -> Option<Signal> {
        let mut signal = self.signal.lock();
        loop {
            if let Some(signal) = signal.take() {
                return Some(signal);
            }
            if self.changed.wait_until(&mut signal, deadline) {
                return signal.take();
            }
        }
    }

    pub(crate) fn signal(&self, value: Signal) {
        *self.signal.lock() = Some(value);
        self.changed.notify_one();
    }
}

/// A callback with its verdict, on its way to the thread that runs it.
pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// Somebody who waits.
pub(crate) enum Waiter {
    /// A thread that may be made the next flusher.
    Thread(Arc<Slot>),
    /// A thread that only watches.
    Watcher(Arc<Slot>),
    Task(Waker),
    Callback(Callback),
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiter::Thread(_) => "Thread",
            Waiter::Watcher(_) => "Watcher",
            Waiter::Task(_) => "Task",
            Waiter::Callback(_) => "Callback",
        })
    }
}

/// Names a waiter, in LSN order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WaiterId {
    lsn: u64,
    serial: u64,
}

/// All waiters in LSN order.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_lsn: BTreeMap<WaiterId, Waiter>,
    serial: u64,
    threads: usize,
}

impl Waiters {
    pub(crate) fn add(&mut self, lsn: u64, waiter: Waiter) -> WaiterId {
        self.serial += 1;
        let id = WaiterId { lsn, serial: self.serial };
        self.threads += usize::from(matches!(waiter, Waiter::Thread(_)));
        self.by_lsn.insert(id, waiter);
        id
    }

    /// `None` if it was taken already.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.by_lsn.remove(&id)?;
        self.threads -= usize::from(matches!(waiter, Waiter::Thread(_)));
        Some(waiter)
    }

    /// Takes those whose position is at most `durable`, in LSN order.
    pub(crate) fn take_up_to(&mut self, durable: u64) -> Vec<(u64, Waiter)> {
        if self.by_lsn.is_empty() {
            return Vec::new();
        }
        let rest = match durable.checked_add(1) {
            Some(lsn) => self.by_lsn.split_off(&WaiterId { lsn, serial: 0 }),
            None => BTreeMap::new(),
        };
        let served = std::mem::replace(&mut self.by_lsn, rest);
        let served: Vec<_> = served.into_iter().map(|(id, waiter)| (id.lsn, waiter)).collect();
        self.threads -= served.iter().filter(|(_, waiter)| matches!(waiter, Waiter::Thread(_))).count();
        served
    }

    /// Takes the first waiting thread, to make it the next flusher.
    pub(crate) fn take_thread(&mut self) -> Option<Arc<Slot>> {
        if self.threads == 0 {
            return None;
        }
        let id = *self.by_lsn.iter().find(|(_, waiter)| matches!(waiter, Waiter::Thread(_)))?.0;
        match self.remove(id) {
            Some(Waiter::Thread(slot)) => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }
}
