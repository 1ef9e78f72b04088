//! A checkpoint: a piece of the durable log becomes the newest layer, and its segments go (`table/FAULTS.md`, section 2).

use std::sync::Arc;

use super::heal::{Unreadable, heal};
use super::install::{clear_away, install, run_bytes};
use super::tables::Tables;
use super::turn::Wait;
use super::{keep_up, keeper, merger, warmer};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Checkpoints;
use crate::base::types::Lsn;
use crate::format::batch::Batch;
use crate::format::table::data::Interval;
use crate::log::{LetGo, LogInner, Position, RecordEnd, Scan};
use crate::table::checkpoint::Piece;
use crate::table::keyspaces::KeyspaceList;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;
use crate::table::store::Store;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// Between two looks whether a close has come.
const RECORDS: usize = 1024;

/// What follows a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Merges, as far as they are due.
    Merge,
    Nothing,
}

/// Makes checkpoints until the layers hold all that is durable now.
///
/// User code that is called while a checkpoint has its turn may ask for another one. So nothing here raises an alarm.
pub(super) fn checkpoint(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>, wait: Wait, then: Then) -> Result<()> {
    let log = &pipeline.log;
    log.check_process()?;
    if pipeline.settings.is_volatile {
        return retire_all(pipeline, tables);
    }
    if pipeline.settings.checkpoints == Checkpoints::Never {
        let message = "this engine was opened with Checkpoints::Never: open it with another choice to make checkpoints";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    // Before the turn: it may apply commits, and so raise an alarm.
    let visible = pipeline.index_now().visible();
    let Some(turn) = tables.turns.take(wait) else { return Ok(()) };
    let target = log.durable().min(visible);
    let made = make(pipeline, tables, target);
    tables.health.checkpointed(&made);
    drop(turn);
    if made.as_ref().is_ok_and(|made| *made == 0) && log.retained_bytes() > 0 {
        // Nothing was to be written, and the log may have more behind the tables than anybody wants.
        let gone = log.let_go(LetGo::Due, || tables.check_place(log.handle()));
        tables.health.not_removed(gone.as_ref().err());
    }
    let is_due = tables.pending(&pipeline.due).reaches(Amount::of_a_checkpoint(&pipeline.settings));
    tables.debt.checkpointed(&made, is_due);
    keep_up::settle(pipeline, tables);
    if keeper::keep(pipeline, tables) {
        // What is read again comes back.
        warmer::start(pipeline, tables);
    }
    made?;
    if then == Then::Merge {
        // What was asked for is done, whatever becomes of merges.
        merger::wake(pipeline, tables);
    }
    Ok(())
}

/// What is applied of a database that lives in memory is never read from its log again.
fn retire_all(pipeline: &Pipeline, tables: &Tables) -> Result<()> {
    // Read first: a commit that comes meanwhile is counted for the next time.
    let counted = pipeline.due.counted();
    let to = pipeline.index_now().visible();
    if to > Lsn::ZERO {
        pipeline.log.flush_to(to.get())?;
        pipeline.log.retire(Position::Lsn(to))?;
    }
    tables.health.set_done(counted);
    Ok(())
}

/// Makes checkpoints up to `target`.
fn make(pipeline: &Pipeline, tables: &Tables, target: Lsn) -> Result<u64> {
    let log = &pipeline.log;
    if log.poisoned().is_some() {
        return Err(log.refusal());
    }
    if target == Lsn::ZERO {
        return Ok(0);
    }
    let store = tables.make(log)?;
    log.check_ours(|| tables.check_place(log.handle()))?;
    clear_away(log, tables, store)?;
    let (mut made, mut missing) = (0, None);
    if let Err(error) = store.check_files() {
        match heal(pipeline, tables, store, (Unreadable::Tables, error)) {
            Ok(()) => made += 1,
            // The log has what comes now, and is to become shorter all the same.
            Err(error) => missing = Some(error),
        }
    }
    loop {
        let full = match store.stack().is_none() && store.is_in_doubt() {
            false => Amount::of_a_checkpoint(&pipeline.settings),
            // Without a MANIFEST there is none to be written again. One record does: what fails for an hour must not fill the
            // disk.
            true => Amount { bytes: 1, ops: 1 },
        };
        let begun = tables.pacers.checkpoints.begin();
        let horizon = |to| pipeline.index().horizon(to);
        let (layer, amount) = match next_piece(log, tables, store, (target, full), horizon) {
            Ok(Some((piece, amount))) => {
                if tables.debt.finds_some() {
                    keep_up::settle(pipeline, tables);
                }
                let run_bytes = run_bytes(&pipeline.settings, store.stack().as_deref(), piece.log_bytes);
                let layer = store.write_layer(piece, run_bytes)?;
                (layer, amount)
            }
            Ok(None) => return missing.map_or(Ok(made), Err),
            Err(error) => {
                heal(pipeline, tables, store, (Unreadable::Log, error))?;
                made += 1;
                continue;
            }
        };
        let to = install(log, tables, store, (layer, tables.health.done().plus(amount)))?;
        // Readers get the layer from here on, so memory may let go of what is in it.
        pipeline.index().note_installed(to);
        tables.debt.took_in(amount, begun.took(), Amount::of_a_checkpoint(&pipeline.settings));
        keep_up::settle(pipeline, tables);
        made += 1;
    }
}

/// Where a layer ends, a record does: nothing has to be read to know.
pub(super) fn behind(log: &LogInner, lsn: Lsn) -> Position {
    if lsn == Lsn::ZERO { Position::Lsn(lsn) } else { Position::End(RecordEnd::of(log.token(lsn))) }
}

/// Reads and sorts what lies behind the layers, up to `target` and to `full`; `None` if no record does. `horizon` is asked where the
/// piece ends.
pub(super) fn next_piece(
    log: &Arc<LogInner>,
    tables: &Tables,
    store: &Store,
    (target, full): (Lsn, Amount),
    horizon: impl FnOnce(Lsn) -> (Lsn, Vec<Lsn>),
) -> Result<Option<(Piece, Amount)>> {
    let stack = store.stack();
    let from = stack.as_ref().map_or(Lsn::ZERO, |stack| stack.manifest.to);
    let mut keyspaces = stack.map_or_else(KeyspaceList::default, |stack| KeyspaceList::clone(&stack.keyspaces));
    let mut sorter = Sorter::counted_in(&tables.sorted_bytes);
    let (mut to, mut branch, mut amount) = (from, None, Amount::default());
    if from >= target {
        return Ok(None);
    }
    for (number, record) in Scan::new(log, behind(log, from))?.enumerate() {
        let record = match record {
            Ok(record) => record,
            // Is it the data's fault, or was the file removed?
            Err(error) => return Err(log.stop_unless_whole().err().unwrap_or(error)),
        };
        if record.lsn > target {
            break;
        }
        if number % RECORDS == 0 {
            tables.check_open()?;
        }
        let batch = Batch::parse(&record.payload)
            .map_err(|error| Error::bug(format_args!("a record of the log is no transaction: {error}")))?;
        keyspaces.add(record.lsn, &batch);
        sorter.add(record.lsn, &batch);
        amount.add(record.payload.len(), batch.len());
        (to, branch) = (record.lsn, Some(record.token.incarnation));
        if amount.reaches(full) {
            break;
        }
    }
    let Some(branch) = branch else { return Ok(None) };
    // From here on no snapshot begins below the layer's end: a version that is superseded there has no other reader.
    let (floor, held) = horizon(to);
    let horizon = Retain { floor, held, is_last: false };
    let (ranges, writes, log_bytes) = (sorter.take_ranges(), sorter.finish(), amount.bytes);
    let piece = Piece { interval: Interval { from, to }, branch, writes, ranges, keyspaces, horizon, log_bytes };
    Ok(Some((piece, amount)))
}
