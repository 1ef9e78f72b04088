//! The directory of a database: one handle, behind one fail-stop latch, with the lock that decides who owns it.
//!
//! The engine, or a log on its own, opens it and passes it to the parts that keep files in it. `LOCK.md` has the
//! purpose of `LOCK` and each step of its life.

mod create;
mod lock;
mod replace;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, Dir, Disk, DiskFile, FailStop};
use crate::base::error::{Error, ErrorKind, Result};
use crate::rt::sync::Mutex;

pub(crate) use create::{Claim, claim};
pub(crate) use lock::LOCK_NAME;
use lock::Lock;
pub use lock::LockHeld;

/// Names that file systems, operating systems and shells put into directories on their own. A directory with only these
/// names counts as empty.
const SYSTEM_NAMES: [&str; 4] = ["lost+found", ".snapshot", ".DS_Store", "System Volume Information"];
const SYSTEM_PREFIXES: [&str; 2] = [".Trash-", ".nfs"];

/// Whether a name tells nothing about the use of a directory.
pub(crate) fn is_system_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    SYSTEM_NAMES.contains(&&*name) || SYSTEM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// An open directory, and the path under which it was opened, for messages.
#[derive(Debug)]
pub(crate) struct DirHandle {
    dir: FailStop,
    path: PathBuf,
    lock: Mutex<Lock>,
}

impl DirHandle {
    fn new(dir: Arc<dyn Dir>, path: &Path) -> Self {
        DirHandle { dir: FailStop::new(dir), path: path.to_owned(), lock: Mutex::default() }
    }

    /// Opens the directory of a database, which must exist.
    ///
    /// # Errors
    /// [`ErrorKind::NotADatabase`] if there is nothing, or a file.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        check_path(path)?;
        let dir = disk.open_dir(path).map_err(|error| not_opened(path, error))?;
        Ok(DirHandle::new(dir, path))
    }

    pub(crate) fn dir(&self) -> &FailStop {
        &self.dir
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, for messages.
    pub(crate) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn list(&self) -> Result<Vec<OsString>> {
        self.dir.list().map_err(|error| Error::io("list", &self.path, error))
    }

    /// Makes the names in it durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.dir.sync().map_err(|error| not_synced("sync directory", &self.path, error))
    }

    /// Makes its own name durable. Called at every open before the first incarnation: the process that created the
    /// directory may have died before the name was durable, and no later step makes it durable.
    pub(crate) fn sync_name(&self) -> Result<()> {
        create::sync_name(&self.dir, &self.path)
    }

    /// Creates a file. First removes what an earlier attempt left under that name.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<Arc<dyn DiskFile>> {
        match self.dir.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.dir.open(name, Access::Create),
        }
    }

    /// Whether the name at the end of `path` leads to this open file. It may have others.
    pub(crate) fn is_named(&self, file: &dyn DiskFile, path: &Path) -> io::Result<bool> {
        match self.dir.id_of(path.file_name().unwrap_or_default()) {
            Ok(named) => Ok(named == file.status()?.id),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Refuses to go on with an open file that its name does not lead to any more, or that is not `length` bytes long: the
    /// next open would not find what is written to it. Costs a few system calls and no I/O.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`].
    pub(crate) fn check_named(&self, file: &dyn DiskFile, path: &Path, length: u64) -> Result<()> {
        match (self.is_named(file, path), file.len()) {
            (Ok(false), _) => Err(self.removed(path, "was removed or replaced, alone or with its directory,")),
            (_, Ok(found)) if found != length => {
                let what = format!("had its length changed from {length} to {found} bytes");
                Err(self.removed(path, &what))
            }
            // If it cannot be asked, the file may still be there; the next write or sync decides.
            _ => Ok(()),
        }
    }

    /// [`DirHandle::check_named`] of a file that is not open.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`], and those of opening it.
    pub(crate) fn check_there(&self, path: &Path, length: u64) -> Result<()> {
        match self.dir.open(path.file_name().unwrap_or_default(), Access::Read) {
            Ok(file) => self.check_named(&*file, path, length),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
                Err(self.removed(path, "was removed or replaced, alone or with its directory,"))
            }
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    pub(crate) fn removed(&self, path: &Path, what: &str) -> Error {
        Error::new(
            ErrorKind::Removed,
            format!(
                "{} {what} while the database in {} was open: nothing more is written to it. What was committed since may \
                 be lost. Close it, see what is there, restore a copy or open it again",
                path.display(),
                self.path.display()
            ),
        )
    }
}

fn check_path(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid_input("the path of the database is empty"));
    }
    Ok(())
}

/// The error for a directory that cannot be opened.
fn not_opened(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => no_database(path).with_source(error),
        io::ErrorKind::NotADirectory => {
            let message = format!("{} is a file: a database is a directory", path.display());
            Error::new(ErrorKind::NotADatabase, message)
        }
        _ => Error::io("open the directory", path, error),
    }
}

pub(crate) fn no_database(path: &Path) -> Error {
    Error::new(ErrorKind::NotADatabase, format!("there is no forelog database in {}", path.display()))
}

/// The error of a directory's sync. Some file systems do not support it for directories: there no new name is ever
/// durable.
fn not_synced(what: &str, path: &Path, error: io::Error) -> Error {
    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) {
        let message = format!(
            "cannot {what} {}: its file system refuses an fsync of a directory, so no new file would be sure to survive a \
             power loss. Put the database on one that does not: a local ext4, XFS, Btrfs, ZFS or APFS",
            path.display()
        );
        return Error::new(ErrorKind::Io, message).with_source(error);
    }
    Error::io(what, path, error)
}
