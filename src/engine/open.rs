//! Opening: the log is replayed into the index, through the same apply path as a commit.

use std::path::Path;
use std::sync::Arc;

use crate::disk::Disk;
use crate::format::batch::Batch;
use crate::index::Index;
use crate::log::{self, Recovery};
use crate::txn::pipeline::Pipeline;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::options::Settings;
use crate::words::types::Lsn;

/// Opens the log and rebuilds the index from it.
pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, settings: Settings) -> Result<(Pipeline, log::Handle)> {
    let index = Index::new();
    let handle = log::open_for(disk, dir, settings.clone(), &mut |lsn, payload| replay(&index, lsn, payload))?;
    let pipeline = Pipeline::new(index, Arc::clone(handle.shared()), settings);
    Ok((pipeline, handle))
}

/// Reads and checks the database in `dir` as an open would, changing nothing.
pub(super) fn verify(disk: Arc<dyn Disk>, dir: &Path) -> Result<Recovery> {
    let index = Index::new();
    log::inspect::verify_on(disk, dir, &mut |lsn, payload| replay(&index, lsn, payload))
}

/// Applies one record. The checksums held, so a record that is no batch was not written by an engine.
fn replay(index: &Index, lsn: Lsn, payload: &[u8]) -> Result<()> {
    let not_ours = |why: String| {
        let message = format!("the record at LSN {lsn} is no transaction ({why}): this is the log of another program");
        Error::new(ErrorKind::NotADatabase, message)
    };
    let batch = Batch::parse(payload).map_err(|malformed| not_ours(malformed.to_string()))?;
    index.apply(lsn, &batch, lsn).map_err(|error| not_ours(error.to_string()))?;
    index.publish(lsn);
    Ok(())
}
