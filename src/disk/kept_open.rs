//! A directory as one has it who reads without opening the database (`LOCK.md`, B2 and B9): files that were opened stay open,
//! so that they can be read once their names are gone. It changes nothing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::{Access, Dir, DiskFile, DiskLock, FailStop, FileId, LockMode};
use crate::base::error::{GoneSince, is_short_of_files};
use crate::rt::sync::Mutex;

/// What is done with a file of this name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    /// It gives its name to another one: it is opened each time.
    Never,
    IfRoom,
    /// As well, and a quarter of all room is for these alone.
    First,
}

#[derive(Clone, Debug)]
pub(crate) struct KeptOpen {
    dir: Arc<dyn Dir>,
    keep: fn(&OsStr) -> Keep,
    /// Those of this directory and of the ones in it.
    files: Arc<Mutex<Files>>,
}

#[derive(Debug)]
struct Files {
    /// At most so many stay open.
    most: usize,
    open: usize,
    by_name: HashMap<OsString, Found>,
}

/// A file that was there when it was first opened.
#[derive(Clone, Debug)]
struct Found {
    id: FileId,
    /// If it stays open.
    file: Option<Arc<dyn DiskFile>>,
}

impl Files {
    fn add(&mut self, name: &OsStr, keep: Keep, id: FileId, file: &Arc<dyn DiskFile>) {
        let most = if keep == Keep::First { self.most } else { self.most - self.most / 4 };
        let stays = self.open < most && !self.by_name.contains_key(name);
        self.open += usize::from(stays);
        let found = Found { id, file: stays.then(|| Arc::clone(file)) };
        self.by_name.entry(name.to_owned()).or_insert(found);
    }

    /// Keeps half of the files open from now on, since somebody needs descriptors. Returns the others, to be closed without the lock.
    fn give_up_half(&mut self) -> Vec<Arc<dyn DiskFile>> {
        let half = self.open.div_ceil(2);
        self.open -= half;
        self.most = self.open;
        self.by_name.values_mut().filter_map(|found| found.file.take()).take(half).collect()
    }
}

impl KeptOpen {
    /// Keeps up to `most` files open, of those that `keep` says.
    pub(crate) fn new(dir: FailStop, keep: fn(&OsStr) -> Keep, most: usize) -> Self {
        let files = Files { most, open: 0, by_name: HashMap::new() };
        KeptOpen { dir: Arc::new(dir), keep, files: Arc::new(Mutex::new(files)) }
    }

    /// Closes the files that are not needed any more, once nobody has them.
    pub(crate) fn let_go(&self, is_needed: impl Fn(&OsStr) -> bool) {
        let _closed: Vec<_> = {
            let mut files = self.files.lock();
            let closed: Vec<_> = files.by_name.extract_if(|name, _| !is_needed(name)).collect();
            files.open -= closed.iter().filter(|(_, found)| found.file.is_some()).count();
            closed
        };
    }

    /// Opens a file, for whose descriptor others are closed if there is no more.
    fn open_new(&self, name: &OsStr) -> io::Result<Arc<dyn DiskFile>> {
        match self.dir.open(name, Access::Read) {
            Err(error) if is_short_of_files(&error) => {
                let closed = self.files.lock().give_up_half();
                if closed.is_empty() {
                    return Err(error);
                }
                drop(closed);
                self.dir.open(name, Access::Read)
            }
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
        let Some(found) = found else {
            let (file, keep) = (self.open_new(name)?, (self.keep)(name));
            if keep != Keep::Never {
                let id = file.status()?.id;
                self.files.lock().add(name, keep, id, &file);
            }
            return Ok(file);
        };
        if let Some(file) = found.file {
            return Ok(file);
        }
        match self.open_new(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::other(GoneSince)),
            Ok(file) if file.status()?.id != found.id => Err(io::Error::other(GoneSince)),
            opened => opened,
        }
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
