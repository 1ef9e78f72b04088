//! Wakes the thread that prunes when there is something to prune that no commit will.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::rt::clock;
use crate::rt::sync::{AtomicBool, Condvar, Mutex};

/// The pruner sleeps without a timeout. It arms the bell first and looks for work then. What becomes work before that look
/// is found by it; what becomes work later rings: each kind of work is looked at under the lock that it comes about under.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Whether a commit rings.
    for_commits: AtomicBool,
    /// Whether the end of a snapshot rings: only while garbage is kept for one.
    for_snapshots: AtomicBool,
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
    /// For the last time.
    Stopped,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (for_commits, for_snapshots) = (AtomicBool::new(false), AtomicBool::new(false));
        Bell { for_commits, for_snapshots, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Says that there may be garbage, or commits to apply.
    pub(crate) fn ring_for_commit(&self) {
        if self.for_commits.load(Ordering::Acquire) {
            self.ring();
        }
    }

    /// Says that a snapshot is gone.
    pub(super) fn ring_for_snapshot(&self) {
        if self.for_snapshots.load(Ordering::Acquire) {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let mut state = self.state.lock();
        self.arm(false);
        state.has_rung = true;
        self.changed.notify_all();
    }

    fn arm(&self, rings: bool) {
        self.for_commits.store(rings, Ordering::Release);
        self.for_snapshots.store(rings, Ordering::Release);
    }

    /// From here on commits and the ends of snapshots ring.
    pub(crate) fn listen(&self) {
        let mut state = self.state.lock();
        state.has_rung = false;
        self.arm(true);
    }

    /// No garbage is kept for a snapshot: whose end need not ring.
    pub(crate) fn ignore_snapshots(&self) {
        self.for_snapshots.store(false, Ordering::Release);
    }

    /// Sleeps until the bell has rung since [`Bell::listen`], for at most `time` if there is one.
    pub(crate) fn sleep(&self, time: Option<Duration>) -> Woken {
        self.wait(time, true)
    }

    /// Sleeps for `time`, whatever rings; returns whether it goes on.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        self.wait(Some(time), false) != Woken::Stopped
    }

    fn wait(&self, time: Option<Duration>, is_for_the_bell: bool) -> Woken {
        let deadline = time.map(|time| clock::now().after(time));
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return Woken::Stopped;
            }
            if state.has_rung && is_for_the_bell {
                return Woken::Rung;
            }
            if deadline.is_some_and(|deadline| deadline <= clock::now()) {
                return Woken::TimedOut;
            }
            self.changed.wait_until(&mut state, deadline);
        }
    }

    /// Ends every sleep, from now on.
    pub(crate) fn stop(&self) {
        self.arm(false);
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }
}
