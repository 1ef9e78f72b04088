//! The log's files in the directory of the database, and how HISTORY is replaced.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::error::Result;
use crate::disk::{Access, Dir, DirHandle, DiskFile, FailStop};
use crate::format::history::{FILE_NAME, History, TEMPORARY_NAME};

/// The directory that a log is in. A file is named by its path, for messages; only its last component counts.
#[derive(Clone, Debug)]
pub(crate) struct LogDir {
    handle: Arc<DirHandle>,
}

/// HISTORY as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    /// Not where an open file cannot be replaced, as on some file systems of Windows.
    file: Option<Arc<dyn DiskFile>>,
    length: u64,
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

impl LogDir {
    pub(crate) fn new(handle: Arc<DirHandle>) -> Self {
        LogDir { handle }
    }

    pub(crate) fn handle(&self) -> &DirHandle {
        &self.handle
    }

    pub(crate) fn disk(&self) -> &FailStop {
        self.handle.dir()
    }

    /// What the directory is called in messages.
    pub(crate) fn dir(&self) -> &Path {
        self.handle.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.handle.path_of(name.as_ref())
    }

    pub(crate) fn open(&self, path: &Path, access: Access) -> std::io::Result<Arc<dyn DiskFile>> {
        self.disk().open(name_of(path), access)
    }

    /// Renames a file that is complete and durable to the name by which it counts. What is there already stays.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk().rename_new(name_of(from), name_of(to))
    }

    pub(crate) fn try_remove(&self, path: &Path) -> std::io::Result<()> {
        self.disk().remove(name_of(path))
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.handle.sync()
    }

    /// A new file; what an earlier attempt left under that name is replaced.
    pub(crate) fn create(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        self.handle.create(name_of(path))
    }

    /// Replaces HISTORY: durable in full, or unchanged, whatever happens. After an error either may be on disk.
    pub(crate) fn save(&self, history: &History) -> Result<Saved> {
        let bytes = history.to_bytes();
        let file = self.handle.replace(FILE_NAME.as_ref(), TEMPORARY_NAME.as_ref(), &bytes)?;
        Ok(Saved { file: cfg!(unix).then_some(file), length: bytes.len() as u64 })
    }

    /// Whether HISTORY is the file that was saved, as far as that is known.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`](crate::ErrorKind::Removed).
    pub(crate) fn check_saved(&self, saved: &Saved) -> Result<()> {
        let Saved { file, length } = saved;
        file.as_ref().map_or(Ok(()), |file| self.handle.check_named(&**file, &self.path(FILE_NAME), *length))
    }
}
