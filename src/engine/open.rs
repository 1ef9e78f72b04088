//! Opening a database, in steps:
//!
//! 1. The directory is made if need be, opened and locked (`disk/LOCK.md`).
//! 2. What is in it is read: HISTORY, MARK, the headers of segments.
//! 3. The log behind the layers is judged frame by frame, and each of its records goes to the loader.
//! 4. The verdict is made durable (promise 5), and the log is open.
//! 5. The loader builds the index. What layers have stays there: the warmer reads it later, and readers until then.
//!
//! Nothing is written before step 4, so that a refusal leaves no trace. If the directory went away meanwhile, all of it is
//! done again.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copied::explained;
use super::memory;
use super::residency::over_layers;
use super::tables::{self, FoundTables, Tables};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::Lsn;
use crate::disk::{self, Claim, DirHandle, Disk};
use crate::format::batch::Batch;
use crate::format::history::{self, History};
use crate::index::{Index, Limits, Loader, Panicked};
use crate::log::log_dir::LogDir;
use crate::log::open::decide::Verdicts;
use crate::log::{self, Files, Replay};
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// Opens the database in `dir`.
pub(super) fn open(disk: &dyn Disk, dir: &Path, settings: &Settings) -> Result<Opened> {
    settings.check()?;
    disk::claim(disk, dir, settings.create, |claim| open_claimed(claim, settings))
}

/// Opens the database in a directory that is claimed: steps 2 to 5.
pub(super) fn open_claimed(claim: Claim<'_>, settings: &Settings) -> Result<Opened> {
    let handle = Arc::clone(claim.handle);
    recover(claim, settings).map_err(|error| explained(&handle, error))
}

fn recover(claim: Claim<'_>, settings: &Settings) -> Result<Opened> {
    let settings = &memory::resolved(settings);
    let handle = Arc::clone(claim.handle);
    let (tables, found) = look_at_tables(&handle, settings, |look| log::open::read(claim, settings.create, look))?;
    let (index, to) = if settings.is_volatile { Default::default() } else { over_layers(&tables) };
    let mut loader = Loader::into_index(index, to, Limits::of(settings.segment_bytes()));
    let mut replayed = Replayed::new(&mut loader, &handle, &tables);
    let decided = found.decide(&mut replayed)?;
    let at_open = replayed.amount;
    let is_same = |history: &History| tables.are_as_found(&handle, history);
    let log = decided.settle(settings.clone(), is_same, |has_more| {
        let Some(store) = tables.store() else { return Ok((true, None)) };
        // The open goes on without it only if HISTORY names what was found.
        store.settle(tables.is_named(), has_more)?;
        // What cannot be removed costs space alone.
        let _ = store.remove_needless();
        Ok((store.is_settled(), tables.names()))
    })?;
    tables.opened(log.log());
    let index = loader.finish().map_err(panicked)?;
    let pipeline = Pipeline::new(index, Arc::clone(log.log()), settings.clone());
    Ok(Opened { pipeline, log, tables, at_open })
}

/// An open database.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) log: log::Handle,
    pub(super) tables: Tables,
    /// What was replayed of the log.
    pub(super) at_open: Amount,
}

/// Counts what it gives to the loader.
struct Replayed<'l> {
    loader: &'l mut Loader,
    amount: Amount,
    /// HISTORY, if no record that it allows deletes a range.
    without_ranges: Option<PathBuf>,
}

impl<'l> Replayed<'l> {
    fn new(loader: &'l mut Loader, handle: &DirHandle, tables: &Tables) -> Self {
        let without_ranges = (!tables.may_have_ranges()).then(|| handle.path_of(OsStr::new(history::FILE_NAME)));
        Replayed { loader, amount: Amount::default(), without_ranges }
    }
}

impl Replay for Replayed<'_> {
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        let batch = parse(lsn, payload)?;
        // Its bit is in HISTORY, durably, before the first one is appended (F1): this HISTORY is older than the log.
        if let Some(history) = self.without_ranges.as_ref().filter(|_| batch.has_ranges()) {
            return Err(Error::damaged(history, lsn, DamageCause::BadHistory));
        }
        load(self.loader, lsn, &batch)?;
        self.amount.add(payload.len(), batch.len());
        Ok(())
    }
}

/// What `read` gives, and the tables that it has found on its way, once HISTORY was known.
pub(super) fn look_at_tables<T>(
    handle: &DirHandle,
    settings: &Settings,
    read: impl FnOnce(&mut log::Look<'_>) -> Result<T>,
) -> Result<(Tables, T)> {
    let mut tables = FoundTables::default();
    let found = read(&mut |handle, history| {
        let (found, prior) = tables::look(handle, history)?;
        tables = found;
        Ok(prior)
    })?;
    let tables = Tables::new(handle, tables, settings).map_err(|error| handle.unless_overtaken(error))?;
    Ok((tables, found))
}

/// What a database holds, and the verdict on its log, on which nothing was done.
pub(super) struct Looked {
    /// It asks the layers.
    pub(super) index: Index,
    pub(super) verdicts: Verdicts,
    pub(super) tables: Tables,
}

/// The memory of one who reads without opening: about a third of it is for parts of tables.
const READER_BYTES: u64 = 128 << 20;

/// Reads a database as an open would, changing nothing.
pub(super) fn look(handle: &Arc<DirHandle>, files: Files) -> Result<Looked> {
    look_at(handle, files).map_err(|error| explained(handle, error))
}

fn look_at(handle: &Arc<DirHandle>, files: Files) -> Result<Looked> {
    // What it keeps of tables follows from this, and is the same on every machine.
    let settings = memory::resolved(&Settings { memory_bytes: Some(READER_BYTES), ..Settings::default() });
    let place = LogDir::new(Arc::clone(handle));
    // All files are found, and open, before any is read at length.
    let (tables, directory) = look_at_tables(handle, &settings, |look| log::open::load_existing(&place, files, look))?;
    let (index, to) = over_layers(&tables);
    let mut loader = Loader::into_index(index, to, Limits::of(settings.segment_bytes()));
    let mut replayed = Replayed::new(&mut loader, handle, &tables);
    let verdicts = log::open::decide::decide(&place, directory, files, &mut replayed)?;
    Ok(Looked { index: loader.finish().map_err(panicked)?, verdicts, tables })
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
