//! A checkpoint: a piece of the durable log becomes the newest layer, and its segments go (`table/FAULTS.md`, section 2).

use std::sync::Arc;

use super::tables::Tables;
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::format::batch::Batch;
use crate::format::table::data::Interval;
use crate::format::table::manifest::Layer;
use crate::log::{LogInner, Position, Scan};
use crate::table::checkpoint::Piece;
use crate::table::keyspaces::KeyspaceList;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;
use crate::table::store::{NotInstalled, Stack, Store};

/// A layer takes in so much of the log, and a record more at most.
const PIECE_BYTES: u64 = 64 << 20;
/// A run that is this long ends.
const RUN_BYTES: u64 = 32 << 20;

/// Makes checkpoints until the layers hold all that is durable now.
pub(super) fn checkpoint(log: &Arc<LogInner>, tables: &Tables) -> Result<()> {
    let _alone = tables.checkpointing.lock();
    log.check_process()?;
    // Before anything can fail that would tell others of it: they may be called under the lock above.
    if log.poisoned().is_some() {
        return Err(log.refusal());
    }
    let target = log.durable();
    if target == Lsn::ZERO {
        return Ok(());
    }
    let store = tables.make(log)?;
    let named = |stack: &Arc<Stack>| log.incarnations().name_manifest(stack.manifest.generation, stack.crc);
    while let Some(piece) = next_piece(log, store, target)? {
        let mut layer = store.write_layer(piece, RUN_BYTES)?;
        let to = layer.to();
        let installed = log.retire_into(to, |oldest| layer.install(|_| oldest, named));
        let (_stack, removed) = installed.map_err(NotInstalled::into_error)?;
        // What could not be removed goes with the next open.
        drop(removed);
        store.remove_needless()?;
    }
    merge(store, named)
}

/// Reads and sorts what lies behind the layers, up to `target`; `None` if no record does.
fn next_piece(log: &Arc<LogInner>, store: &Store, target: Lsn) -> Result<Option<Piece>> {
    let stack = store.stack();
    let from = stack.as_ref().map_or(Lsn::ZERO, |stack| stack.manifest.to);
    let mut keyspaces = stack.map_or_else(KeyspaceList::default, |stack| KeyspaceList::clone(&stack.keyspaces));
    let mut sorter = Sorter::default();
    let (mut to, mut branch, mut bytes) = (from, None, 0);
    for record in Scan::new(log, Position::Lsn(from))? {
        let record = record?;
        if record.lsn > target {
            break;
        }
        let batch = Batch::parse(&record.payload)
            .map_err(|error| Error::bug(format_args!("a record of the log is no transaction: {error}")))?;
        keyspaces.add(record.lsn, &batch);
        sorter.add(record.lsn, &batch);
        bytes += record.payload.len() as u64;
        (to, branch) = (record.lsn, Some(record.token.incarnation));
        if bytes >= PIECE_BYTES {
            break;
        }
    }
    let Some(branch) = branch else { return Ok(None) };
    // No reader asks layers yet: a reader has the index.
    let horizon = Retain { floor: to, held: Vec::new(), is_last: false };
    let writes = sorter.finish();
    Ok(Some(Piece { interval: Interval { from, to }, branch, writes, keyspaces, horizon, log_bytes: bytes }))
}

/// Merges all layers once those above the last hold half of what it does.
fn merge(store: &Store, named: impl FnOnce(&Arc<Stack>)) -> Result<()> {
    let Some(stack) = store.stack() else { return Ok(()) };
    let bytes =
        |layers: &[Layer]| -> u64 { layers.iter().flat_map(|layer| &layer.runs).map(|run| run.file.length).sum() };
    let layers = &stack.manifest.layers;
    let Some((last, upper)) = layers.split_last() else { return Ok(()) };
    if upper.is_empty() || bytes(upper) * 2 < bytes(std::slice::from_ref(last)) {
        return Ok(());
    }
    let horizon = Retain { floor: stack.manifest.to, held: Vec::new(), is_last: false };
    let mut job = store.merge(&stack, 0..layers.len(), &horizon, RUN_BYTES)?;
    drop(stack);
    job.install(named).map_err(NotInstalled::into_error)?;
    drop(job);
    store.remove_needless().map(|_| ())
}
