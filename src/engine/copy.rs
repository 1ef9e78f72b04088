//! A new database that is a copy of another: whole, or not a database.
//!
//! A copy takes long, and may be cut off at any moment. Until it is whole, its directory is marked in two ways: the file
//! UNFINISHED, which is durable before any other file but LOCK, and a HISTORY that has another name. An open refuses the
//! mark by name; a forelog that knows no marks refuses a log without HISTORY. The last step gives HISTORY its name: by
//! one rename the copy becomes a database. The directory is locked from before the mark until after the rename: the
//! steps are those of a copy in `disk/LOCK.md`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::unfinished::{self, MayHold};
use super::{Engine, Options};
use crate::base::error::Result;
use crate::base::types::CommitMode;
use crate::disk::{Access, Claim, Dir, DirHandle, Disk, DiskFile, DiskLock, FileId, IoBackend, LockMode, claim};
use crate::format::history;
use crate::log::{UNFINISHED, UNFINISHED_HISTORY};
use crate::txn::{Keyspace, Snapshot};

/// A copy that is being made.
pub(super) struct Copy {
    pub(super) engine: Engine,
    /// The directory itself, with the names that it really has, and the locks of the copy. The engine has a share in
    /// them, so that its close does not unlock what is not finished.
    dir: Arc<DirHandle>,
}

impl Copy {
    /// Makes an empty copy in `path`, where nothing may be yet.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`](crate::ErrorKind::Locked), and those of [`unfinished::begin`].
    pub(super) fn begin(disk: &dyn Disk, path: &Path, options: &Options) -> Result<Self> {
        claim(disk, path, true, |mut claim| {
            unfinished::begin(&mut claim, MayHold::Nothing)?;
            let handle = claim.handle;
            let view = Arc::new(handle.viewed_as(Arc::new(UnfinishedDir(Arc::clone(handle)))));
            let engine = options.in_claimed(Claim { handle: &view, made: claim.made })?;
            Ok(Copy { engine, dir: Arc::clone(handle) })
        })
    }

    /// Makes everything durable, and the copy a database.
    pub(super) fn finish(self) -> Result<()> {
        self.engine.flush()?;
        self.engine.close()?;
        unfinished::finish(&self.dir, || self.engine.pipeline().log.check_whole())
    }
}

/// Entries are committed together up to this many bytes.
const BATCH: usize = 1 << 20;

/// Commits all entries of `source` to `target`; returns how many there are.
pub(super) fn copy_entries(snapshot: &Snapshot, source: &Keyspace, to: &Engine, target: &Keyspace) -> Result<u64> {
    let (mut batch, mut bytes, mut entries) = (to.batch()?, 0, 0);
    for entry in snapshot.iter(source)? {
        let (key, value) = entry?;
        if bytes > 0 && bytes + key.len() + value.len() > BATCH {
            batch.commit_with(CommitMode::Async)?;
            (batch, bytes) = (to.batch()?, 0);
        }
        bytes += key.len() + value.len() + 1;
        entries += 1;
        batch.put(target, key, value)?;
    }
    batch.commit_with(CommitMode::Async)?;
    Ok(entries)
}

/// The directory as the engine of an unfinished copy sees it: HISTORY is under its other name, and the mark is not there.
#[derive(Debug)]
struct UnfinishedDir(Arc<DirHandle>);

/// What a file is really called.
fn real(name: &OsStr) -> &OsStr {
    if name == history::FILE_NAME { UNFINISHED_HISTORY.as_ref() } else { name }
}

impl Dir for UnfinishedDir {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.0.dir().open(real(name), access)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.0.dir().rename(real(from), real(to))
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.0.dir().rename_new(real(from), real(to))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.0.dir().remove(real(name))
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        let shown = |name: OsString| if name == UNFINISHED_HISTORY { history::FILE_NAME.into() } else { name };
        Ok(self.0.dir().list()?.into_iter().filter(|name| name != UNFINISHED).map(shown).collect())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.dir().sync()
    }

    fn sync_name(&self) -> io::Result<()> {
        self.0.dir().sync_name()
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        self.0.dir().child(name, access)
    }

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.0.dir().rename_child(from, to)
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        self.0.dir().remove_child(name)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.0.dir().lock(mode)
    }

    fn id(&self) -> io::Result<FileId> {
        self.0.dir().id()
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        self.0.dir().id_of(real(name))
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        self.0.dir().may_replace(real(name))
    }

    fn room(&self) -> io::Result<Option<u64>> {
        self.0.dir().room()
    }

    fn io(&self) -> IoBackend {
        self.0.dir().io()
    }
}
