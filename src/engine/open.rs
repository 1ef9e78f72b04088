//! Opening: the log is loaded into the index.

use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::Lsn;
use crate::disk::{self, Disk};
use crate::format::batch::Batch;
use crate::index::{Index, Limits, Loader, Panicked};
use crate::log::{self, Recovery};
use crate::txn::pipeline::Pipeline;

/// Claims the directory, opens the log in it, and rebuilds the index from that.
pub(super) fn open(disk: &dyn Disk, dir: &Path, settings: Settings) -> Result<(Pipeline, log::Handle)> {
    settings.check()?;
    let (handle, index) = disk::claim(disk, dir, settings.create, |claim| {
        loaded(&settings, |visit| log::open_for(claim, settings.clone(), &mut |lsn, payload| visit(lsn, payload)))
    })?;
    let pipeline = Pipeline::new(index, Arc::clone(handle.log()), settings);
    Ok((pipeline, handle))
}

/// Reads and checks the database in `dir` as an open would, changing nothing.
pub(super) fn verify(disk: &dyn Disk, dir: &Path) -> Result<Recovery> {
    let (report, _) = loaded(&Settings::default(), |visit| log::verify(disk, dir, visit))?;
    Ok(report)
}

/// Reads a log with `read`, and loads the records that it shows.
fn loaded<T>(
    settings: &Settings,
    read: impl FnOnce(&mut dyn FnMut(Lsn, &[u8]) -> Result<()>) -> Result<T>,
) -> Result<(T, Index)> {
    let mut loader = Loader::new(Limits::of(settings.segment_bytes));
    let read = read(&mut |lsn, payload| load(&mut loader, lsn, payload))?;
    Ok((read, loader.finish().map_err(panicked)?))
}

/// Loads one record. The checksums held, so a record that is no batch was not written by an engine.
fn load(loader: &mut Loader, lsn: Lsn, payload: &[u8]) -> Result<()> {
    let not_ours = |why: String| {
        let message = format!("the record at LSN {lsn} is no transaction ({why}): this is the log of another program");
        Error::new(ErrorKind::NotADatabase, message)
    };
    let batch = Batch::parse(payload).map_err(|malformed| not_ours(malformed.to_string()))?;
    loader.add(lsn, &batch).map_err(panicked)?.map_err(|error| not_ours(error.to_string()))
}

fn panicked(_: Panicked) -> Error {
    Error::bug("the thread that loads the index panicked")
}
