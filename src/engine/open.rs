//! Opening a database, in steps:
//!
//! 1. The directory is made if need be, opened and locked (`disk/LOCK.md`).
//! 2. What is in it is read: HISTORY, MARK, the headers of segments.
//! 3. The log behind the layers is judged frame by frame, and each of its records goes to the loader.
//! 4. The verdict is made durable (promise 5), and the log is open.
//! 5. The loader builds the index (`replay`). What layers have stays there: the warmer reads it later, and readers until then.
//!
//! Nothing is written before step 4, so that a refusal leaves no trace. If the directory went away meanwhile, all of it is
//! done again.

use std::path::Path;
use std::sync::Arc;

use super::copied::explained;
use super::memory;
use super::replay::Replayed;
use super::tables::{self, FoundTables, Tables};
use crate::base::error::Result;
use crate::base::options::Settings;
use crate::disk::{self, Claim, DirHandle, Disk};
use crate::format::history::History;
use crate::index::Index;
use crate::log::log_dir::LogDir;
use crate::log::open::decide::Verdicts;
use crate::log::{self, Files};
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
    let mut replayed = Replayed::of_an_open(&handle, &tables, settings);
    let decided = found.decide(&mut replayed)?;
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
    let has_sorted = !replayed.is_in_memory();
    let (index, at_open) = replayed.finish(log.log())?;
    let pipeline = Pipeline::new(index, Arc::clone(log.log()), settings.clone());
    Ok(Opened { pipeline, log, tables, at_open, has_sorted })
}

/// An open database.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) log: log::Handle,
    pub(super) tables: Tables,
    /// What was replayed of the log.
    pub(super) at_open: Amount,
    /// It was too long for memory: all of it is in layers, or what is not has come into memory, since a piece failed.
    pub(super) has_sorted: bool,
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
    let mut replayed = Replayed::of_a_reader(handle, &tables, &settings);
    let verdicts = log::open::decide::decide(&place, directory, files, &mut replayed)?;
    let index = replayed.into_memory()?;
    Ok(Looked { index, verdicts, tables })
}
