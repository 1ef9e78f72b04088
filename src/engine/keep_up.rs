//! How fast the background writes, and how long commits wait so that it keeps up (`table/MERGING.md`, 5 and 6).

use std::sync::Arc;

use super::tables::Tables;
use crate::base::options::Checkpoints;
use crate::format::table::manifest::Written;
use crate::rt::clock;
use crate::table::pick;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;
use crate::txn::throttle::{Load, Refusal, beyond};

/// In checkpoints: what the log owes without a wait, and what merges do beside what the last layer has.
const LOG: u64 = 2;
const MERGES: u64 = 16;
/// In checkpoints: commits stop when the log owes so much, unless checkpoints fail.
const STOP: u64 = 5;
/// The least bytes a second that the background writes while there are commits, ...
const LEAST_RATE: u64 = 16 << 20;
/// ... and while there are none whose flush could wait for it. Reads may wait for the disk meanwhile.
const AT_REST: u64 = 64 << 20;
/// The least that is written for a byte of log.
const LEAST_FACTOR: u64 = 4;

/// Has the files of background work written no faster than it takes to keep up.
pub(super) fn pace(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>) {
    for pacer in [&tables.pacers.checkpoints, &tables.pacers.merges] {
        let (pipeline, tables) = (Arc::downgrade(pipeline), Arc::downgrade(tables));
        pacer.set_rate(move || rate(&*pipeline.upgrade()?, &*tables.upgrade()?));
    }
}

/// In bytes a second; as fast as it goes if none.
fn rate(pipeline: &Pipeline, tables: &Tables) -> Option<u64> {
    let full = Amount::of_a_checkpoint(&pipeline.settings);
    let counted = pipeline.due.counted();
    let (owed, bound) = owed_by_merges(tables, full);
    let percent = |owed: u64, bound: u64| owed.saturating_mul(100) / bound.max(1);
    let log = percent(counted.above(tables.health.done()).weight(), full.times(LOG).weight());
    let written = written(tables);
    let factor = written.by_checkpoints.saturating_add(written.by_merges).checked_div(written.log_read);
    let inflow = tables.debt.inflow(counted.bytes);
    let keeps_up = inflow.saturating_mul(factor.unwrap_or(0).saturating_add(1).max(LEAST_FACTOR));
    let least = if inflow == 0 { AT_REST } else { LEAST_RATE };
    let rate = keeps_up.saturating_add(keeps_up / 4).max(least);
    // Before commits wait, the background goes as fast as it can.
    match log.max(percent(owed, bound)) {
        0..75 => Some(rate),
        75..100 => Some(rate.saturating_mul(2)),
        _ => None,
    }
}

/// Says how long commits wait from now on, if checkpoints are made without being asked for. To be called after each piece of
/// work, and when one has failed.
pub(super) fn settle(pipeline: &Pipeline, tables: &Tables) {
    // In memory alone there is nothing to wait for.
    if pipeline.settings.checkpoints != Checkpoints::Automatic || pipeline.settings.is_volatile {
        return;
    }
    let _newest = tables.debt.telling.lock();
    let full = Amount::of_a_checkpoint(&pipeline.settings);
    let (log, merging) = tables.debt.costs(full);
    let (owed, bound) = owed_by_merges(tables, full);
    let Written { by_merges, log_read, .. } = written(tables);
    let (by_merges, log_read) = (u128::from(by_merges), u128::from(log_read.max(1)));
    // For each MiB of log: what merges have written for it so far, but no less than they do in the long run.
    let factor = by_merges.max(log_read * u128::from(LEAST_FACTOR));
    let merges = beyond(clock::nanos(merging.as_nanos() * factor / log_read), owed, bound, bound);
    let stop = if tables.debt.checkpoints_fail() { Load::NOTHING } else { full.times(STOP) };
    let load = Load { done: tables.health.done(), bound: full.times(LOG), stop, log, merges };
    // What a checkpoint has failed over is nothing to wait for.
    let refused_for = |cause| Refusal { from: full.times(STOP), records: tables.shares().records, cause };
    let refusal = tables.health.checkpoint_failure().map(refused_for);
    pipeline.throttle.set(load, refusal, pipeline.due.counted());
}

fn written(tables: &Tables) -> Written {
    tables.stack().map_or_else(Written::default, |stack| stack.manifest.written)
}

/// In bytes, and what they may be.
fn owed_by_merges(tables: &Tables, full: Amount) -> (u64, u64) {
    let stack = tables.stack();
    let (owed, last) = stack.map_or((0, 0), |stack| pick::owed(&stack.manifest.layers));
    (owed, last.saturating_add(full.bytes.saturating_mul(MERGES)))
}
