//! The operating system's files: the only place in the crate that names `std::fs`.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Access, Disk, DiskFile, DiskLock, Mapping};
use crate::words::process;

/// The operating system's file system.
///
/// What it creates is for its owner alone: files have mode 0600 and directories 0700, where there are modes. On macOS
/// a sync is `F_FULLFSYNC`. On Windows [`Disk::sync_dir`] does nothing: NTFS journals names, and cannot be asked to.
#[derive(Clone, Copy, Default, Debug)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(here_if_empty(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(here_if_empty(dir))?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile::open(path, access)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn may_replace(&self, path: &Path) -> io::Result<()> {
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        may_write_to(here_if_empty(path.parent().unwrap_or(path)))
    }

    fn is_below(&self, path: &Path, dir: &Path) -> io::Result<bool> {
        Ok(resolved(path)?.ancestors().skip(1).any(|above| is_same(above, dir)))
    }

    #[cfg(not(windows))]
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(here_if_empty(dir))?.sync_all()
    }

    #[cfg(windows)]
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        process::watch_forks();
        // The file is never removed: whoever holds it open would lock one file, and whoever comes next another.
        let file = private().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(OsLock { file, generation: process::generation() }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Whether names in a directory may be made and removed.
#[cfg(unix)]
fn may_write_to(dir: &Path) -> io::Result<()> {
    let dir = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str()))?;
    // SAFETY: the path is a string that ends with a zero and outlives the call, which changes nothing.
    #[expect(unsafe_code, reason = "the standard library does not offer the call")]
    let answer = unsafe { libc::access(dir.as_ptr(), libc::W_OK | libc::X_OK) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(unix))]
fn may_write_to(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The path of what may not be there yet, without symbolic links and `..`.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(here_if_empty(path))?;
    // A second time: behind a `..` may be a link.
    for _ in 0..2 {
        path = resolved_once(&path)?;
    }
    Ok(path)
}

fn resolved_once(path: &Path) -> io::Result<PathBuf> {
    for there in path.ancestors() {
        match std::fs::canonicalize(there) {
            Ok(mut real) => {
                for part in path.strip_prefix(there).unwrap_or(Path::new("")).components() {
                    match part {
                        Component::ParentDir => _ = real.pop(),
                        part => real.push(part),
                    }
                }
                return Ok(real);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path.to_owned())
}

/// Whether both are there and are one file, which may be mounted in two places.
fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let inode = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        inode(one).is_some_and(|inode_of_one| inode(other) == Some(inode_of_one))
    }
    #[cfg(not(unix))]
    {
        std::fs::canonicalize(other).is_ok_and(|other| one == other)
    }
}

/// Options for files that only their owner may use.
fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The parent of a bare relative name is the empty path, which no system call takes.
fn here_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The lock is the open file's. A child that was forked meanwhile has that file open, too: closing it here would leave
/// the lock with the child, and the child's copy of this must not give up what is its parent's.
#[derive(Debug)]
struct OsLock {
    file: File,
    generation: u64,
}

impl Drop for OsLock {
    fn drop(&mut self) {
        if self.generation == process::generation() {
            // Closing the file does the same, unless a child has it.
            let _ = self.file.unlock();
        }
    }
}

impl DiskLock for OsLock {}

#[derive(Debug)]
pub(super) struct OsFile(pub(super) File);

impl OsFile {
    pub(super) fn open(path: &Path, access: Access) -> io::Result<Self> {
        let mut options = private();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Write => _ = options.write(true),
            // O_EXCL: neither truncates a file nor follows a symbolic link.
            Access::Create => _ = options.write(true).create_new(true),
        }
        // Opening a FIFO would wait for its other end.
        if access != Access::Create && !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(OsFile(options.open(path)?))
    }
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&self.0, buffer, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&self.0, buffer, offset);
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_at(&self.0, bytes, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset);
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn start_sync(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `self`, and the call reads and writes no memory of this process.
        #[expect(unsafe_code, reason = "the standard library does not offer the call")]
        let done = unsafe { libc::sync_file_range(self.0.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Not offered by the kernel, the file system or a sandbox, or no time or memory for it now: what was not
            // begun is left to the sync, and what failed on the way is told by it.
            Some(
                libc::ENOSYS
                | libc::EOPNOTSUPP
                | libc::EINVAL
                | libc::ESPIPE
                | libc::EPERM
                | libc::EINTR
                | libc::EAGAIN
                | libc::ENOMEM,
            ) => Ok(()),
            _ => Err(error),
        }
    }

    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        // SAFETY: the mapping is only read, through `copy_to`. Nobody cuts or writes the file while it is mapped: the
        // caller promises it for this process (`DiskFile::map`), assumption A7 for the others. Bytes that change
        // nevertheless are copied before they are checked.
        #[expect(unsafe_code, reason = "a mapping is only as constant as its file, which no type can say")]
        let map = unsafe { memmap2::Mmap::map(&self.0)? };
        Ok(Some(Arc::new(OsMapping(map))))
    }
}

#[derive(Debug)]
struct OsMapping(memmap2::Mmap);

impl Mapping for OsMapping {
    fn copy_to(&self, buffer: &mut [u8], offset: u64) -> bool {
        let Ok(start) = usize::try_from(offset) else { return false };
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.0.get(start..end));
        bytes.inspect(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}
