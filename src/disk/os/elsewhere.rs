//! A directory on systems without descriptors of directories: its absolute path, and a handle that keeps it in place.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Files, OsFile, here_if_empty};
use crate::disk::{Access, Dir, DiskFile, DiskLock, FileId, IoBackend, LockMode, check_name};

/// There is no limit that a process comes near to.
pub(in crate::disk) fn open_files() -> Option<u64> {
    None
}

#[derive(Debug)]
pub(in crate::disk) struct OsDir {
    path: PathBuf,
    files: Option<Arc<dyn Files>>,
    /// On Windows: while it is open, the directory can be neither renamed nor removed.
    _held: Option<File>,
}

impl OsDir {
    pub(in crate::disk) fn open_path(path: &Path, files: Option<Arc<dyn Files>>) -> io::Result<Self> {
        let path = fs::canonicalize(here_if_empty(path))?;
        if !path.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(OsDir { _held: hold(&path)?, path, files })
    }

    fn at(&self, name: &OsStr) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.path.join(name))
    }
}

/// Which directory the canonical `path` leads to: a hash of the path, for want of an inode.
pub(super) fn id_of_path(path: &Path) -> FileId {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    FileId { device: u64::MAX - 1, inode: hasher.finish() }
}

#[cfg(windows)]
fn hold(path: &Path) -> io::Result<Option<File>> {
    use std::os::windows::fs::OpenOptionsExt;
    /// Required to open a directory.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    OpenOptions::new().read(true).share_mode(NOT_DELETED).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path).map(Some)
}

#[cfg(not(windows))]
fn hold(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Others may read and write, but not rename or remove: `FILE_SHARE_READ
///
/// FILE_SHARE_WRITE`.
#[cfg(windows)]
const NOT_DELETED: u32 = 3;

impl Dir for OsDir {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.at(name)?;
        if access != Access::Create && !fs::metadata(&path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::Create);
        // A lock is worth something only while its file cannot be replaced. A new file will be renamed.
        #[cfg(windows)]
        if name == crate::disk::LOCK_NAME {
            std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, NOT_DELETED);
        }
        let file = OsFile(options.open(path)?);
        Ok(match &self.files {
            Some(files) => files.wrap(file),
            None => Arc::new(file),
        })
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?)
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        // A link cannot replace anything, and a rename would.
        match fs::hard_link(&from, &to) {
            Ok(()) => {
                // Until it is removed the old name is only a second one.
                let _ = fs::remove_file(&from);
                Ok(())
            }
            Err(_) if fs::symlink_metadata(&to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            // This file system has no hard links.
            Err(_) => fs::rename(from, to),
        }
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.at(name)?)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn sync(&self) -> io::Result<()> {
        if cfg!(windows) { Ok(()) } else { File::open(&self.path)?.sync_all() }
    }

    fn sync_name(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(above) if !cfg!(windows) => File::open(above)?.sync_all(),
            _ => Ok(()),
        }
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        let path = self.at(name)?;
        if access == Access::Create {
            fs::create_dir(&path)?;
        }
        Ok(Arc::new(OsDir::open_path(&path, self.files.clone())?))
    }

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        if !fs::symlink_metadata(&from)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        match fs::symlink_metadata(&to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        }
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_dir(self.at(name)?)
    }

    fn lock(&self, _: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "directories cannot be locked on this system"))
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_of_path(&self.path))
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        fs::symlink_metadata(self.at(name)?).map(|_| FileId::default())
    }

    fn io(&self) -> IoBackend {
        self.files.as_ref().map_or(IoBackend::Calls { why: None }, |files| files.io())
    }
}
