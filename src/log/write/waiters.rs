//! The waiters, by the LSN that must become durable, so that a flush wakes exactly those it served.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::base::error::Result;
use crate::rt::clock::Moment;
use crate::rt::sync::{self, Condvar, Mutex};

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    Reached,
    TimedOut,
}

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

/// One waiter: a thread, a task, or a callback.
pub(crate) enum Waiter {
    /// A thread that may be made the next flusher.
    Thread(Arc<Slot>),
    /// A thread that only watches.
    Watcher(Arc<Slot>),
    Task(Waker),
    Callback(Callback),
}

impl Waiter {
    fn is_thread(&self) -> bool {
        matches!(self, Waiter::Thread(_))
    }
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

#[cfg(test)]
impl WaiterId {
    pub(crate) fn lsn(self) -> u64 {
        self.lsn
    }
}

/// Who waits for this waits for the end of the log, and not for its failure: there is no such LSN.
pub(crate) const AT_THE_END: u64 = u64::MAX;
/// Who waits for this waits for the end of the log, or for its failure.
pub(crate) const NEVER: u64 = AT_THE_END - 1;

/// All waiters in LSN order.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The waiters that came in LSN order, as most do. One that is taken out of turn leaves an empty place.
    in_order: VecDeque<(WaiterId, Option<Waiter>)>,
    /// How many of the places are empty.
    empty: usize,
    /// The waiters that came after one of a higher LSN, and those that wait for no LSN.
    late: BTreeMap<WaiterId, Waiter>,
    serial: u64,
    threads: usize,
}

impl Waiters {
    pub(crate) fn add(&mut self, lsn: u64, waiter: Waiter) -> WaiterId {
        self.serial += 1;
        let id = WaiterId { lsn, serial: self.serial };
        self.threads += usize::from(waiter.is_thread());
        if lsn < NEVER && self.in_order.back().is_none_or(|(last, _)| *last < id) {
            self.in_order.push_back((id, Some(waiter)));
        } else {
            self.late.insert(id, waiter);
        }
        id
    }

    /// `None` if it was taken already.
    pub(crate) fn get(&self, id: WaiterId) -> Option<&Waiter> {
        match self.place(id) {
            Some(place) => self.in_order[place].1.as_ref(),
            None => self.late.get(&id),
        }
    }

    /// `None` if it was taken already.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = match self.place(id) {
            Some(place) => self.empty_place(place),
            None => self.late.remove(&id),
        }?;
        self.threads -= usize::from(waiter.is_thread());
        Some(waiter)
    }

    /// Takes those whose position is at most `durable`, in LSN order, and for the same LSN in the order in which they came.
    pub(crate) fn take_up_to(&mut self, durable: u64) -> Vec<(u64, Waiter)> {
        let places = self.in_order.partition_point(|(id, _)| id.lsn <= durable);
        let mut served = Vec::with_capacity(places);
        for (id, waiter) in self.in_order.drain(..places) {
            match waiter {
                Some(waiter) => served.push((id, waiter)),
                None => self.empty -= 1,
            }
        }
        if self.late.first_key_value().is_some_and(|(id, _)| id.lsn <= durable) {
            let rest = match durable.checked_add(1) {
                Some(lsn) => self.late.split_off(&WaiterId { lsn, serial: 0 }),
                None => BTreeMap::new(),
            };
            let late = std::mem::replace(&mut self.late, rest);
            served.extend(late);
            served.sort_unstable_by_key(|(id, _)| *id);
        }
        self.threads -= served.iter().filter(|(_, waiter)| waiter.is_thread()).count();
        served.into_iter().map(|(id, waiter)| (id.lsn, waiter)).collect()
    }

    /// Takes the first waiting thread, to make it the next flusher.
    pub(crate) fn take_thread(&mut self) -> Option<Arc<Slot>> {
        if self.threads == 0 {
            return None;
        }
        let is_thread = |waiter: &Option<Waiter>| waiter.as_ref().is_some_and(Waiter::is_thread);
        let in_order = self.in_order.iter().find(|(_, waiter)| is_thread(waiter)).map(|(id, _)| *id);
        let late = self.late.iter().find(|(_, waiter)| waiter.is_thread()).map(|(id, _)| *id);
        match self.remove(in_order.into_iter().chain(late).min()?) {
            Some(Waiter::Thread(slot)) => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The place of one that came in order.
    fn place(&self, id: WaiterId) -> Option<usize> {
        self.in_order.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn empty_place(&mut self, place: usize) -> Option<Waiter> {
        let waiter = self.in_order[place].1.take()?;
        self.empty += 1;
        // On a device that stalls, threads with a deadline come and go: empty places must not pile up.
        if self.empty > self.in_order.len() / 2 {
            self.in_order.retain(|(_, waiter)| waiter.is_some());
            self.empty = 0;
        }
        Some(waiter)
    }
}
