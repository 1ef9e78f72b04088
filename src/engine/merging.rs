//! Merges, step by step, and who is to do them (`table/MERGING.md`).

use std::ffi::OsStr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::heal::{Unreadable, heal};
use super::install::{clear_away, name_in_history, remove_needless, run_bytes};
use super::keep_up;
use super::tables::Tables;
use super::turn::Wait;
use crate::base::error::{Error, ErrorKind, Result, is_rot};
use crate::base::types::Lsn;
use crate::disk::Dir;
use crate::format::table::DIRECTORY;
use crate::format::table::manifest::Layer;
use crate::format::table::root::Range as KeyRange;
use crate::log::LogInner;
use crate::table::job::{StepFailed, Stepped};
use crate::table::layer::Sizes;
use crate::table::merge::Retain;
use crate::table::pick;
use crate::table::store::Stack;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// A request does no more steps than this: they write 16 checkpoints or more.
const STEPS: usize = 32;
/// A step writes this many times as much as its MANIFEST, unless that is short: then it costs as much as an empty one.
const PER_MANIFEST: u64 = 64;
const SHORT: u64 = 64 << 10;

/// Which of the installed layers a step is about; none if there is nothing to do.
pub(super) type Choose<'c> = &'c dyn Fn(&[Layer]) -> Option<Range<usize>>;

/// Whether a merge is due.
pub(super) fn is_due(tables: &Tables) -> bool {
    tables.stack().is_some_and(|stack| pick::due(&stack.manifest.layers).is_some())
}

/// Does steps of merges until none is due, one fails, or there were many: whoever asks for them is to go on.
pub(super) fn merge_many(pipeline: &Pipeline, tables: &Tables, wait: Wait, leaves: Leaves) {
    let Some(_turn) = tables.merge_turns.take(wait) else { return };
    let _unpaced = tables.pacers.merges.hurry();
    let _ = (0..STEPS).all(|_| merge_step(pipeline, tables, leaves).is_ok_and(|stepped| stepped));
}

/// Does one step, if one is due: whether one was. The caller has the turn.
pub(super) fn merge_step(pipeline: &Pipeline, tables: &Tables, leaves: Leaves) -> Result<bool> {
    merge_step_of(pipeline, tables, leaves, &pick::due)
}

/// The same, of the layers that `choose` says.
pub(super) fn merge_step_of(pipeline: &Pipeline, tables: &Tables, leaves: Leaves, choose: Choose<'_>) -> Result<bool> {
    let (stepped, took) = loop {
        let begun = tables.pacers.merges.begin();
        let stepped = step(pipeline, tables, leaves, choose);
        let took = begun.took();
        match &stepped {
            Err(StepFailed::Input(error)) if may_go_round(pipeline, tables, error) => {}
            _ => break (stepped, took),
        }
    };
    let result = match stepped {
        Ok(stepped) => {
            tables.health.stepped(stepped.map(|(stepped, _)| stepped));
            if let Some((_, bytes)) = stepped {
                tables.debt.stepped(bytes, took, Amount::of_a_checkpoint(&pipeline.settings));
            }
            Ok(stepped.is_some())
        }
        Err(StepFailed::Input(error)) if is_rot(&error) && pipeline.index().is_whole() => {
            tables.health.step_failed(&error);
            write_again(pipeline, tables, error).map(|()| true)
        }
        Err(StepFailed::Input(error) | StepFailed::Other(error)) => {
            tables.health.step_failed(&error);
            tables.debt.step_failed();
            Err(error)
        }
    };
    keep_up::settle(pipeline, tables);
    result
}

/// Finds out what cannot be read of the run that `error` is about. Returns whether another try may do better. What is all in memory
/// is written from there instead.
fn may_go_round(pipeline: &Pipeline, tables: &Tables, error: &Error) -> bool {
    if !is_rot(error) || pipeline.index().is_whole() {
        return false;
    }
    let has_learned = tables.store().is_some_and(|store| store.look_again(error).unwrap_or(false));
    if has_learned {
        tables.health.found_rot(error, false);
    }
    has_learned
}

/// Writes from memory what cannot be read of the tables. This is a checkpoint, and counts as one.
fn write_again(pipeline: &Pipeline, tables: &Tables, why: Error) -> Result<()> {
    let (Some(_turn), Some(store)) = (tables.turns.take(Wait::ForItsTurn), tables.store()) else { return Err(why) };
    let healed = heal(pipeline, tables, store, (Unreadable::Tables, why)).map(|()| 1);
    tables.health.checkpointed(&healed);
    tables.debt.finds_some();
    healed.map(drop)
}

