//! A directory as a descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Files, OsFile, here_if_empty, lock};
use crate::disk::{Access, Dir, DiskFile, DiskLock, FileId, FileStatus, IoBackend, LockMode, check_name};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(in crate::disk) struct OsDir {
    dir: File,
    files: Option<Arc<dyn Files>>,
}

impl OsDir {
    pub(in crate::disk) fn open_path(path: &Path, files: Option<Arc<dyn Files>>) -> io::Result<Self> {
        let open = |flags| fs::open(here_if_empty(path), flags, Mode::empty());
        let dir = match open(DIRECTORY) {
            // A directory without permission to list it may still be passed through.
            #[cfg(target_os = "linux")]
            Err(Errno::ACCESS) => open(DIRECTORY.union(OFlags::PATH))?,
            dir => dir?,
        };
        Ok(OsDir { dir: dir.into(), files })
    }

    fn open_below(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        Ok(fs::openat(&self.dir, name, DIRECTORY.union(flags), Mode::empty())?.into())
    }
}

/// The error of a call on a handle that may only be passed through.
fn not_readable(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) {
        io::ErrorKind::PermissionDenied.into()
    } else {
        error
    }
}

pub(super) fn status(file: &File) -> io::Result<FileStatus> {
    let metadata = file.metadata()?;
    Ok(FileStatus { id: FileId { device: metadata.dev(), inode: metadata.ino() }, links: metadata.nlink() })
}

impl Dir for OsDir {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            // O_EXCL neither truncates a file nor follows a symbolic link.
            Access::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        // Opening a FIFO would wait for its other end.
        if access != Access::Create {
            let found = fs::statat(&self.dir, name, AtFlags::empty())?;
            if !fs::FileType::from_raw_mode(found.st_mode).is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
        }
        let file = fs::openat(&self.dir, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        let file = OsFile(file.into());
        Ok(match &self.files {
            Some(files) => files.wrap(file),
            None => Arc::new(file),
        })
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        Ok(fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        Ok(fs::unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.dir).map_err(|error| not_readable(error.into()))? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        self.dir.sync_all().map_err(not_readable)
    }

    fn sync_name(&self) -> io::Result<()> {
        self.open_below(OsStr::new(".."), OFlags::empty())?.sync_all()
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        check_name(name)?;
        let mut flags = OFlags::empty();
        if access == Access::Create {
            fs::mkdirat(&self.dir, name, Mode::RWXU)?;
            flags = OFlags::NOFOLLOW;
        }
        Ok(Arc::new(OsDir { dir: self.open_below(name, flags)?, files: self.files.clone() }))
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        Ok(fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR)?)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        // An open file of its own: two users of this handle must exclude each other too.
        let locked = self.open_below(OsStr::new("."), OFlags::empty()).and_then(|dir| lock(dir, mode));
        locked.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            // NFS locks a file on the server only if it is open for writing, which a directory cannot be.
            Some(
                Errno::BADF
                | Errno::INVAL
                | Errno::NOLCK
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::ACCESS,
            ) => io::Error::new(io::ErrorKind::Unsupported, format!("this directory cannot be locked: {error}")),
            _ => error,
        })
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        let found = fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| fs::FileType::from_raw_mode(found.st_mode).is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let may_change = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        Ok(fs::accessat(&self.dir, ".", may_change, AtFlags::empty())?)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(status(&self.dir)?.id)
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        check_name(name)?;
        let found = fs::statat(&self.dir, name, AtFlags::empty())?;
        #[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
        #[allow(clippy::cast_sign_loss, reason = "a number of a device is no quantity")]
        Ok(FileId { device: found.st_dev as u64, inode: found.st_ino as u64 })
    }

    fn io(&self) -> IoBackend {
        self.files.as_ref().map_or(IoBackend::Calls { why: None }, |files| files.io())
    }
}
