//! Opening a database, in steps:
//!
//! 1. The directory is made if need be, opened and locked (`disk/LOCK.md`).
//! 2. What is in it is read: HISTORY, MARK, the headers of segments.
//! 3. The log is judged frame by frame, and each of its records goes to the loader.
//! 4. The verdict is made durable (promise 5), and the log is open.
//! 5. The loader builds the index.
//!
//! Nothing is written before step 4, so that a refusal leaves no trace. If the directory went away meanwhile, all of it is
//! done again.

use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::Lsn;
use crate::disk::{self, Claim, Disk};
use crate::format::batch::Batch;
use crate::index::{Index, Limits, Loader, Panicked};
use crate::log::{self, Prior, Recovery, Replay};
#[cfg(feature = "unstable")]
use crate::txn::ReadOnly;
use crate::txn::pipeline::Pipeline;

/// Opens the database in `dir`.
pub(super) fn open(disk: &dyn Disk, dir: &Path, settings: &Settings) -> Result<(Pipeline, log::Handle)> {
    settings.check()?;
    disk::claim(disk, dir, settings.create, |claim| open_claimed(claim, settings))
}

/// Opens the database in a directory that is claimed: steps 2 to 5.
pub(super) fn open_claimed(claim: Claim<'_>, settings: &Settings) -> Result<(Pipeline, log::Handle)> {
    let mut loader = Loader::new(Limits::of(settings.segment_bytes));
    let found = log::open::read(claim, settings.create)?;
    let decided = found.decide(Prior::default(), &mut loader)?;
    let handle = decided.settle(settings.clone())?;
    let index = loader.finish().map_err(panicked)?;
    let pipeline = Pipeline::new(index, Arc::clone(handle.log()), settings.clone());
    Ok((pipeline, handle))
}

/// Reads and checks the database in `dir` as an open would, changing nothing.
pub(super) fn verify(disk: &dyn Disk, dir: &Path) -> Result<Recovery> {
    look(disk, dir).map(|(_, report)| report)
}

/// Reads the database in `dir` into an index, as an open would, changing nothing.
fn look(disk: &dyn Disk, dir: &Path) -> Result<(Index, Recovery)> {
    let mut loader = Loader::new(Limits::of(Settings::default().segment_bytes));
    let report = log::verify(disk, dir, &mut loader)?;
    Ok((loader.finish().map_err(panicked)?, report))
}

/// What the database in `dir` holds, read without a change and without any right to write.
#[cfg(feature = "unstable")]
pub(super) fn read_only(disk: &dyn Disk, dir: &Path) -> Result<ReadOnly> {
    look(disk, dir).map(|(index, report)| ReadOnly::new(index, report))
}

/// The checksums held, so a record that is no batch was not written by an engine.
impl Replay for Loader {
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        let not_ours = |why: String| {
            let message =
                format!("the record at LSN {lsn} is no transaction ({why}): this is the log of another program");
            Error::new(ErrorKind::NotADatabase, message)
        };
        let batch = Batch::parse(payload).map_err(|malformed| not_ours(malformed.to_string()))?;
        self.add(lsn, &batch).map_err(panicked)?.map_err(|error| not_ours(error.to_string()))
    }
}

fn panicked(_: Panicked) -> Error {
    Error::bug("the thread that loads the index panicked")
}
