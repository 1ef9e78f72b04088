//! A new database that is a copy of another: whole, or not a database.
//!
//! A copy takes long, and may be cut off at any moment. Until it is whole, its directory is marked in two ways: the file
//! UNFINISHED, which is durable before anything else is there, and a HISTORY that has another name. An open refuses the
//! mark by name; a forelog that knows no marks refuses a log without HISTORY. The last step gives HISTORY its name: by
//! one rename the copy becomes a database.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Engine, Options};
use crate::disk::{Access, Disk, DiskFile, DiskLock, IoBackend, write_all_at};
use crate::format::history;
use crate::log::{self, UNFINISHED, UNFINISHED_HISTORY};
use crate::words::error::{Error, Result};

const TEXT: &[u8] =
    b"This directory is a copy of a forelog database that was not finished, and holds only a part of it.\n\
    While no forelog is making it, delete the directory and make the copy again.\n";

/// A copy that is being made.
pub(super) struct Copy {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(super) engine: Engine,
}

impl Copy {
    /// Makes an empty copy in `dir`, where nothing may be yet.
    pub(super) fn begin(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Self> {
        refuse_if_used(&*disk, dir)?;
        log::make_directory(&disk, dir)?;
        let mark = dir.join(UNFINISHED);
        let write = || {
            let file = disk.open(&mark, Access::Create)?;
            write_all_at(&*file, TEXT, 0)?;
            file.sync_all()?;
            disk.sync_dir(dir)
        };
        write().map_err(|error| Error::io("write", &mark, error))?;
        let engine = options.on(Arc::new(Unfinished(Arc::clone(&disk))), dir)?;
        Ok(Copy { disk, dir: dir.to_owned(), engine })
    }

    /// Makes everything durable, and the copy a database.
    pub(super) fn finish(self) -> Result<()> {
        self.engine.flush()?;
        self.engine.close()?;
        let mark = self.dir.join(UNFINISHED);
        // The mark goes first: the other one goes by the rename that makes the copy a database.
        let unmark = || self.disk.remove(&mark).and_then(|()| self.disk.sync_dir(&self.dir));
        unmark().map_err(|error| Error::io("remove", &mark, error))?;
        let history = self.dir.join(history::FILE_NAME);
        let name = || {
            self.disk.rename(&self.dir.join(UNFINISHED_HISTORY), &history)?;
            self.disk.sync_dir(&self.dir)
        };
        name().map_err(|error| Error::io("rename the finished", &history, error))
    }
}

/// Refuses a place where something is.
pub(super) fn refuse_if_used(disk: &dyn Disk, to: &Path) -> Result<()> {
    match disk.list(to) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) if names.iter().any(|name| log::is_of_unfinished(name)) => Err(Error::invalid_input(format!(
            "{} holds an unfinished copy: delete it, or choose a new directory",
            to.display()
        ))),
        Ok(_) => Err(Error::invalid_input(format!("{} is not empty: choose a new directory", to.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("list", to, error)),
    }
}

/// Refuses a place inside the directory that is copied: what is written there would be in the way of its owner.
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

/// The disk as the engine of an unfinished copy sees it: HISTORY is under its other name, and the mark is not there.
#[derive(Debug)]
struct Unfinished(Arc<dyn Disk>);

fn renamed(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(name) if name == history::FILE_NAME => path.with_file_name(UNFINISHED_HISTORY),
        _ => path.to_owned(),
    }
}

impl Disk for Unfinished {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let shown = |name: OsString| if name == UNFINISHED_HISTORY { history::FILE_NAME.into() } else { name };
        Ok(self.0.list(dir)?.into_iter().filter(|name| name != UNFINISHED).map(shown).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(&renamed(path), access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(&renamed(from), &renamed(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(&renamed(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn may_replace(&self, path: &Path) -> io::Result<()> {
        self.0.may_replace(&renamed(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.0.lock(path)
    }

    fn io(&self) -> IoBackend {
        self.0.io()
    }
}
