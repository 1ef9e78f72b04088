//! Making a new layer count, and removing what it makes needless (steps 8 to 13 of `table/FAULTS.md`).

use std::sync::Arc;

use super::tables::Tables;
use crate::base::error::Result;
use crate::base::options::Settings;
use crate::base::types::Lsn;
use crate::format::table::manifest::bytes_of;
use crate::log::LogInner;
use crate::table::checkpoint::NewLayer;
use crate::table::store::{NotInstalled, Stack, Store};
use crate::txn::due::Amount;

/// A run ends when it is so many times shorter than the data: MANIFEST, which lists all runs, is written for each few, and a reader keeps
/// each of them open if it may.
const RUNS: u64 = 128;
/// A merge is to give back what it has read before it has read much more.
const LONGEST_RUN: u64 = 128 << 20;

/// A run that is this long ends: half a checkpoint, and more if there are many. It is of a layer that takes in `records` bytes of
/// the log, which count as data already: one transaction may be as long as thousands of checkpoints.
pub(super) fn run_bytes(settings: &Settings, stack: Option<&Stack>, records: u64) -> u64 {
    let data = stack.map_or(0, |stack| bytes_of(&stack.manifest.layers)).saturating_add(records);
    (settings.checkpoint_bytes / 2).max(data / RUNS).min(LONGEST_RUN)
}

/// Makes a layer count, and removes what it makes needless (steps 8 to 13). With it all of the log counts as taken in that
/// had been counted at `done`. Returns where the layer ends.
pub(super) fn install(
    log: &LogInner,
    tables: &Tables,
    store: &Store,
    (mut layer, done): (NewLayer<'_>, Amount),
) -> Result<Lsn> {
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
    Ok(to)
}

/// What each attempt does first: what the installed MANIFEST does not need goes, since on a full disk nothing else gives room, and a
/// MANIFEST in doubt is written again.
pub(super) fn clear_away(log: &LogInner, tables: &Tables, store: &Store) -> Result<()> {
    remove_needless(tables, store);
    if store.end_doubt(|stack| name_in_history(log, stack))? {
        remove_needless(tables, store);
    }
    Ok(())
}

/// What cannot be removed now is tried again.
pub(super) fn remove_needless(tables: &Tables, store: &Store) {
    let failed = store.remove_needless().map_or_else(Some, |removal| removal.failed);
    tables.health.not_removed(failed.as_ref());
}

pub(super) fn name_in_history(log: &LogInner, stack: &Arc<Stack>) {
    let (generation, crc) = stack.names();
    log.incarnations().name_manifest(generation, crc);
}
