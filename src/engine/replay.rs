//! Replay: the log behind the layers comes into memory, or, if it is more than memory may hold, into layers first
//! (`table/RULES.md`, 10).

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::{behind, next_piece};
use super::install::{clear_away, install, run_bytes};
use super::merging::{Leaves, is_due, merge_many};
use super::residency::over_layers;
use super::tables::Tables;
use super::turn::Wait;
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::options::{Checkpoints, Settings};
use crate::base::types::Lsn;
use crate::disk::DirHandle;
use crate::format::batch::Batch;
use crate::format::history;
use crate::index::{Index, Limits, Loader, Panicked};
use crate::log::{LetGo, LogInner, Replay, Scan};
use crate::table::store::Store;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// What comes to no more than so many checkpoints in memory is not sorted: lives with automatic checkpoints leave as much, and an open
/// after a clean close is to write nothing.
const LEFT: u64 = 10;
/// Where a log is sorted before anything is read into memory, a piece may take this part of what records may.
const PIECE: u64 = 4;

/// What a walk over the log has found, in memory as far as there is room.
pub(super) struct Replayed<'t> {
    tables: &'t Tables,
    settings: &'t Settings,
    /// `None` from when it had taken more than there is room for.
    loader: Option<Loader>,
    /// In bytes; `None` if it has to come into memory, however much it is.
    room: Option<u64>,
    amount: Amount,
    /// The last record.
    last: Lsn,
    /// HISTORY, if no record that it allows deletes a range.
    without_ranges: Option<PathBuf>,
}

impl<'t> Replayed<'t> {
    /// Of an open, which may write.
    pub(super) fn of_an_open(handle: &DirHandle, tables: &'t Tables, settings: &'t Settings) -> Self {
        let may_sort = settings.checkpoints == Checkpoints::Automatic && !settings.is_volatile;
        let room = tables.shares().records.max(settings.checkpoint_bytes.saturating_mul(LEFT));
        Replayed { room: may_sort.then_some(room), ..Replayed::of_a_reader(handle, tables, settings) }
    }

    /// Of one who only reads.
    pub(super) fn of_a_reader(handle: &DirHandle, tables: &'t Tables, settings: &'t Settings) -> Self {
        let without_ranges = (!tables.may_have_ranges()).then(|| handle.path_of(OsStr::new(history::FILE_NAME)));
        let loader = Some(loader(tables, settings));
        Replayed { tables, settings, loader, room: None, amount: Amount::default(), last: Lsn::ZERO, without_ranges }
    }

    /// Whether there was room for all of it.
    pub(super) fn is_in_memory(&self) -> bool {
        self.loader.is_some()
    }

    /// The index with all of it.
    pub(super) fn into_memory(self) -> Result<Index> {
        let loader = self.loader.ok_or_else(|| Error::bug("a reader has given up memory"))?;
        loader.finish().map_err(panicked)
    }

    /// The same, once the verdict on the log is durable. Returns how much of the log was walked over as well.
    pub(super) fn finish(self, log: &Arc<LogInner>) -> Result<(Index, Amount)> {
        let Replayed { tables, settings, loader: found, amount, last, .. } = self;
        if let Some(loader) = found {
            return Ok((loader.finish().map_err(panicked)?, amount));
        }
        // If it fails, what is left comes into memory: that costs room, and an open that fails would cost all.
        let sorted = sort(tables, log, settings);
        tables.health.checkpointed(&sorted);
        tables.debt.checkpointed(&sorted, false);
        if log.poisoned().is_some() {
            return Err(log.refusal());
        }
        let mut rest = loader(tables, settings);
        let to = tables.stack().map_or(Lsn::ZERO, |stack| stack.manifest.to);
        for record in Scan::new(log, behind(log, to))? {
            let record = record?;
            load(&mut rest, record.lsn, &parse(record.lsn, &record.payload)?)?;
        }
        let index = rest.finish().map_err(panicked)?;
        // Both walks have seen the same log.
        if index.visible() != last {
            return Err(Error::bug(format_args!("a log that ends at {last} was sorted up to {}", index.visible())));
        }
        Ok((index, amount))
    }
}

