//! The log's directory: where its files are, and how HISTORY is replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, FailStop, write_all_at};
use crate::format::history::{FILE_NAME, History, TEMPORARY_NAME};
use crate::words::error::{Error, Result};
use crate::words::plant::planted;

/// A directory on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<FailStop>,
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        if planted!("skip-dir-fsync") {
            return Ok(());
        }
        self.disk.sync_dir(&self.dir).map_err(|error| Error::io("sync directory", &self.dir, error))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        self.disk.remove(path).map_err(|error| Error::io("remove", path, error))
    }

    /// A new file in the place of whatever an earlier attempt left under that name.
    pub(crate) fn create(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => self.disk.open(path, Access::Create),
        }
    }

    /// Replaces HISTORY: durable in full, or unchanged, whatever happens. After an error either may be on disk.
    pub(crate) fn save(&self, history: &History) -> Result<()> {
        let (temporary, path) = (self.path(TEMPORARY_NAME), self.path(FILE_NAME));
        let attempt = || {
            let file = self.create(&temporary)?;
            write_all_at(&*file, &history.to_bytes(), 0)?;
            if !planted!("rename-history-before-fsync") {
                file.sync_all()?;
            }
            self.disk.rename(&temporary, &path)
        };
        attempt().map_err(|error| Error::io("replace", &path, error))?;
        self.sync_dir()
    }
}
