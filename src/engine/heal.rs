//! A layer from memory, in place of what a checkpoint cannot read: rot is healed as far as memory has what is rotten
//! (`table/FAULTS.md`, section 3, step 4).
//!
//! Of the log behind the layers it has all: `tail.rs` writes what was behind them. Of tables it has all only while nobody asks them.
//! Then the layer has all that there is at its end, and takes the place of all layers. So it needs no room but its own, and what
//! memory has buried needs no tombstone.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use super::install::{install, run_bytes};
use super::tables::Tables;
use super::{keep_up, tail};
use crate::base::error::{Error, Result, is_rot};
use crate::base::types::Lsn;
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::bytes_of;
use crate::format::table::write_full_key;
use crate::index::{Cursor, Direction, SnapshotGuard, Tree};
use crate::table::checkpoint::{NewLayer, Whole};
use crate::table::merge::{Retain, Source};
use crate::table::store::Store;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// What cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unreadable {
    /// The log behind the layers.
    Log,
    /// The layers themselves.
    Tables,
}

/// Writes from memory what cannot be read, if `why` is rot.
pub(super) fn heal(
    pipeline: &Pipeline,
    tables: &Tables,
    store: &Store,
    (what, why): (Unreadable, Error),
) -> Result<()> {
    // What only layers have cannot be written again.
    if !is_rot(&why) || (what == Unreadable::Tables && !pipeline.index().is_whole()) {
        return Err(why);
    }
    // In doubt without a MANIFEST, one layer of all data is enough.
    if !tables.health.found_rot(&why, store.stack().is_none() && store.is_in_doubt()) {
        return Err(why);
    }
    tables.debt.begins_anew();
    keep_up::settle(pipeline, tables);
    let pending = tables.pending(&pipeline.due).bytes;
    let run_bytes = run_bytes(&pipeline.settings, store.stack().as_deref(), pending);
    let whole = match what {
        Unreadable::Log if !is_little(pipeline, store) => None,
        _ => write_from_memory(pipeline, tables, store, run_bytes)?,
    };
    let written = match (whole, what) {
        (Some(whole), _) => whole,
        (None, Unreadable::Log) => tail::write(pipeline, tables, store, run_bytes)?,
        (None, Unreadable::Tables) => return Err(why),
    };
    let to = install(&pipeline.log, tables, store, written)?;
    pipeline.index().note_installed(to);
    tables.health.healed();
    Ok(())
}

/// Whether one layer of all is no more work than a checkpoint, and possible: then nothing has to be merged with it.
fn is_little(pipeline: &Pipeline, store: &Store) -> bool {
    let bytes = store.stack().map_or(0, |stack| bytes_of(&stack.manifest.layers));
    bytes <= pipeline.settings.checkpoint_bytes && pipeline.index().is_whole()
}

/// Writes all that is visible and durable as one layer. Returns it, and how much of the log had been counted before it began;
/// `None` if a snapshot is held below: the layer has one version of each key, and memory may forget the others.
///
/// # Errors
/// As those of a checkpoint.
fn write_from_memory<'s>(
    pipeline: &Pipeline,
    tables: &Tables,
    store: &'s Store,
    run_bytes: u64,
) -> Result<Option<(NewLayer<'s>, Amount)>> {
    let durable = pipeline.log.durable();
    let hold = pipeline.index().hold_at(|visible| visible.min(durable));
    // Behind the snapshot: what is counted too much comes later into a checkpoint, and what is counted too little would make
    // one due for ever.
    let counted = pipeline.due.counted();
    let log_bytes = counted.above(tables.health.done()).bytes;
    // Both are ends of records: the durable LSN moves to what a flush has written, which is whole records.
    let to = hold.lsn();
    if pipeline.index().horizon(to).1.iter().any(|held| *held < to) {
        return Ok(None);
    }
    let mut trees = pipeline.index().keyspaces(to)?;
    trees.sort_unstable_by_key(|tree| tree.id());
    let horizon = Retain { floor: to, held: Vec::new(), is_last: true };
    let keyspaces = tail::keyspaces_of(&trees, (to, pipeline.index().next_keyspace_id_at(to)), &horizon);
    let everything = Everything { tables, trees: trees.into(), present: None, id: 0, hold, entry: Vec::new(), key: 0 };
    let branch = pipeline.log.token(to).incarnation;
    let interval = Interval { from: Lsn::ZERO, to };
    let whole = Whole { interval, branch, keyspaces, source: everything, log_bytes };
    let layer = store.write_whole(whole, run_bytes)?;
    Ok(Some((layer, counted)))
}

/// All entries of all keyspaces, as of a snapshot. It stands before the first one.
struct Everything<'t> {
    tables: &'t Tables,
    trees: VecDeque<Arc<Tree>>,
    present: Option<Cursor>,
    /// Of the present keyspace.
    id: u32,
    hold: SnapshotGuard,
    /// The full key, and the value behind it.
    entry: Vec<u8>,
    /// The length of the full key.
    key: usize,
}

impl Source for Everything<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(cursor) = &mut self.present
                && let Some(entry) = cursor.take(Direction::Forward)?
            {
                let (key, value) = entry.slices();
                write_full_key(&mut self.entry, self.id, key);
                self.key = self.entry.len();
                self.entry.extend_from_slice(value);
                return Ok(true);
            }
            self.tables.check_open()?;
            let Some(tree) = self.trees.pop_front() else { return Ok(false) };
            self.id = tree.id();
            self.present = Some(Cursor::new(tree, (Bound::Unbounded, Bound::Unbounded), self.hold.lsn()));
        }
    }

    fn key(&self) -> &[u8] {
        &self.entry[..self.key]
    }

    /// When it was written nobody asks: no reader of layers has an older snapshot.
    fn version(&self) -> Found<'_> {
        Found { lsn: self.hold.lsn(), value: Some(&self.entry[self.key..]) }
    }
}
