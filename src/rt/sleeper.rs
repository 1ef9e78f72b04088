//! The sleep of a background thread, which ends when it is rung for, in time, or for good.

use std::time::Duration;

use super::clock;
use super::sync::{Condvar, Mutex};

/// How long to wait before what failed is tried again: each time in a row twice as long as the time before.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, next: first, longest }
    }

    /// It failed once more: how long to wait now.
    pub(crate) fn take(&mut self) -> Duration {
        let next = (self.next * 2).min(self.longest);
        std::mem::replace(&mut self.next, next)
    }

    /// It succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// One thread sleeps here. A ring is kept for it until it is [forgotten](Sleeper::forget).
#[derive(Debug)]
pub(crate) struct Sleeper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_rung: bool,
    is_stopped: bool,
}

/// Why a sleep is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    Rung,
    TimedOut,
    /// The thread is to end.
    Stopped,
}

impl Sleeper {
    pub(crate) fn new() -> Self {
        Sleeper { state: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn ring(&self) {
        self.state.lock().has_rung = true;
        self.changed.notify_all();
    }

    /// Only a ring from now on ends the next sleep.
    pub(crate) fn forget(&self) {
        self.state.lock().has_rung = false;
    }

    /// Sleeps until it has rung since [`Sleeper::forget`], at most for `time` if it is given.
    pub(crate) fn sleep(&self, time: Option<Duration>) -> Woken {
        self.wait(time, true)
    }

    /// Sleeps for `time` whether or not it rings. Returns false if the thread is to end.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        self.wait(Some(time), false) != Woken::Stopped
    }

    fn wait(&self, time: Option<Duration>, is_for_rings: bool) -> Woken {
        let deadline = time.map(|time| clock::now().after(time));
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return Woken::Stopped;
            }
            if state.has_rung && is_for_rings {
                return Woken::Rung;
            }
            if deadline.is_some_and(|deadline| deadline <= clock::now()) {
                return Woken::TimedOut;
            }
            self.changed.wait_until(&mut state, deadline);
        }
    }

    /// Ends the sleep under way and every later one.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }
}
