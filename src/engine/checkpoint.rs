//! A checkpoint: a piece of the durable log becomes the newest layer, and its segments go (`table/FAULTS.md`, section 2).

use std::ffi::OsStr;
use std::sync::Arc;

use super::heal::{is_rot, write_from_memory};
use super::tables::Tables;
use super::turn::Wait;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Checkpoints;
use crate::base::types::Lsn;
use crate::care::pace::ScrubOptions;
use crate::care::scrub::{self, Scrub};
use crate::disk::Dir;
use crate::format::batch::Batch;
use crate::format::table::DIRECTORY;
use crate::format::table::data::Interval;
use crate::format::table::manifest::Layer;
use crate::log::{LogInner, Position, RecordEnd, Scan};
use crate::table::checkpoint::{NewLayer, Piece};
use crate::table::keyspaces::KeyspaceList;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;
use crate::table::store::{NotInstalled, Stack, Store};
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// A run that is this long ends.
pub(super) const RUN_BYTES: u64 = 32 << 20;
/// Between two looks whether a close has come.
const RECORDS: usize = 1024;

/// What follows a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// A merge, if one is due.
    Merge,
    Nothing,
}

/// Makes checkpoints until the layers hold all that is durable now.
///
/// User code that is called while a checkpoint has its turn may ask for another one. So nothing here raises an alarm.
pub(super) fn checkpoint(pipeline: &Pipeline, tables: &Tables, wait: Wait, then: Then) -> Result<()> {
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
    let Some(_turn) = tables.turns.take(wait) else { return Ok(()) };
    let target = log.durable().min(visible);
    let made = make(pipeline, tables, target);
    tables.health.checkpointed(&made);
    made?;
    if then == Then::Merge {
        // What was asked for is done. A merge that failed is tried again behind the next checkpoint.
        let merged = merge(log, tables);
        tables.health.merged(&merged);
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
    // What the installed MANIFEST does not need goes first: on a full disk nothing else gives room.
    remove_needless(tables, store);
    if store.end_doubt(|stack| name_in_history(log, stack))? {
        remove_needless(tables, store);
    }
    let mut made = 0;
    if let Err(error) = store.check_files() {
        // Memory has what they held.
        heal(pipeline, tables, store, error)?;
        made += 1;
    }
    loop {
        let full = match store.is_in_doubt() {
            false => Amount::of_a_checkpoint(&pipeline.settings),
            // Without a MANIFEST there is none to be written again. One record does: what fails for an hour must not fill the
            // disk.
            true => Amount { bytes: 1, ops: 1 },
        };
        let (layer, done) = match next_piece(log, tables, store, target, full) {
            Ok(Some((piece, amount))) => {
                let layer = store.write_layer(piece, RUN_BYTES)?;
                (layer, tables.health.done().plus(amount))
            }
            Ok(None) => return Ok(made),
            Err(error) => {
                heal(pipeline, tables, store, error)?;
                made += 1;
                continue;
            }
        };
        install(log, tables, store, (layer, done))?;
        made += 1;
    }
}

/// Writes from memory what cannot be read, if `why` is rot.
fn heal(pipeline: &Pipeline, tables: &Tables, store: &Store, why: Error) -> Result<()> {
    if !is_rot(&why) {
        return Err(why);
    }
    // In doubt without a MANIFEST, one layer of all data is enough.
    if !tables.health.found_rot(&why, store.is_in_doubt()) {
        return Err(why);
    }
    let written = write_from_memory(pipeline, tables, store, RUN_BYTES)?;
    install(&pipeline.log, tables, store, written)?;
    tables.health.healed();
    Ok(())
}

/// Makes a layer count, and removes what it makes needless (steps 8 to 13). With it all of the log counts as taken in that
/// had been counted at `done`.
fn install(log: &LogInner, tables: &Tables, store: &Store, (mut layer, done): (NewLayer<'_>, Amount)) -> Result<()> {
    let to = layer.to();
    let installed = |stack: &Arc<Stack>| {
        name_in_history(log, stack);
        tables.health.set_done(done);
    };
    let install = |oldest| layer.install(|_| oldest, installed);
    let installed = log.retire_into(to, install, || tables.check_place(log.handle()));
    let (_stack, removed) = installed.map_err(NotInstalled::into_error)?;
    tables.health.not_removed(removed.as_ref().err());
    remove_needless(tables, store);
    Ok(())
}

/// Begins a scrub. If layers took the place of those that it reads, it removes at its end what nothing needs any more.
pub(super) fn scrub(log: &Arc<LogInner>, tables: &Arc<Tables>, options: ScrubOptions) -> Result<Scrub> {
    let held = tables.names();
    let (of, beside) = (Arc::clone(log), Arc::clone(tables));
    let let_go = move || {
        let Some(store) = beside.store().filter(|_| beside.names() != held && beside.check_open().is_ok()) else {
            return;
        };
        if of.check_ours(|| beside.check_place(of.handle())).is_ok() {
            remove_needless(&beside, store);
        }
    };
    scrub::scrub(log, options, || tables.hold(), let_go)
}

/// What cannot be removed now is tried again.
fn remove_needless(tables: &Tables, store: &Store) {
    let failed = store.remove_needless().map_or_else(Some, |removal| removal.failed);
    tables.health.not_removed(failed.as_ref());
}

fn name_in_history(log: &LogInner, stack: &Arc<Stack>) {
    let (generation, crc) = stack.names();
    log.incarnations().name_manifest(generation, crc);
}

/// Where a layer ends, a record does: nothing has to be read to know.
fn behind(log: &LogInner, lsn: Lsn) -> Position {
    if lsn == Lsn::ZERO { Position::Lsn(lsn) } else { Position::End(RecordEnd::of(log.token(lsn))) }
}

/// Reads and sorts what lies behind the layers, up to `target` and to `full`; `None` if no record does.
fn next_piece(
    log: &Arc<LogInner>,
    tables: &Tables,
    store: &Store,
    target: Lsn,
    full: Amount,
) -> Result<Option<(Piece, Amount)>> {
    let stack = store.stack();
    let from = stack.as_ref().map_or(Lsn::ZERO, |stack| stack.manifest.to);
    let mut keyspaces = stack.map_or_else(KeyspaceList::default, |stack| KeyspaceList::clone(&stack.keyspaces));
    let mut sorter = Sorter::default();
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
    // No reader asks layers yet: a reader has the index.
    let horizon = Retain { floor: to, held: Vec::new(), is_last: false };
    let (writes, log_bytes) = (sorter.finish(), amount.bytes);
    let piece = Piece { interval: Interval { from, to }, branch, writes, keyspaces, horizon, log_bytes };
    Ok(Some((piece, amount)))
}

/// Merges all layers once those above the last hold half of what it does. Returns whether it has.
fn merge(log: &LogInner, tables: &Tables) -> Result<bool> {
    let Some((store, stack)) = tables.store().and_then(|store| Some((store, store.stack()?))) else { return Ok(false) };
    let is_ours = || log.check_ours(|| tables.check_place(log.handle()));
    let bytes = |layers: &[Layer]| layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.bytes()));
    let layers = &stack.manifest.layers;
    let Some((last, upper)) = layers.split_last() else { return Ok(false) };
    if upper.is_empty() || bytes(upper) < last.bytes() / 2 {
        return Ok(false);
    }
    check_room(log, bytes(layers))?;
    is_ours()?;
    let horizon = Retain { floor: stack.manifest.to, held: Vec::new(), is_last: false };
    let mut job = store.merge(&stack, 0..layers.len(), &horizon, RUN_BYTES)?;
    drop(stack);
    is_ours()?;
    job.install(|stack| name_in_history(log, stack)).map_err(NotInstalled::into_error)?;
    drop(job);
    remove_needless(tables, store);
    Ok(true)
}

/// Refuses a merge that could fill the disk: commits, which need segments, would fail for it meanwhile.
fn check_room(log: &LogInner, bytes: u64) -> Result<()> {
    let path = log.handle().path_of(OsStr::new(DIRECTORY));
    let needed = bytes.saturating_add(log.room_to_leave());
    match log.handle().dir().room() {
        Ok(Some(room)) if room < needed => {
            let message = format!(
                "a merge of {bytes} bytes of tables in {} waits until {needed} bytes are free, and {room} are: make room",
                path.display()
            );
            Err(Error::new(ErrorKind::DiskFull, message))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("look for room in", &path, error)),
    }
}
