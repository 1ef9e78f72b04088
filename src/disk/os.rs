//! The operating system's files: the only place in the crate that names `std::fs`.

use std::fmt::Debug;
use std::fs::{File, TryLockError};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Dir, Disk, DiskFile, DiskLock, FileId, FileStatus, IoBackend, LockMode, Mapping};
use crate::rt::process;

#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(super) use elsewhere::{OsDir, open_files};
#[cfg(unix)]
pub(super) use unix::{OsDir, may_have_renamed, open_files};

/// The operating system's file system.
///
/// Only the owner may use what it creates: files have mode 0600 and directories 0700, where there are modes. On macOS a
/// sync is `F_FULLFSYNC`.
///
/// On Unix a directory is a descriptor, and every call on it begins there. Elsewhere it is the absolute path that it
/// had when it was opened, and a handle that stays open meanwhile: on Windows the directory can then be neither renamed
/// nor removed, and nor can an open file. There a directory cannot be locked, files are not told apart, and
/// [`Dir::sync`] does nothing: NTFS journals names, and has no call to sync them.
#[derive(Clone, Copy, Default, Debug)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(OsDir::open_path(path, None)?))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn above(&self, path: &Path) -> io::Result<Vec<FileId>> {
        let mut ids = Vec::new();
        for above in resolved(path)?.ancestors().skip(1) {
            match id_of_dir(above) {
                Ok(id) => ids.push(id),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ids)
    }
}

/// The path without symbolic links and `..`. Its last components need not exist.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(here_if_empty(path))?;
    // Twice: there may be a link behind a `..`.
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

/// What [`Dir::id`] returns for the directory that the canonical `path` leads to.
fn id_of_dir(path: &Path) -> io::Result<FileId> {
    let found = std::fs::metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok(FileId { device: found.dev(), inode: found.ino() })
    }
    #[cfg(not(unix))]
    {
        let _ = found;
        Ok(elsewhere::id_of_path(path))
    }
}

/// How a directory hands out its files, if not as they are.
pub(super) trait Files: Debug + Send + Sync {
    fn wrap(&self, file: OsFile) -> Arc<dyn DiskFile>;
    fn io(&self) -> IoBackend;
}

/// The parent of a bare relative name is the empty path, which no system call accepts.
fn here_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn lock(file: File, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
    process::watch_forks();
    let locked = match mode {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Some(Box::new(OsLock { file, generation: process::generation() }))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The lock belongs to the open file. A child that was forked meanwhile has that file open too: closing it here would
/// leave the lock with the child, so the owner unlocks first. The child's copy must not unlock: the lock is its
/// parent's.
#[derive(Debug)]
struct OsLock {
    file: File,
    generation: u64,
}

impl Drop for OsLock {
    fn drop(&mut self) {
        if self.generation == process::generation() {
            // Closing the file does the same, unless a child has it open.
            let _ = self.file.unlock();
        }
    }
}

impl DiskLock for OsLock {}

#[derive(Debug)]
pub(super) struct OsFile(pub(super) File);

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn age(&self) -> io::Result<Option<Duration>> {
        // A time that is still to come is no age.
        Ok(self.0.metadata()?.modified()?.elapsed().ok())
    }

    #[cfg(unix)]
    fn status(&self) -> io::Result<FileStatus> {
        unix::status(&self.0)
    }

    #[cfg(not(unix))]
    fn status(&self) -> io::Result<FileStatus> {
        Ok(FileStatus { id: FileId::default(), links: 1 })
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        // The clone is the same open file, to which the lock belongs.
        lock(self.0.try_clone()?, mode)
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
    fn start_writeback(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `self`, and the call reads and writes no memory of this process.
        #[expect(unsafe_code, reason = "the standard library does not offer the call")]
        let done = unsafe { libc::sync_file_range(self.0.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The kernel, the file system or a sandbox does not support the call, or it has no time or memory now. The
            // next sync writes the pages that were not begun, and reports failures.
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
        // SAFETY: the mapping is only read, through `copy_to`. No one cuts or writes the file while it is mapped: for
        // this process the caller promises it (`DiskFile::map`), for others it is assumption A7. Bytes that change
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
