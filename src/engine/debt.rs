//! What background work costs, and how fast it falls due (`table/MERGING.md`, 5 and 6).

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::error::Result;
use crate::rt::clock::{self, Moment};
use crate::rt::sync::Mutex;
use crate::txn::due::Amount;

/// What work costs is measured over so many checkpoints' worth of log.
const MEASURED: u64 = 4;
/// How fast commits come is measured over no less than this.
const LOOK: Duration = Duration::from_millis(250);

/// How the work of this open went.
#[derive(Debug, Default)]
pub(super) struct Debt {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest checkpoints, the latest last.
    work: VecDeque<Work>,
    /// Of merges, since the last checkpoint.
    merging: Duration,
    checkpoints_fail: bool,
    merges_fail: bool,
    inflow: Inflow,
}

/// What has been done for so much of the log, and how long it took, without pauses.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    weight: u64,
    checkpoint: Duration,
    merging: Duration,
}

/// How fast commits come.
#[derive(Debug, Default)]
struct Inflow {
    at: Moment,
    counted: u64,
    /// Bytes a second.
    rate: u64,
}

impl Inflow {
    fn look(&mut self, counted: u64) -> u64 {
        let time = clock::now().since(self.at);
        if time >= LOOK {
            let bytes = counted.saturating_sub(self.counted);
            let rate = u128::from(bytes) * 1_000 / time.as_millis().max(1);
            // Half of it is that of the time before: commits come in bursts.
            self.rate = self.rate.midpoint(u64::try_from(rate).unwrap_or(u64::MAX));
            (self.at, self.counted) = (clock::now(), counted);
        }
        self.rate
    }
}

impl Debt {
    /// A checkpoint has taken in so much of the log.
    pub(super) fn took_in(&self, amount: Amount, took: Duration, full: Amount) {
        let mut state = self.state.lock();
        let merging = std::mem::take(&mut state.merging);
        state.work.push_back(Work { weight: amount.weight(), checkpoint: took, merging });
        let enough = full.times(MEASURED).weight();
        while let Some(oldest) = state.work.front()
            && sum(&state.work).weight - oldest.weight >= enough
        {
            state.work.pop_front();
        }
    }

    /// What a request for a checkpoint, or the thread, has come to. One that found nothing durable brings nothing forward.
    pub(super) fn checkpointed(&self, made: &Result<u64>) {
        self.state.lock().checkpoints_fail = !matches!(made, Ok(1..));
    }

    /// A step of a merge took so long.
    pub(super) fn stepped<T>(&self, stepped: &Result<T>, took: Duration) {
        let mut state = self.state.lock();
        state.merges_fail = stepped.is_err();
        state.merging += took;
    }

    /// What 1 MiB of log costs checkpoints and merges; none before enough was done to tell. What cannot come costs nothing:
    /// nobody waits for it.
    pub(super) fn costs(&self, full: Amount) -> Option<(Duration, Duration)> {
        let state = self.state.lock();
        let sum = sum(&state.work);
        if sum.weight < full.times(MEASURED).weight() {
            return None;
        }
        let per_mib = |time: Duration| {
            let nanos = (time.as_nanos() << 20) / u128::from(sum.weight.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let unless = |fails: bool, time: Duration| if fails { Duration::ZERO } else { per_mib(time) };
        Some((unless(state.checkpoints_fail, sum.checkpoint), unless(state.merges_fail, sum.merging)))
    }

    /// How many bytes a second commits write, given how many they have written by now.
    pub(super) fn inflow(&self, counted: u64) -> u64 {
        self.state.lock().inflow.look(counted)
    }
}

fn sum(work: &VecDeque<Work>) -> Work {
    work.iter().fold(Work::default(), |sum, one| Work {
        weight: sum.weight.saturating_add(one.weight),
        checkpoint: sum.checkpoint + one.checkpoint,
        merging: sum.merging + one.merging,
    })
}
