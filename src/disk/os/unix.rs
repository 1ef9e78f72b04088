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

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// How many files the process may have open at once; `None` if there is no limit.
pub(in crate::disk) fn open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

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

/// The errors of a rename that are no refusal: EIO, by which POSIX promises nothing about either name, and its relatives.
/// ENXIO and ENODEV: the device is gone. The others come from the medium of a file system (a wrong checksum), or from the
/// connection to one on a server, which may have done what it could not report.
const NO_REFUSALS: &[Errno] = {
    use Errno as E;
    &[
        E::IO,
        E::NXIO,
        E::NODEV,
        E::PIPE,
        E::BADMSG,
        E::STALE,
        E::TIMEDOUT,
        E::NOTCONN,
        E::CONNREFUSED,
        E::CONNRESET,
        E::CONNABORTED,
        E::SHUTDOWN,
        E::HOSTDOWN,
        E::HOSTUNREACH,
        E::NETDOWN,
        E::NETUNREACH,
        E::NETRESET,
        #[cfg(target_os = "linux")]
        E::PROTO,
        #[cfg(target_os = "linux")]
        E::NOLINK,
        #[cfg(target_os = "linux")]
        E::NODATA,
        #[cfg(target_os = "linux")]
        E::UCLEAN,
        #[cfg(target_os = "linux")]
        E::REMOTEIO,
        #[cfg(target_os = "linux")]
        E::COMM,
        #[cfg(target_os = "linux")]
        E::NOMEDIUM,
    ]
};

/// Whether a rename that failed with this code may have been done.
pub(in crate::disk) fn may_have_renamed(code: i32) -> bool {
    NO_REFUSALS.iter().any(|errno| errno.raw_os_error() == code)
}

/// Refuses a file or directory whose attributes say that it cannot be changed, or only be appended to. Either way no name
/// in such a directory, and no such file, can be removed or replaced.
#[cfg(target_os = "linux")]
fn refuse_if_unchangeable(dir: &File, name: &OsStr) -> io::Result<()> {
    let Ok(found) = fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, fs::StatxFlags::empty()) else { return Ok(()) };
    let unchangeable = fs::StatxAttributes::IMMUTABLE | fs::StatxAttributes::APPEND;
    let attributes = found.stx_attributes & found.stx_attributes_mask;
    if attributes.intersects(unchangeable) { Err(Errno::PERM.into()) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
fn refuse_if_unchangeable(_: &File, _: &OsStr) -> io::Result<()> {
    Ok(())
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

/// The one call that does it.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_noreplace(dir: &File, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    fs::renameat_with(dir, from, dir, to, fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_noreplace(_: &File, _: &OsStr, _: &OsStr) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Renames a file to a free name: by `rename`, and where the system or the file system refuses that call, by a link, which
/// replaces nothing either. The old name is then a second one until it is removed. Only where there are no links is the
/// name looked up first, and something that comes in between is replaced.
fn rename_new(
    dir: &File,
    from: &OsStr,
    to: &OsStr,
    rename: impl Fn(&File, &OsStr, &OsStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    match rename(dir, from, to) {
        // EPERM: a sandbox that does not know the call. Were it refused for want of permission, so are the others.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
        renamed => return renamed,
    }
    match fs::linkat(dir, from, dir, to, AtFlags::empty()) {
        Ok(()) => {
            // What cannot be removed is a temporary name of a file that has its own.
            let _ = fs::unlinkat(dir, from, AtFlags::empty());
            return Ok(());
        }
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK | Errno::INVAL) => {}
        linked => return linked,
    }
    match fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => fs::renameat(dir, from, dir, to),
        Err(errno) => Err(errno),
    }
}

/// Renames a directory to a free name. A directory has no second name, so where the system or the file system does not know
/// the call, the name is looked up first. A directory that comes in between is replaced only if it is empty, and nothing
/// else is.
fn rename_child(
    dir: &File,
    from: &OsStr,
    to: &OsStr,
    rename: impl Fn(&File, &OsStr, &OsStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let is_dir = |found: fs::Stat| fs::FileType::from_raw_mode(found.st_mode).is_dir();
    if !is_dir(fs::statat(dir, from, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Err(Errno::NOTDIR);
    }
    match rename(dir, from, to) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
        renamed => return renamed,
    }
    match fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => fs::renameat(dir, from, dir, to),
        Err(errno) => Err(errno),
    }
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

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        Ok(rename_new(&self.dir, from, to, rename_noreplace)?)
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

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        Ok(rename_child(&self.dir, from, to, rename_noreplace)?)
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
        let found = match fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        if found.is_some_and(|found| fs::FileType::from_raw_mode(found.st_mode).is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let may_change = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        fs::accessat(&self.dir, ".", may_change, AtFlags::empty())?;
        refuse_if_unchangeable(&self.dir, OsStr::new("."))?;
        let Some(found) = found else { return Ok(()) };
        refuse_if_unchangeable(&self.dir, name)?;
        let dir = fs::statat(&self.dir, ".", AtFlags::empty())?;
        let user = rustix::process::geteuid();
        // A sticky directory: only the owner of a file, of the directory, or root takes a name away.
        let is_sticky = fs::Mode::from_raw_mode(dir.st_mode).contains(fs::Mode::SVTX);
        if is_sticky && !user.is_root() && ![found.st_uid, dir.st_uid].contains(&user.as_raw()) {
            return Err(Errno::PERM.into());
        }
        Ok(())
    }

    fn room(&self) -> io::Result<Option<u64>> {
        let found = match fs::fstatvfs(&self.dir) {
            // A file system without a size says that it has no blocks.
            Ok(found) if found.f_blocks > 0 => found,
            _ => return Ok(None),
        };
        if found.f_files > 0 && found.f_favail == 0 && found.f_ffree == 0 {
            return Ok(Some(0));
        }
        // Root may use what is reserved for it.
        let blocks = if rustix::process::geteuid().is_root() { found.f_bfree } else { found.f_bavail };
        Ok(Some(blocks.saturating_mul(found.f_frsize)))
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
