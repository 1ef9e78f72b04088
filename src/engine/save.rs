//! Writing the state in memory to another place.

use std::path::Path;

use super::copy::{Copy, copy_entries};
use super::unfinished::{MayHold, refuse_if_used, refuse_inside};
use super::{Engine, Options};
use crate::base::error::Result;
use crate::base::options::Checkpoints;
use crate::base::types::{CommitMode, Lsn};
use crate::disk::Disk;

/// What [`Engine::save_to`] wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CopyReport {
    /// The state is that of this position, in the engine that it was taken from.
    pub lsn: Lsn,
    /// Keyspaces written.
    pub keyspaces: u64,
    /// Entries written, in all of them.
    pub entries: u64,
}

pub(super) fn save(engine: &Engine, disk: &dyn Disk, to: &Path) -> Result<CopyReport> {
    refuse_inside(disk, to, engine.pipeline().log.handle())?;
    refuse_if_used(disk, to, MayHold::Nothing)?;
    let snapshot = engine.snapshot()?;
    let settings = &engine.pipeline().settings;
    let options = Options::new()
        .segment_bytes(settings.segment_bytes())
        .max_transaction_bytes(crate::base::options::MAX_TRANSACTION_BYTES)
        .commit_mode(CommitMode::Async)
        // The way back to a version without tables.
        .checkpoints(Checkpoints::Never);
    let copying = Copy::begin(disk, to, &options)?;
    let copy = &copying.engine;
    let mut saved = CopyReport { lsn: snapshot.lsn(), keyspaces: 0, entries: 0 };
    for name in snapshot.keyspace_names()? {
        let Some(source) = snapshot.keyspace(&name)? else { continue };
        let target = copy.create_keyspace(&name)?;
        saved.keyspaces += 1;
        saved.entries += copy_entries(&snapshot, &source, copy, &target)?;
    }
    copying.finish()?;
    Ok(saved)
}
