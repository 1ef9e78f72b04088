//! The pace at which background work writes files (`MERGING.md`, 5).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::clock::{self, Moment};
use crate::rt::sync::{Condvar, Mutex, OnceLock};

/// Bytes a second, or as fast as it goes.
type Rate = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// One for each kind of work, so that checkpoints do not wait behind merges.
#[derive(Clone, Default, Debug)]
pub(crate) struct Pacers {
    pub(crate) checkpoints: Arc<Pacer>,
    pub(crate) merges: Arc<Pacer>,
}

/// What all files of one kind of work pass, piece by piece.
#[derive(Default)]
pub(crate) struct Pacer {
    rate: OnceLock<Rate>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// No piece is written before this.
    next: Moment,
    /// How long was waited so far.
    paused: Duration,
    /// Requests that wait for what is written.
    in_a_hurry: usize,
    is_over: bool,
}

/// While it is there nothing is paced.
#[derive(Debug)]
pub(crate) struct Hurry<'p>(&'p Pacer);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.state.lock().in_a_hurry -= 1;
    }
}

impl Pacer {
    /// Says how fast; asked at each piece. Until then nothing is paced.
    pub(crate) fn set_rate(&self, rate: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        let _ = self.rate.set(Box::new(rate));
    }

    /// Has what is under way, and what comes, written as fast as it goes.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        self.state.lock().in_a_hurry += 1;
        self.changed.notify_all();
        Hurry(self)
    }

    /// Nothing waits any more.
    pub(crate) fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Waits until a piece of this length may be written. Returns whether it is paced.
    pub(super) fn wait(&self, bytes: u64) -> bool {
        // Asked without the lock: it may look at the engine.
        let Some(rate) = self.rate.get().and_then(|rate| rate()) else { return false };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut state = self.state.lock();
        let now = clock::now();
        let begin = state.next.max(now);
        state.next = begin.after(time);
        while begin > clock::now() && !state.is_over && state.in_a_hurry == 0 {
            self.changed.wait_until(&mut state, Some(begin));
        }
        state.paused += clock::now().since(now);
        !state.is_over && state.in_a_hurry == 0
    }

    /// How long was waited so far, in sum.
    pub(crate) fn paused(&self) -> Duration {
        self.state.lock().paused
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer").finish_non_exhaustive()
    }
}
