//! A new database that is a copy of another: whole, or not a database.
//!
//! A copy takes long, and may be cut off at any moment. Until it is whole, its directory is marked in two ways: the file
//! UNFINISHED, which is durable before anything else is there, and a HISTORY that has another name. An open refuses the
//! mark by name; a forelog that knows no marks refuses a log without HISTORY. The last step gives HISTORY its name: by
//! one rename the copy becomes a database.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Engine, Options};
use crate::base::error::{Error, Result};
use crate::disk::{
    Access, Dir, DirHandle, Disk, DiskFile, DiskLock, FileId, IoBackend, LockMode, is_system_name, write_all_at,
};
use crate::format::history;
use crate::log::{UNFINISHED, UNFINISHED_HISTORY, is_of_unfinished};

const TEXT: &[u8] =
    b"This directory is a copy of a forelog database that was not finished, and holds only a part of it.\n\
    While no forelog is making it, delete the directory and make the copy again.\n";

/// A copy that is being made.
pub(super) struct Copy {
    /// The directory itself, with the names that it really has.
    dir: Arc<DirHandle>,
    pub(super) engine: Engine,
}

impl Copy {
    /// Makes an empty copy in `path`, where nothing may be yet.
    pub(super) fn begin(disk: &dyn Disk, path: &Path, options: Options) -> Result<Self> {
        refuse_if_used(disk, path)?;
        let (dir, mut made) = DirHandle::open_or_make(disk, path)?;
        dir.sync_name()?;
        made.keep();
        let mark = dir.path_of(UNFINISHED.as_ref());
        let write = || {
            let file = dir.dir().open(UNFINISHED.as_ref(), Access::Create)?;
            write_all_at(&*file, TEXT, 0)?;
            file.sync_all()
        };
        write().map_err(|error| Error::io("write", &mark, error))?;
        dir.sync()?;
        let dir = Arc::new(dir);
        let engine = options.on(Arc::new(Unfinished(Arc::clone(&dir))), path)?;
        Ok(Copy { dir, engine })
    }

    /// Makes everything durable, and the copy a database.
    pub(super) fn finish(self) -> Result<()> {
        self.engine.flush()?;
        self.engine.close()?;
        let (dir, mark) = (self.dir.dir(), self.dir.path_of(UNFINISHED.as_ref()));
        // The mark goes first: the other one goes by the rename that makes the copy a database.
        dir.remove(UNFINISHED.as_ref()).map_err(|error| Error::io("remove", &mark, error))?;
        self.dir.sync()?;
        let name = history::FILE_NAME.as_ref();
        let named = dir.rename(UNFINISHED_HISTORY.as_ref(), name);
        named.map_err(|error| Error::io("rename the finished", &self.dir.path_of(name), error))?;
        self.dir.sync()
    }
}

/// Refuses a place where something is.
pub(super) fn refuse_if_used(disk: &dyn Disk, to: &Path) -> Result<()> {
    let names = disk.open_dir(to).and_then(|dir| dir.list());
    match names.map(|names| names.into_iter().filter(|name| !is_system_name(name)).collect::<Vec<_>>()) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) if names.iter().any(|name| is_of_unfinished(name)) => Err(Error::invalid_input(format!(
            "{} holds an unfinished copy: delete it, or choose a new directory",
            to.display()
        ))),
        Ok(_) => Err(Error::invalid_input(format!("{} is not empty: choose a new directory", to.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("list", to, error)),
    }
}

/// Refuses a place inside the directory that is copied: its engine would find foreign files there.
pub(super) fn refuse_inside(disk: &dyn Disk, to: &Path, from: &Path) -> Result<()> {
    match disk.is_below(to, from) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::invalid_input(format!(
            "{} is inside {}, which is to be copied: choose a directory outside of it",
            to.display(),
            from.display()
        ))),
        Err(error) => Err(Error::io("resolve", to, error)),
    }
}

/// The directory as the engine of an unfinished copy sees it, whatever path it is opened by: HISTORY is under its other
/// name, and the mark is not there.
#[derive(Debug)]
struct Unfinished(Arc<DirHandle>);

impl Disk for Unfinished {
    fn open_dir(&self, _: &Path) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(UnfinishedDir(Arc::clone(&self.0))))
    }
}

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

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        self.0.dir().remove_child(name)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.0.dir().lock(mode)
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
