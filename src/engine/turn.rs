//! Whose turn it is to make a checkpoint, or a step of a merge: one thread's at a time. It is no lock, so that a panic or a failure in between
//! leaves nothing behind.

use std::time::Duration;

use crate::rt::sleeper::Backoff;
use crate::rt::sync::{Condvar, Mutex};

#[cfg(test)]
mod tests;

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

/// Whoever waits has the next turn, in the order in which they came: one that takes turn after turn, as a compaction does, keeps
/// nobody waiting for longer than one of them.
#[derive(Debug)]
pub(super) struct Turns {
    numbers: Mutex<Numbers>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct Numbers {
    /// That of the turn which is taken, or comes next.
    present: u64,
    /// The first one that nobody has drawn.
    next: u64,
}

/// The turn of this thread.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    turns: &'t Turns,
}

impl Turns {
    pub(super) fn new() -> Self {
        Turns { numbers: Mutex::default(), over: Condvar::new() }
    }

    pub(super) fn take(&self, wait: Wait) -> Option<Turn<'_>> {
        let mut numbers = self.numbers.lock();
        if wait == Wait::Never && numbers.present < numbers.next {
            return None;
        }
        let own = numbers.next;
        numbers.next += 1;
        while numbers.present < own {
            self.over.wait(&mut numbers);
        }
        Some(Turn { turns: self })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.numbers.lock().present += 1;
        self.turns.over.notify_all();
    }
}