impl Replay for Replayed<'_> {
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        let batch = parse(lsn, payload)?;
        // Its bit is in HISTORY, durably, before the first one is appended (F1): this HISTORY is older than the log.
        if let Some(history) = self.without_ranges.as_ref().filter(|_| batch.has_ranges()) {
            return Err(Error::damaged(history, lsn, DamageCause::BadHistory));
        }
        self.amount.add(payload.len(), batch.len());
        self.last = lsn;
        let Some(loader) = &mut self.loader else { return Ok(()) };
        load(loader, lsn, &batch)?;
        if let Some(room) = self.room
            && !loader.fits_in(usize::try_from(room).unwrap_or(usize::MAX)).map_err(panicked)?
        {
            self.loader = None;
        }
        Ok(())
    }
}

/// Has all of the log in layers, piece by piece. Nobody reads or writes yet. Returns how many pieces it were.
fn sort(tables: &Tables, log: &Arc<LogInner>, settings: &Settings) -> Result<u64> {
    let store = tables.make(log)?;
    log.check_ours(|| tables.check_place(log.handle()))?;
    clear_away(log, tables, store)?;
    let _unpaced = tables.pacers.checkpoints.hurry();
    let checkpoint = Amount::of_a_checkpoint(settings);
    // Fewer and longer than checkpoints: each is a layer.
    let mut full = checkpoint.times((tables.shares().records / PIECE / checkpoint.bytes.max(1)).max(1));
    let (target, mut made) = (log.durable(), 0);
    loop {
        match sort_piece((tables, log, settings), store, (target, full)) {
            Ok(true) => made += 1,
            Ok(false) => return Ok(made),
            // The log has left room for a checkpoint, and not for more. Each gives its segments back.
            Err(error) if error.kind() == ErrorKind::DiskFull && full != checkpoint => {
                full = checkpoint;
                let gone = log.let_go(LetGo::All, || tables.check_place(log.handle()));
                tables.health.not_removed(gone.as_ref().err());
            }
            Err(error) => return Err(error),
        }
        merge(tables, log, settings);
    }
}

/// Has the next piece in a layer; `false` if there is none.
fn sort_piece(
    (tables, log, settings): (&Tables, &Arc<LogInner>, &Settings),
    store: &Store,
    until: (Lsn, Amount),
) -> Result<bool> {
    // No snapshot is held, and none begins below the end of the last piece.
    let Some((piece, amount)) = next_piece(log, tables, store, until, |to| (to, Vec::new()))? else { return Ok(false) };
    let run_bytes = run_bytes(settings, store.stack().as_deref(), piece.log_bytes);
    let layer = store.write_layer(piece, run_bytes)?;
    install(log, tables, store, (layer, tables.health.done().plus(amount)))?;
    Ok(true)
}

/// Does the merges that are due, so that the pieces do not become more layers than can be read or merged. What fails is tried again
/// once the database is open.
fn merge(tables: &Tables, log: &Arc<LogInner>, settings: &Settings) {
    while is_due(tables) {
        // Over the layers as they are: what it cannot ask of them it does not take for being all in memory.
        let pipeline = Pipeline::new(over_layers(tables).0, Arc::clone(log), settings.clone());
        let before = tables.health.stats();
        merge_many(&pipeline, tables, Wait::ForItsTurn, Leaves::Room);
        let after = tables.health.stats();
        if after.merge_failures > before.merge_failures || after.merge_steps == before.merge_steps {
            break;
        }
    }
}

/// Over what the layers have.
fn loader(tables: &Tables, settings: &Settings) -> Loader {
    let (index, to) = if settings.is_volatile { Default::default() } else { over_layers(tables) };
    Loader::into_index(index, to, Limits::of(settings.segment_bytes()))
}

/// The checksums held, so a record that is no batch was not written by an engine.
fn parse(lsn: Lsn, payload: &[u8]) -> Result<Batch<'_>> {
    Batch::parse(payload).map_err(|malformed| not_ours(lsn, malformed))
}

/// Gives a record to the loader.
fn load(loader: &mut Loader, lsn: Lsn, batch: &Batch<'_>) -> Result<()> {
    loader.add(lsn, batch).map_err(panicked)?.map_err(|error| not_ours(lsn, error))
}

fn not_ours(lsn: Lsn, why: impl Display) -> Error {
    let message = format!("the record at LSN {lsn} is no transaction ({why}): this is the log of another program");
    Error::new(ErrorKind::NotADatabase, message)
}

fn panicked(_: Panicked) -> Error {
    Error::bug("the thread that loads the index panicked")
}
