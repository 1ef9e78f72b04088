//! Whose turn it is to make a checkpoint, or a step of a merge: one thread's at a time. It is no lock, so that a panic or a failure in between
//! leaves nothing behind.

use std::time::Duration;

use crate::rt::sleeper::Backoff;
use crate::rt::sync::{Condvar, Mutex};

/// When a thread tries again what failed: after 1, 2, 4 .. 60 s.
pub(super) fn retries() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

/// What is done while another thread has the turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    ForItsTurn,
    /// Nothing: there is no turn then.
    Never,
}

#[derive(Debug)]
pub(super) struct Turns {
    is_taken: Mutex<bool>,
    over: Condvar,
}

/// The turn of this thread.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    turns: &'t Turns,
}

impl Turns {
    pub(super) fn new() -> Self {
        Turns { is_taken: Mutex::default(), over: Condvar::new() }
    }

    pub(super) fn take(&self, wait: Wait) -> Option<Turn<'_>> {
        let mut is_taken = self.is_taken.lock();
        while *is_taken {
            if wait == Wait::Never {
                return None;
            }
            self.over.wait(&mut is_taken);
        }
        *is_taken = true;
        Some(Turn { turns: self })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.turns.is_taken.lock() = false;
        self.turns.over.notify_all();
    }
}
