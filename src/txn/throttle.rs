//! Commits wait for background work that does not keep up (`table/MERGING.md`, 6).
//!
//! While nobody has to wait, a commit reads one flag, and compares its count with another under the order lock. The engine says,
//! after each piece of work, from where on commits wait and for how long.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::due::{Amount, SharedAmount};
use crate::base::error::{Error, ErrorKind, Result};
use crate::log::{WaitLimit, runs_callbacks};
use crate::rt::background::is_background;
use crate::rt::clock::{self, Moment};
use crate::rt::sync::{Condvar, Mutex};

/// A wait looks this often whether it is still needed.
const LOOK: Duration = Duration::from_millis(10);

/// What the background owes, and what that costs those who add to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    /// Checkpoints have taken in so much.
    pub(crate) done: Amount,
    /// Nobody waits for what they have not, up to this much.
    pub(crate) bound: Amount,
    /// When they have not so much, commits stop until there is less: what it costs may have been measured before others came who
    /// take the processors, and what is not in tables cannot leave memory.
    pub(crate) stop: Amount,
    /// What a weight of 1 MiB waits when the log owes a half more than the bound.
    pub(crate) log: Duration,
    /// What it waits for merges, as much as they owe now.
    pub(crate) merges: Duration,
}

impl Load {
    /// Never as much.
    pub(crate) const NOTHING: Amount = Amount { bytes: u64::MAX, ops: u64::MAX };
    /// Nobody waits.
    pub(crate) const NONE: Load = Load {
        done: Amount { bytes: 0, ops: 0 },
        bound: Load::NOTHING,
        stop: Load::NOTHING,
        log: Duration::ZERO,
        merges: Duration::ZERO,
    };

    /// From so much on commits have to wait.
    fn from(&self) -> Amount {
        match (self.merges.is_zero(), self.log.is_zero()) {
            (false, _) => Amount::default(),
            (true, false) => self.done.plus(self.bound),
            (true, true) => self.done.plus(self.stop),
        }
    }

    /// Whether commits stop when the log owes so much.
    fn stops(&self, owed: Amount) -> bool {
        owed.weight() >= self.stop.weight()
    }

    /// What a commit of this weight adds to the waits of those behind it. Commits are never held to less than half of what the
    /// work can bear: a measure may be wrong.
    fn delay(&self, owed: u64, weight: u64) -> Duration {
        let bound = self.bound.weight();
        let log = beyond(self.log, owed, bound, bound / 2);
        clock::nanos(((self.merges.as_nanos() + log.as_nanos()) * u128::from(weight)) >> 20)
    }
}

/// Commits that are not waited for but refused: what they would put into memory could not leave it.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// When checkpoints have not taken in so much, ...
    pub(crate) from: Amount,
    /// ... and records take more than this: commits may go on for long that write the same keys again.
    pub(crate) records: u64,
    /// Why they take in nothing.
    pub(crate) cause: Error,
}

impl Refusal {
    fn error(&self) -> Error {
        let message = "the transaction was not committed: checkpoints fail, and memory has no room for more that is not in \
                       tables. Mend what the last one met; one is tried again by itself, and at once with Engine::checkpoint";
        Error::new(self.cause.kind(), message).with_source(self.cause.clone())
    }
}

/// What of a `cost` is waited for when so much is owed: nothing up to the bound, all of it at one unit more, and twice as much
/// from two units more on.
pub(crate) fn beyond(cost: Duration, owed: u64, bound: u64, unit: u64) -> Duration {
    let above = owed.saturating_sub(bound).min(unit.saturating_mul(2));
    clock::nanos(cost.as_nanos() * u128::from(above) / u128::from(unit.max(1)))
}

/// What all commits pass. On lines of the cache that nothing is written to while nobody waits.
#[repr(align(128))]
pub(crate) struct Throttle {
    /// Commits look closer.
    is_on: AtomicBool,
    /// A count below this waits for nothing.
    from: SharedAmount,
    state: Mutex<State>,
    changed: Condvar,
    waits: AtomicU64,
    waited: AtomicU64,
}