/// What a step has done, and how many bytes it has written.
fn step(
    pipeline: &Pipeline,
    tables: &Tables,
    leaves: Leaves,
    choose: Choose<'_>,
) -> std::result::Result<Option<(Stepped, u64)>, StepFailed> {
    let log = &pipeline.log;
    let Some((store, stack)) = tables.store().and_then(|store| Some((store, store.stack()?))) else { return Ok(None) };
    let Some(layers) = choose(&stack.manifest.layers) else { return Ok(None) };
    let is_ours = || log.check_ours(|| tables.check_place(log.handle())).map_err(StepFailed::Other);
    is_ours()?;
    clear_away(log, tables, store).map_err(StepFailed::Other)?;
    if pipeline.index().is_whole() {
        // What was to be gone round is in memory by now, which is better.
        store.forget_damage();
    }
    let room = room_for_a_step(log, leaves).map_err(StepFailed::Other)?;
    let sizes = sizes(pipeline, &stack, room);
    if leaves == Leaves::Room {
        check_room(log, &stack, sizes, room).map_err(StepFailed::Other)?;
    }
    let (floor, held) = pipeline.index().horizon(Lsn::ZERO);
    let horizon = Retain { floor, held, is_last: false };
    let mut step = store.merge_step(&stack, layers, &horizon, sizes)?;
    drop(stack);
    is_ours()?;
    let installed = |stack: &Arc<Stack>| name_in_history(log, stack);
    let stepped = step.install(installed).map_err(|failed| StepFailed::Other(failed.into_error()))?;
    let bytes = step.bytes();
    drop(step);
    remove_needless(tables, store);
    Ok(Some((stepped, bytes)))
}

/// What a step leaves of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaves {
    /// What the log and a checkpoint need: commits would fail for it meanwhile.
    Room,
    /// Nothing: the log has ended for lack of room, and a merge is what may give some back. One that fails leaves nothing.
    Nothing,
}

/// The bytes that a step may write; `None` if the disk does not say.
fn room_for_a_step(log: &LogInner, leaves: Leaves) -> Result<Option<u64>> {
    match (log.handle().dir().room(), leaves) {
        (Ok(room), Leaves::Room) => Ok(room.map(|room| room.saturating_sub(log.room_to_leave()))),
        (Ok(room), Leaves::Nothing) => Ok(room),
        // It is tried, whatever there is.
        (Err(_), Leaves::Nothing) => Ok(None),
        (Err(error), Leaves::Room) => Err(Error::io("look for room in", &tables_in(log), error)),
    }
}

fn tables_in(log: &LogInner) -> PathBuf {
    log.handle().path_of(OsStr::new(DIRECTORY))
}

/// How much a step writes. Where room is short it ends sooner, so that its inputs give theirs back sooner.
fn sizes(pipeline: &Pipeline, stack: &Stack, room: Option<u64>) -> Sizes {
    let least = run_bytes(&pipeline.settings, None, 0);
    let run = run_bytes(&pipeline.settings, Some(stack), 0).min(room.map_or(u64::MAX, |room| (room / 4).max(least)));
    let manifest = stack.manifest.to_bytes().len() as u64;
    Sizes { run, part: if manifest > SHORT { run.max(PER_MANIFEST * manifest) } else { run } }
}

/// The bytes of the layers without runs that lie in keyspaces that are gone.
fn bytes_left(stack: &Stack) -> u64 {
    let gone = stack.keyspaces.gone();
    let runs = stack.manifest.layers.iter().flat_map(|layer| &layer.runs);
    let is_gone = |range: &KeyRange| {
        // The last run of a layer may have no end.
        if range.high.is_empty() { gone.have_all_from(&range.low) } else { gone.have_all(range) }
    };
    runs.filter(|run| !is_gone(&run.range)).map(|run| run.file.length).sum()
}

/// Refuses a step that could fill the disk.
fn check_room(log: &LogInner, stack: &Stack, sizes: Sizes, room: Option<u64>) -> Result<()> {
    // Nothing is written of keyspaces that are gone. A file ends with the entry that makes it long enough.
    let needed = bytes_left(stack).min(sizes.part.saturating_add(sizes.run.saturating_mul(2)));
    match room {
        Some(room) if room < needed => {
            let (path, leave) = (tables_in(log), log.room_to_leave());
            let message = format!(
                "a merge of tables in {} waits until {} bytes are free, and {} are: make room",
                path.display(),
                needed.saturating_add(leave),
                room.saturating_add(leave)
            );
            Err(Error::new(ErrorKind::DiskFull, message))
        }
        _ => Ok(()),
    }
}
