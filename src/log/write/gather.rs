//! Which committers a leader waits for before it flushes, and for how long: learned from the flushes before.
//!
//! The threads that the last flush released come back with their next commits. If the leader waits for them, they share
//! its fsync; if not, they wait for this one and then for their own. Whether waiting pays depends on the device and on
//! what the threads do between two commits, so both are measured.

use std::time::Duration;

/// The longest that a leader ever waits for others.
pub(crate) const MOST: Duration = Duration::from_micros(50);

/// What is known of the flushes so far.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// Threads that were committing around the last flush: those it released and those it left waiting.
    crowd: usize,
    /// What a flush takes: a moving mean, as if those before the first had been slow.
    flush: Duration,
    /// How often in a row fewer than half of the expected committers came in time.
    vain: u32,
}

/// A leader waits until `crowd` committers are there, and for `limit` at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    pub(crate) crowd: usize,
    pub(crate) limit: Duration,
}

impl Default for Gathering {
    fn default() -> Self {
        Gathering { crowd: 0, flush: MOST, vain: 0 }
    }
}

impl Gathering {
    /// After this many waits in vain a leader waits no more ...
    const GIVE_UP: u32 = 4;
    /// ... but at one flush in this many, to learn whether that is still so.
    const TRY_AGAIN: u32 = 16;

    /// The last flush served no one but its leader.
    pub(crate) fn is_alone(&self) -> bool {
        self.crowd <= 1
    }

    /// What a leader waits for; `None` if it flushes at once.
    pub(crate) fn begin(&mut self) -> Option<Wait> {
        if self.is_alone() {
            return None;
        }
        if self.vain >= Self::GIVE_UP {
            self.vain = self.vain.checked_add(1).unwrap_or(Self::GIVE_UP);
            if !self.vain.is_multiple_of(Self::TRY_AGAIN) {
                return None;
            }
        }
        // A committer that comes too late waits for two flushes, this one and the next: the others must not wait longer
        // for it.
        Some(Wait { crowd: self.crowd, limit: MOST.min(2 * self.flush) })
    }

    /// `before` committers were there when the wait began, `after` when it ended: fewer, if a failure has sent them away.
    pub(crate) fn end(&mut self, wait: Wait, before: usize, after: usize) {
        let missing = wait.crowd.saturating_sub(before);
        if missing > 0 {
            self.vain = if 2 * after.saturating_sub(before) >= missing { 0 } else { self.vain.saturating_add(1) };
        }
    }

    /// A flush took `time`, released `released` threads beside its leader, and left `waiting` waiting.
    pub(crate) fn flushed(&mut self, time: Duration, released: usize, waiting: usize) {
        self.crowd = released + 1 + waiting;
        // One stall says nothing about the device's usual time.
        self.flush = (7 * self.flush + time.min(MOST)) / 8;
    }
}
