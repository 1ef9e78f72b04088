//! The figures that are compared: one value of each run.

use super::super::event::Phase;
use super::{Kind, Recorded, Run};
use crate::peers::OURS;
use crate::report::figure;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    PerSecond,
    Seconds,
    Milliseconds,
    Times,
    MiB,
}

/// One figure.
pub struct Row {
    pub title: &'static str,
    pub unit: Unit,
    /// The phase that says whether it was cut.
    pub phase: Phase,
    pub value: fn(&Run) -> Option<f64>,
}

impl Row {
    pub fn less_is_better(&self) -> bool {
        self.unit != Unit::PerSecond
    }

    pub fn told(&self, value: f64) -> String {
        match self.unit {
            Unit::PerSecond => format!("{}/s", figure(value)),
            Unit::Seconds => format!("{} s", figure(value)),
            Unit::Milliseconds => format!("{} ms", figure(value)),
            Unit::Times => figure(value),
            Unit::MiB => format!("{} MiB", figure(value)),
        }
    }

    /// How forelog stands beside the best of the others, of the runs of the same data.
    pub fn standing(&self, runs: &[&Run]) -> String {
        let value = |run: &&&Run| (self.value)(run);
        let Some(ours) = runs.iter().find(|run| run.peer == OURS).as_ref().and_then(value) else {
            return String::new();
        };
        let others = runs.iter().filter(|run| run.peer != OURS).filter_map(|run| Some((run, (self.value)(run)?)));
        let order = |one: &(&&Run, f64), other: &(&&Run, f64)| one.1.total_cmp(&other.1);
        let best = if self.less_is_better() { others.min_by(order) } else { others.max_by(order) };
        let Some((best, theirs)) = best else { return String::new() };
        let ratio = if self.less_is_better() { theirs / ours } else { ours / theirs };
        let word = match ratio {
            ratio if ratio > 1.05 => "ahead",
            ratio if ratio < 0.95 => "**behind**",
            _ => "even",
        };
        format!("{word}: {} times {}", figure(ratio), best.peer)
    }
}

fn rate(run: &Run, phase: Phase) -> Option<f64> {
    let outcome = run.phase(phase)?.outcome;
    Some(outcome.operations as f64 / outcome.seconds)
}

fn seconds(run: &Run, phase: Phase) -> Option<f64> {
    run.phase(phase).map(|recorded| recorded.outcome.seconds)
}

/// The 99.9th percentile, in milliseconds.
fn p999(run: &Run, phase: Phase) -> Option<f64> {
    run.phase(phase)?.outcome.times.map(|times| times.p999 / 1000.0)
}

fn longest(run: &Run, phase: Phase) -> Option<f64> {
    run.phase(phase)?.outcome.times.map(|times| times.max / 1000.0)
}

/// What the device has written in two phases, for each byte that the first one committed.
fn amplification(run: &Run, phase: Phase, after: Phase) -> Option<f64> {
    let (first, second) = (run.phase(phase)?.outcome, run.phase(after)?.outcome);
    Some((first.written + second.written) as f64 / (first.operations * run.data.record_bytes()) as f64)
}

/// The directory at the end of a phase, for each byte of keys and values.
fn space(run: &Run, phase: Phase, data: u64) -> Option<f64> {
    run.phase(phase).map(|recorded: &Recorded| recorded.disk as f64 / data.max(1) as f64)
}