struct State {
    load: Load,
    refusal: Option<Refusal>,
    /// When a commit went on last, and its weight: those who wait follow one another.
    passed: Moment,
    weight: u64,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Throttle {
            is_on: AtomicBool::new(false),
            from: SharedAmount::new(Load::NONE.bound),
            state: Mutex::new(State { load: Load::NONE, refusal: None, passed: Moment::default(), weight: 0 }),
            changed: Condvar::new(),
            waits: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// How commits wait, or are refused, from now on, when so much was counted.
    pub(crate) fn set(&self, load: Load, refusal: Option<Refusal>, counted: Amount) {
        let mut state = self.state.lock();
        let refused = refusal.as_ref().map_or(Load::NOTHING, |refusal| load.done.plus(refusal.from));
        (state.load, state.refusal) = (load, refusal);
        let from = load.from().least(refused);
        self.from.store(from);
        self.is_on.store(counted.reaches(from), Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// A commit has brought the count to this much. Under the order lock.
    #[inline]
    pub(super) fn note(&self, counted: Amount) {
        if counted.reaches(self.from.load()) {
            self.is_on.store(true, Ordering::Relaxed);
        }
    }

    /// Whether commits may have to wait, or be refused.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether commits of this thread pass: what they wait for may be waiting for it.
    pub(super) fn lets_this_thread_pass() -> bool {
        is_background() || runs_callbacks()
    }

    /// Lets a commit with `record` on; `counted` is what commits have counted by now, `records` what records take of memory.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) and [`TimedOut`](ErrorKind::TimedOut), as its patience says. That of a [`Refusal`].
    #[inline]
    pub(super) fn pass(
        &self,
        counted: impl Fn() -> Amount,
        record: Amount,
        limit: WaitLimit,
        (is_over, tell, records): (impl Fn() -> bool, impl Fn(), impl Fn() -> u64),
    ) -> Result<()> {
        if !self.is_on() {
            return Ok(());
        }
        self.wait(counted, record.weight(), limit, (is_over, tell, records))
    }

    #[cold]
    fn wait(
        &self,
        counted: impl Fn() -> Amount,
        weight: u64,
        limit: WaitLimit,
        (is_over, tell, records): (impl Fn() -> bool, impl Fn(), impl Fn() -> u64),
    ) -> Result<()> {
        let begin = clock::now();
        let mut has_waited = false;
        let mut state = self.state.lock();
        let result = loop {
            let now = clock::now();
            let owed = counted().above(state.load.done);
            let refusal = state.refusal.as_ref().filter(|refusal| owed.weight() >= refusal.from.weight());
            if let Some(refusal) = refusal.filter(|refusal| records() > refusal.records && !is_over()) {
                break Err(refusal.error());
            }
            // As much as it is now: a debt that has sunk lets those go on who wait for it.
            let next = state.passed.after(state.load.delay(owed.weight(), state.weight));
            let is_stopped = state.load.stops(owed);
            if (next <= now && !is_stopped) || is_over() {
                // A commit that comes long after the last one does not bring its time with it.
                (state.passed, state.weight) = (if has_waited { next } else { now }, weight);
                break Ok(());
            }
            let look = if is_stopped { now.after(LOOK) } else { now.after(LOOK).min(next) };
            if is_stopped {
                // No commit comes through that would tell of the mark: perhaps the thread was never started, or rests.
                drop(state);
                tell();
                state = self.state.lock();
            }
            let until = match limit {
                WaitLimit::Never => break Err(refused(ErrorKind::WouldBlock)),
                WaitLimit::Until(deadline) if deadline <= now => break Err(refused(ErrorKind::TimedOut)),
                WaitLimit::Until(deadline) => look.min(deadline),
                WaitLimit::Forever => look,
            };
            has_waited = true;
            self.changed.wait_until(&mut state, Some(until));
        };
        drop(state);
        if has_waited {
            let waited = clock::now().since(begin);
            self.waits.fetch_add(1, Ordering::Relaxed);
            self.waited.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        result
    }

    /// How many commits have waited, and for how long in sum.
    pub(crate) fn waited(&self) -> (u64, Duration) {
        (self.waits.load(Ordering::Relaxed), Duration::from_nanos(self.waited.load(Ordering::Relaxed)))
    }
}

fn refused(kind: ErrorKind) -> Error {
    let message = "the transaction waits until checkpoints and merges keep up with commits, and was not committed: \
                   try it again later, or let it wait";
    Error::new(kind, message)
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("load", &self.state.lock().load).finish_non_exhaustive()
    }
}
