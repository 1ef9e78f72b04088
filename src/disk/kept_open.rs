//! A directory as a reader has it beside a writer (`LOCK.md`, B2): files that were opened stay open, so that they can be read
//! once their names are gone. It changes nothing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::{Access, Dir, DiskFile, DiskLock, FailStop, FileId, LockMode};
use crate::rt::sync::Mutex;

/// So many files stay open: a quarter of what a process may have open where nothing else is said.
const MOST: usize = 256;

/// Whether a file of this name never gives its name to another one.
pub(crate) type IsForOne = fn(&OsStr) -> bool;

#[derive(Clone, Debug)]
pub(crate) struct KeptOpen {
    dir: Arc<dyn Dir>,
    is_for_one: IsForOne,
    /// Those of this directory and of the ones in it.
    files: Arc<Mutex<HashMap<OsString, Arc<dyn DiskFile>>>>,
}

impl KeptOpen {
    pub(crate) fn new(dir: FailStop, is_for_one: IsForOne) -> Self {
        KeptOpen { dir: Arc::new(dir), is_for_one, files: Arc::default() }
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it is only read"))
}

impl Dir for KeptOpen {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if access != Access::Read {
            return refused();
        }
        if let Some(file) = self.files.lock().get(name) {
            return Ok(Arc::clone(file));
        }
        let file = self.dir.open(name, access)?;
        let mut files = self.files.lock();
        if (self.is_for_one)(name) && files.len() < MOST {
            files.insert(name.to_owned(), Arc::clone(&file));
        }
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.dir.list()
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        if access != Access::Read {
            return refused();
        }
        Ok(Arc::new(KeptOpen { dir: self.dir.child(name, access)?, ..self.clone() }))
    }

    fn id(&self) -> io::Result<FileId> {
        self.dir.id()
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        self.dir.id_of(name)
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        self.dir.may_replace(name)
    }

    fn room(&self) -> io::Result<Option<u64>> {
        self.dir.room()
    }

    fn rename(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        refused()
    }

    fn rename_new(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &OsStr) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn sync_name(&self) -> io::Result<()> {
        refused()
    }

    fn rename_child(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        refused()
    }

    fn remove_child(&self, _: &OsStr) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        refused()
    }
}
