//! A directory as one has it who reads without opening the database (`LOCK.md`, B2 and B9): files that were opened stay open,
//! so that they can be read once their names are gone. It changes nothing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::{Access, Dir, DiskFile, DiskLock, FailStop, FileId, LockMode};
use crate::rt::sync::Mutex;

/// Whether a file of this name never gives its name to another one.
pub(crate) type IsForOne = fn(&OsStr) -> bool;

#[derive(Clone, Debug)]
pub(crate) struct KeptOpen {
    dir: Arc<dyn Dir>,
    is_for_one: IsForOne,
    /// Those of this directory and of the ones in it.
    files: Arc<Mutex<Files>>,
}

#[derive(Debug)]
struct Files {
    /// So many more may stay open.
    room: usize,
    by_name: HashMap<OsString, Found>,
}

/// A file that was there when it was first opened.
#[derive(Clone, Debug)]
enum Found {
    Open(Arc<dyn DiskFile>),
    /// There was no room to keep it open: it is opened again by its name.
    Closed(FileId),
}

impl KeptOpen {
    /// Keeps up to `most` files open, of those whose names are for one file.
    pub(crate) fn new(dir: FailStop, is_for_one: IsForOne, most: usize) -> Self {
        let files = Files { room: most, by_name: HashMap::new() };
        KeptOpen { dir: Arc::new(dir), is_for_one, files: Arc::new(Mutex::new(files)) }
    }

    /// Closes the files that are not needed any more, once nobody has them.
    pub(crate) fn let_go(&self, is_needed: impl Fn(&OsStr) -> bool) {
        let _closed: Vec<_> = {
            let mut files = self.files.lock();
            let closed: Vec<_> = files.by_name.extract_if(|name, _| !is_needed(name)).collect();
            files.room += closed.iter().filter(|(_, found)| matches!(found, Found::Open(_))).count();
            closed
        };
    }

    /// Opens again a file that was not kept open.
    fn open_again(&self, name: &OsStr, id: FileId) -> io::Result<Arc<dyn DiskFile>> {
        let gone = |why| {
            let message = format!(
                "it {why} after the database was read, and had not been kept open, as this process may not have enough \
                 files open: raise that limit (ulimit -n), and read the database again"
            );
            io::Error::other(message)
        };
        match self.dir.open(name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone("was removed")),
            Ok(file) if file.status()?.id != id => Err(gone("was replaced")),
            opened => opened,
        }
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
        let found = self.files.lock().by_name.get(name).cloned();
        match found {
            Some(Found::Open(file)) => return Ok(file),
            Some(Found::Closed(id)) => return self.open_again(name, id),
            None => {}
        }
        let file = self.dir.open(name, access)?;
        if (self.is_for_one)(name) {
            let id = file.status()?.id;
            let mut files = self.files.lock();
            let room = files.room.checked_sub(1);
            files.room = room.unwrap_or_default();
            let found = room.map_or(Found::Closed(id), |_| Found::Open(Arc::clone(&file)));
            files.by_name.insert(name.to_owned(), found);
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