fn left_after_deletes(run: &Run) -> u64 {
    let deleted = run.phase(Phase::Delete).map_or(0, |deletes| deletes.outcome.operations);
    run.data_bytes().saturating_sub(deleted * run.data.record_bytes())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn resident(run: &Run, phase: Phase) -> Option<f64> {
    run.phase(phase).map(|recorded| mib(recorded.outcome.resident))
}

macro_rules! rows {
    ($($name:ident: $title:expr, $unit:ident, $phase:ident, $value:expr;)*) => {
        $(const $name: Row = Row { title: $title, unit: Unit::$unit, phase: Phase::$phase, value: $value };)*
    };
}

rows! {
    LOAD: "load in random order, 100 keys a transaction", PerSecond, Load, |run| rate(run, Phase::Load);
    FEW: "overwrites of them, ten a transaction", PerSecond, Load, |run| rate(run, Phase::Load);
    CLOSE: "close after it", Seconds, Close, |run| seconds(run, Phase::Close);
    OPEN_CLOSED: "open after a close, until a read is answered", Seconds, OpenClosed, |run| seconds(run, Phase::OpenClosed);
    OPEN_KILLED: "open after SIGKILL, until a read is answered", Seconds, OpenKilled, |run| seconds(run, Phase::OpenKilled);
    CLOSED_RESIDENT: "memory of the process after an open after a close", MiB, OpenClosed, |run| resident(run, Phase::OpenClosed);
    KILLED_RESIDENT: "memory of the process after an open after SIGKILL", MiB, OpenKilled, |run| resident(run, Phase::OpenKilled);
    PRESENT: "point reads of present keys, cold at first", PerSecond, ReadPresent, |run| rate(run, Phase::ReadPresent);
    ABSENT: "point reads of absent keys", PerSecond, ReadAbsent, |run| rate(run, Phase::ReadAbsent);
    SCAN: "scan of all keys", PerSecond, Scan, |run| rate(run, Phase::Scan);
    OVERWRITE: "overwrites in random order, 100 a transaction", PerSecond, Overwrite, |run| rate(run, Phase::Overwrite);
    DELETE: "deletions of every second key, 100 a transaction", PerSecond, Delete, |run| rate(run, Phase::Delete);
    LOAD_MAX: "longest transaction of the load", Milliseconds, Load, |run| longest(run, Phase::Load);
    OVERWRITE_MAX: "longest transaction of the overwrites", Milliseconds, Overwrite, |run| longest(run, Phase::Overwrite);
    LOAD_WRITTEN: "written to the device for each byte loaded, until closed", Times, Load,
        |run| amplification(run, Phase::Load, Phase::Close);
    OVERWRITE_WRITTEN: "written to the device for each byte overwritten, until settled", Times, Overwrite,
        |run| amplification(run, Phase::Overwrite, Phase::SettleOverwritten);
    LOAD_SPACE: "directory for each byte of data, closed", Times, Close, |run| space(run, Phase::Close, run.data_bytes());
    OVERWRITE_SPACE: "directory for each byte of data, overwritten and settled", Times, SettleOverwritten,
        |run| space(run, Phase::SettleOverwritten, run.data_bytes());
    DELETE_SPACE: "directory for each byte that is left, deleted and settled", Times, SettleDeleted,
        |run| space(run, Phase::SettleDeleted, left_after_deletes(run));
    DISK: "directory, closed", MiB, Close, |run| run.phase(Phase::Close).map(|recorded| mib(recorded.disk));
    SYNC_ALONE: "Sync alone, p99.9", Milliseconds, SyncAlone, |run| p999(run, Phase::SyncAlone);
    SYNC_BESIDE: "Sync beside overwrites, p99.9", Milliseconds, SyncBeside, |run| p999(run, Phase::SyncBeside);
    SYNC_MAX: "Sync beside overwrites, longest", Milliseconds, SyncBeside, |run| longest(run, Phase::SyncBeside);
    ASYNC_ALONE: "Async alone, p99.9", Milliseconds, AsyncAlone, |run| p999(run, Phase::AsyncAlone);
    ASYNC_BESIDE: "Async beside overwrites, p99.9", Milliseconds, AsyncBeside, |run| p999(run, Phase::AsyncBeside);
    ASYNC_MAX: "Async beside overwrites, longest", Milliseconds, AsyncBeside, |run| longest(run, Phase::AsyncBeside);
    RESIDENT: "most memory of the process", MiB, Load, |run| run.most_resident().map(mib);
}

pub fn of(kind: Kind) -> &'static [Row] {
    match kind {
        Kind::Phases => &[
            LOAD,
            CLOSE,
            OPEN_CLOSED,
            OPEN_KILLED,
            PRESENT,
            ABSENT,
            SCAN,
            OVERWRITE,
            DELETE,
            LOAD_MAX,
            OVERWRITE_MAX,
            LOAD_WRITTEN,
            OVERWRITE_WRITTEN,
            LOAD_SPACE,
            OVERWRITE_SPACE,
            DELETE_SPACE,
            CLOSED_RESIDENT,
            KILLED_RESIDENT,
            RESIDENT,
        ],
        Kind::Opens => &[LOAD, OPEN_CLOSED, CLOSED_RESIDENT, OPEN_KILLED, KILLED_RESIDENT],
        Kind::Steady => &[LOAD, SYNC_ALONE, SYNC_BESIDE, SYNC_MAX, ASYNC_ALONE, ASYNC_BESIDE, ASYNC_MAX],
        Kind::Few => {
            &[FEW, LOAD_MAX, DISK, CLOSE, OPEN_CLOSED, CLOSED_RESIDENT, OPEN_KILLED, KILLED_RESIDENT, RESIDENT]
        }
    }
}
