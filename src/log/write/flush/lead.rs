//! The right to sync: which committer becomes the leader, which others it waits for, and how it hands the right on.

use std::task::Waker;
use std::time::Duration;

use super::Flusher;
use crate::base::error::Error;
use crate::log::write::waiters::{AT_THE_END, Callback, NEVER, Signal, Waiter};
use crate::rt::clock::{self, Moment};
use crate::rt::guard::contain;
use crate::rt::sync;

impl Flusher {
    /// Flushes everything appended so far. Called with the right to sync, which it gives on.
    pub(super) fn lead(&self) {
        let right = SyncRight::new(self);
        self.gather();
        right.flush(clock::now(), &mut || ());
    }

    /// Makes this committer the leader if no flush is running and the last flush served no one else.
    pub(in crate::log) fn lead_alone(&self) -> Option<LoneFlush<'_>> {
        let mut state = self.sync.lock();
        if state.taken || !state.gathering.is_alone() || state.closed {
            return None;
        }
        state.taken = true;
        Some(LoneFlush { right: SyncRight::new(self) })
    }

    fn gather(&self) {
        let came = || self.sync.lock().waiters.threads() + 1;
        let Some(wait) = self.sync.lock().gathering.begin() else { return };
        let (begun, before) = (clock::now(), came());
        let deadline = begun.after(wait.limit);
        let mut now = before;
        while now < wait.crowd && clock::now() < deadline {
            sync::yield_now();
            now = came();
        }
        self.sync.lock().gathering.end(wait, before, now);
    }

    /// After the last flush: tells every waiter beyond it that no flush will come.
    pub(in crate::log) fn end_waits(&self) {
        self.sync.lock().closed = true;
        self.wake_served(HandOn::Nothing);
    }

    /// Wakes waiters whose position is durable, or all of them if the log is poisoned or closed. Called without any lock.
    pub(super) fn wake_served(&self, hand_on: HandOn) {
        let (slots, wakers, next) = {
            let mut state = self.sync.lock();
            let up_to = match self.appender.failure.poisoned() {
                _ if state.closed => AT_THE_END,
                Some(_) => NEVER,
                None => self.appender.positions.durable(),
            };
            let served = state.waiters.take_up_to(up_to);
            let mut next = None;
            if let HandOn::Right { flush } = hand_on {
                let released = served.iter().filter(|(_, waiter)| matches!(waiter, Waiter::Thread(_))).count();
                let waiting = state.waiters.threads();
                state.gathering.flushed(flush, released, waiting);
                next = state.waiters.take_thread();
                state.taken = next.is_some();
            }
            // Callbacks are queued under the lock: two flushes in a row must not swap their order.
            let (mut slots, mut wakers) = (Vec::with_capacity(served.len()), Vec::new());
            for (lsn, waiter) in served {
                match waiter {
                    Waiter::Callback(callback) => self.queue_callback(callback, lsn),
                    Waiter::Thread(slot) | Waiter::Watcher(slot) => slots.push(slot),
                    Waiter::Task(waker) => wakers.push(waker),
                }
            }
            (slots, wakers, next)
        };
        // The next leader first: the device is idle until it runs.
        if let Some(slot) = next {
            slot.signal(Signal::Lead);
        }
        for slot in slots {
            slot.signal(Signal::Look);
        }
        #[cfg(unix)]
        self.ring();
        // A user's code comes last: it may wait for one of the threads woken above, and it may panic.
        wake_all(wakers);
    }

    fn queue_callback(&self, callback: Callback, lsn: u64) {
        let verdict = self.appender.verdict_on(lsn);
        self.callbacks.queue(callback, verdict);
    }
}

/// Whether the thread that wakes waiters also hands the right to sync on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HandOn {
    /// Of a flush that took so long.
    Right {
        flush: Duration,
    },
    Nothing,
}

/// The right to sync; handed on when dropped, also by a panic, so that no committer waits for a leader that is gone.
struct SyncRight<'a> {
    flusher: &'a Flusher,
    /// How long the flush took.
    took: Duration,
    /// The flush came to its end. (Whether the thread is panicking does not tell: it may flush while it unwinds.)
    returned: bool,
}

impl<'a> SyncRight<'a> {
    fn new(flusher: &'a Flusher) -> Self {
        SyncRight { flusher, took: Duration::ZERO, returned: false }
    }

    /// Makes everything appended so far durable, which began at `begun`, and gives the right on. `meanwhile` is called
    /// once or more, at the latest when that is over.
    fn flush(mut self, begun: Moment, meanwhile: &mut dyn FnMut()) {
        let flusher = self.flusher;
        let in_one = flusher.appender.settings.io_uring;
        let flushed = if in_one { flusher.submit_flush(meanwhile) } else { flusher.write_and_sync() };
        meanwhile();
        if let Err(alarm) = flushed {
            alarm.raise(flusher);
        }
        self.took = clock::now().since(begun);
        self.returned = true;
    }
}

impl Drop for SyncRight<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.flusher.appender.stop(Error::bug("a flush panicked")).raise(self.flusher);
        }
        self.flusher.wake_served(HandOn::Right { flush: self.took });
    }
}

/// A flush by a committer that is alone. While the device works it does what need not be done before the record is there.
/// To drop it is a failure, as a panic within a flush is.
pub(crate) struct LoneFlush<'a> {
    right: SyncRight<'a>,
}

impl LoneFlush<'_> {
    /// Makes everything appended so far durable, and gives the right to sync on. Calls `meanwhile` when it is written
    /// and the device has begun with it, or when that failed.
    pub(crate) fn run(self, meanwhile: impl FnOnce()) {
        let flusher = self.right.flusher;
        let begun = clock::now();
        let mut meanwhile = Some(meanwhile);
        let mut once = || {
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile();
            }
        };
        if !flusher.appender.settings.io_uring {
            if let Err(alarm) = flusher.write_and_start_writeback() {
                alarm.raise(flusher);
            }
            once();
        }
        self.right.flush(begun, &mut once);
    }
}

/// Wakes the tasks. Of several wakers in a row that wake one task, one is woken.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    // Each commit comes here, and mostly nobody waits.
    if wakers.is_empty() {
        return;
    }
    let mut before: Option<Waker> = None;
    for waker in wakers {
        // A panic of a waker is neither the other waiters' fault nor this thread's. Its drop is contained apart: in the
        // same call it would run while the first panic unwinds, and a second one would abort the process.
        let _ = contain(|| {
            if before.as_ref().is_none_or(|before| !before.will_wake(&waker)) {
                waker.wake_by_ref();
            }
        });
        if let Some(before) = before.replace(waker) {
            let _ = contain(|| drop(before));
        }
    }
    let _ = contain(|| drop(before));
}
