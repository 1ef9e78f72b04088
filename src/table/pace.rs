//! The pace at which background work writes files (`MERGING.md`, 5).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::clock::{self, Moment};
use crate::rt::sync::{Condvar, Mutex, OnceLock};

/// A wait looks this often how fast it is to go.
const LOOK: Duration = Duration::from_millis(50);

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

/// A piece of work that is measured.
#[derive(Debug)]
pub(crate) struct Begun<'p> {
    pacer: &'p Pacer,
    at: Moment,
    /// What had been waited by then.
    paused: Duration,
}

impl Begun<'_> {
    /// How long it took, without the pauses.
    pub(crate) fn took(self) -> Duration {
        let paused = self.pacer.state.lock().paused.saturating_sub(self.paused);
        clock::now().since(self.at).saturating_sub(paused)
    }
}

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

    /// Waits until a piece of this length may be written: until the one before has had its time. Returns whether it is paced.
    pub(super) fn wait(&self, bytes: u64) -> bool {
        let begin = clock::now();
        loop {
            // Asked without the lock, since it may look at the engine, and again and again: what is owed may have grown.
            let rate = self.rate.get().and_then(|rate| rate());
            let mut state = self.state.lock();
            let now = clock::now();
            let rate = rate.filter(|_| !state.is_over && state.in_a_hurry == 0);
            if state.next > now && rate.is_some() {
                let look = state.next.min(now.after(LOOK));
                self.changed.wait_until(&mut state, Some(look));
                continue;
            }
            state.paused += now.since(begin);
            // What was not paced leaves nothing to be waited for.
            state.next = now.after(rate.map_or(Duration::ZERO, |rate| clock::time_for(bytes, rate)));
            return rate.is_some();
        }
    }

    /// Begins to measure work of this kind, of which one piece is done at a time.
    pub(crate) fn begin(&self) -> Begun<'_> {
        Begun { pacer: self, at: clock::now(), paused: self.state.lock().paused }
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer").finish_non_exhaustive()
    }
}
