//! What background work costs, and how fast it falls due (`table/MERGING.md`, 5 and 6).

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::error::Result;
use crate::rt::clock::{self, Moment};
use crate::rt::sync::Mutex;
use crate::txn::due::Amount;

/// What work costs is measured over so many checkpoints' worth of log.
const MEASURED: u64 = 4;
/// Smaller checkpoints are measured together.
const PART: u64 = 16;
/// How fast commits come is measured over no less than this.
const LOOK: Duration = Duration::from_millis(250);
/// After so long without any, none come.
const REST: Duration = Duration::from_secs(1);

/// How the work of this open went.
#[derive(Debug, Default)]
pub(super) struct Debt {
    state: Mutex<State>,
    /// Held while it is said how commits wait: the newest look is to be the last.
    pub(super) telling: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// What checkpoints have taken in, the latest last.
    checkpoints: VecDeque<Work>,
    /// What steps of merges have written, likewise.
    merges: VecDeque<Work>,
    /// The last checkpoint has failed.
    has_failed: bool,
    /// The last checkpoint had nothing to take in, though a whole one was due: nothing was durable. Or it writes from memory.
    finds_nothing: bool,
    merges_fail: bool,
    inflow: Inflow,
}

/// So many bytes, and how long they took, without pauses.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    bytes: u64,
    took: Duration,
}

/// How fast commits come.
#[derive(Debug, Default)]
struct Inflow {
    at: Moment,
    counted: u64,
    /// When some had come.
    last: Moment,
    /// Bytes a second.
    rate: u64,
}

impl State {
    /// Whether checkpoints bring nothing forward for now.
    fn checkpoints_fail(&self) -> bool {
        self.has_failed || self.finds_nothing
    }
}

impl Inflow {
    fn look(&mut self, counted: u64) -> u64 {
        let now = clock::now();
        let time = now.since(self.at);
        if time >= LOOK {
            let bytes = counted.saturating_sub(self.counted);
            if bytes > 0 {
                self.last = now;
            } else if now.since(self.last) >= REST {
                (self.at, self.rate) = (now, 0);
                return 0;
            }
            let rate = u128::from(bytes) * 1_000 / time.as_millis().max(1);
            // Half of it is that of the time before: commits come in bursts.
            self.rate = self.rate.midpoint(u64::try_from(rate).unwrap_or(u64::MAX));
            (self.at, self.counted) = (now, counted);
        }
        self.rate
    }
}

impl Debt {
    /// A checkpoint has taken in so much of the log.
    pub(super) fn took_in(&self, amount: Amount, took: Duration, full: Amount) {
        add(&mut self.state.lock().checkpoints, Work { bytes: amount.weight(), took }, full.weight());
    }

    /// What a request for a checkpoint, or the thread, has come to. One that brings nothing forward, though a whole one is
    /// due, has found nothing durable.
    pub(super) fn checkpointed(&self, made: &Result<u64>, is_due: bool) {
        let mut state = self.state.lock();
        state.has_failed = made.is_err();
        state.finds_nothing = is_due && matches!(made, Ok(0));
    }

    /// What cannot be read is written from memory: that takes as long as it takes.
    pub(super) fn begins_anew(&self) {
        self.state.lock().finds_nothing = true;
    }

    /// A checkpoint has something to take in. Returns whether the last one had nothing.
    pub(super) fn finds_some(&self) -> bool {
        std::mem::take(&mut self.state.lock().finds_nothing)
    }

    /// A step of a merge has written so much.
    pub(super) fn stepped(&self, bytes: u64, took: Duration, full: Amount) {
        let mut state = self.state.lock();
        state.merges_fail = false;
        add(&mut state.merges, Work { bytes, took }, full.weight());
    }

    pub(super) fn step_failed(&self) {
        self.state.lock().merges_fail = true;
    }

    /// The last one has not brought anything forward: nobody waits for what cannot come.
    pub(super) fn checkpoints_fail(&self) -> bool {
        self.state.lock().checkpoints_fail()
    }

    /// What 1 MiB of log costs checkpoints, and what 1 MiB that they write costs merges; nothing before enough was done to
    /// tell, and while they fail: nobody waits for what cannot come. Merges of which not enough was done count as checkpoints do: the first
    /// one may have got stuck.
    pub(super) fn costs(&self, full: Amount) -> (Duration, Duration) {
        let state = self.state.lock();
        let cost = |fails: bool, work: &VecDeque<Work>| {
            let sum = sum(work);
            let is_known = !fails && sum.bytes >= full.weight().saturating_mul(MEASURED);
            let cost = clock::nanos((sum.took.as_nanos() << 20) / u128::from(sum.bytes.max(1)));
            if fails { Some(Duration::ZERO) } else { is_known.then_some(cost) }
        };
        let checkpoints = cost(state.checkpoints_fail(), &state.checkpoints).unwrap_or_default();
        (checkpoints, cost(state.merges_fail, &state.merges).unwrap_or(checkpoints))
    }

    /// How many bytes a second commits write, given how many they have written by now.
    pub(super) fn inflow(&self, counted: u64) -> u64 {
        self.state.lock().inflow.look(counted)
    }
}

/// Adds what was done, and forgets what is too old to be measured.
fn add(work: &mut VecDeque<Work>, one: Work, full: u64) {
    match work.back_mut().filter(|last| last.bytes < full / PART) {
        Some(last) => {
            last.bytes = last.bytes.saturating_add(one.bytes);
            last.took += one.took;
        }
        None => work.push_back(one),
    }
    while let Some(oldest) = work.front()
        && sum(work).bytes - oldest.bytes >= full.saturating_mul(MEASURED)
    {
        work.pop_front();
    }
}

fn sum(work: &VecDeque<Work>) -> Work {
    work.iter().fold(Work::default(), |sum, one| Work {
        bytes: sum.bytes.saturating_add(one.bytes),
        took: sum.took + one.took,
    })
}
