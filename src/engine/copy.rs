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

use super::{Engine, Options};
use crate::base::error::{Error, Result};
use crate::base::types::CommitMode;
use crate::disk::{
    Access, Claim, Dir, DirHandle, Disk, DiskFile, DiskLock, FileId, IoBackend, LOCK_NAME, LockMode, claim,
    is_system_name, write_all_at,
};
use crate::format::history;
use crate::log::{Marked, UNFINISHED, UNFINISHED_HISTORY, is_of_unfinished};
use crate::txn::{Keyspace, Snapshot};

const TEXT: &[u8] =
    b"This directory is a copy of a forelog database that was not finished, and holds only a part of it.\n\
    While no forelog is making it, delete the directory and make the copy again.\n\
    If there is a file HISTORY, too, the directory holds a whole database, and this file is not part of it: keep the\n\
    directory, move this file out of it, and open the database.\n";

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
    /// [`ErrorKind::Locked`](crate::ErrorKind::Locked), and those of [`refuse_if_used`].
    pub(super) fn begin(disk: &dyn Disk, path: &Path, options: &Options) -> Result<Self> {
        claim(disk, path, true, |Claim { handle, made }| {
            refuse_used(handle).map_err(|error| handle.unless_overtaken(error))?;
            handle.sync_name()?;
            made.keep();
            handle.complete_lock(|| match refuse_used(handle) {
                Err(error) if error.io_error().is_some() => Err(error),
                looked => Ok(looked.is_ok()),
            })?;
            mark(handle)?;
            let view = Arc::new(handle.viewed_as(Arc::new(UnfinishedDir(Arc::clone(handle)))));
            let engine = options.in_claimed(Claim { handle: &view, made })?;
            Ok(Copy { engine, dir: Arc::clone(handle) })
        })
    }

    /// Makes everything durable, and the copy a database.
    pub(super) fn finish(self) -> Result<()> {
        self.engine.flush()?;
        self.engine.close()?;
        let (handle, dir) = (&*self.dir, self.dir.dir());
        let (mark, name) = (OsStr::new(UNFINISHED), OsStr::new(history::FILE_NAME));
        handle.check_lock()?;
        self.engine.pipeline().log.check_whole()?;
        // The mark goes first: the other one goes by the rename that makes the copy a database.
        dir.remove(mark).map_err(|error| Error::io("remove", &handle.path_of(mark), error))?;
        handle.sync()?;
        handle.check_lock()?;
        self.engine.pipeline().log.check_whole()?;
        let named = match dir.id_of(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => dir.rename(UNFINISHED_HISTORY.as_ref(), name),
            // Not of this copy: a rename would replace it.
            found => found.and(Err(io::ErrorKind::AlreadyExists.into())),
        };
        named.map_err(|error| Error::io("rename the finished", &handle.path_of(name), error))?;
        handle.sync()?;
        handle.unlock();
        Ok(())
    }
}

/// Marks a directory that is locked and holds nothing as an unfinished copy, durably. If that fails, what is there of the
/// mark stays: it says what the directory is.
fn mark(handle: &DirHandle) -> Result<()> {
    let name = OsStr::new(UNFINISHED);
    let write = || {
        let file = handle.dir().open(name, Access::Create)?;
        write_all_at(&*file, TEXT, 0)?;
        file.sync_all()
    };
    write().map_err(|error| Error::io("write", &handle.path_of(name), error))?;
    handle.sync()
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

/// Refuses a place where something is, before anything is read for the copy, and by a look that keeps no opener out.
/// [`Copy::begin`] looks again, under its locks.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput); [`ErrorKind::Locked`](crate::ErrorKind::Locked) if a copy
/// is being made there.
pub(super) fn refuse_if_used(disk: &dyn Disk, to: &Path) -> Result<()> {
    let handle = match DirHandle::open(disk, to) {
        Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => return Ok(()),
        handle => handle?,
    };
    // Whether its copy is still being made, only the lock tells.
    if handle.list()?.iter().any(|name| is_of_unfinished(name)) {
        handle.lock_for_reading()?;
    }
    refuse_used(&handle).map_err(|error| handle.unless_overtaken(error))
}

/// Refuses a directory with more in it than LOCK, and what systems put there.
fn refuse_used(handle: &DirHandle) -> Result<()> {
    let names = handle.list()?;
    let is_nothing = |name: &&OsString| is_system_name(name) || *name == LOCK_NAME;
    if names.iter().all(|name| is_nothing(&name)) {
        return Ok(());
    }
    let why = match Marked::of(&names) {
        Some(marked) => marked.describe(handle.path()),
        None => format!("{} is not empty", handle.path().display()),
    };
    Err(Error::invalid_input(format!("{why}. A copy needs a directory that is empty or new")))
}

/// Refuses a place inside the directory that is copied, or in one that it holds, by whatever paths both are known: their
/// engine, or their owner, would find foreign files there.
pub(super) fn refuse_inside(disk: &dyn Disk, to: &Path, from: &DirHandle) -> Result<()> {
    let above = disk.above(to).map_err(|error| Error::io("resolve", to, error))?;
    let is_inside = holds_one_of(from.dir(), &above).map_err(|error| Error::io("list", from.path(), error))?;
    if is_inside {
        return Err(Error::invalid_input(format!(
            "{} is inside {}, which is to be copied: choose a directory outside of it",
            to.display(),
            from.path().display()
        )));
    }
    Ok(())
}

/// How many directories below the one that is copied are looked into: a database makes none.
const LOOKED_INTO: usize = 1000;

/// Whether `dir` is one of these directories, or holds one, which may be mounted elsewhere, too.
fn holds_one_of(dir: &dyn Dir, ids: &[FileId]) -> io::Result<bool> {
    if ids.contains(&dir.id()?) {
        return Ok(true);
    }
    let mut left = LOOKED_INTO;
    let mut below = directories_in(dir, &mut left);
    while let Some(dir) = below.pop() {
        if dir.id().is_ok_and(|id| ids.contains(&id)) {
            return Ok(true);
        }
        below.extend(directories_in(&*dir, &mut left));
    }
    Ok(false)
}

/// The directories in `dir`, at most `left` of them. What cannot be read is passed over.
fn directories_in(dir: &dyn Dir, left: &mut usize) -> Vec<Arc<dyn Dir>> {
    // Not through symbolic links, which lead elsewhere.
    let is_dir =
        |name: &OsString| dir.may_replace(name).is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory);
    let names = dir.list().unwrap_or_default();
    let found = names.iter().filter(|name| is_dir(name)).filter_map(|name| dir.child(name, Access::Read).ok());
    let found: Vec<_> = found.take(*left).collect();
    *left -= found.len();
    found
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
