//! The seam to the storage medium: a small object-safe trait with positional reads and writes.
//!
//! Nothing in the crate touches the operating system's files except through [`Disk`], [`Dir`] and [`DiskFile`].
//! [`OsDisk`] is the real one. [`MemoryDisk`] survives nothing. With the feature `sim`, [`sim::SimDisk`] is a disk in
//! memory that loses unsynced changes.
//!
//! A database is a directory that was opened once, not a path: a [`Disk`] opens it, and everything else goes through
//! the [`Dir`]. Failures are plain [`std::io::Error`]s; the callers decide what they mean. The module `dir` is built on
//! these traits alone: the directory of a database with its lock (`LOCK.md`).

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

mod dir;
mod kept_open;
mod latch;
mod layer;
mod memory;
mod os;
#[cfg(feature = "sim")]
pub(crate) mod sim;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
mod uring;

pub use dir::LockHeld;
pub(crate) use dir::{Claim, DirHandle, LOCK_NAME, claim, is_system_name, no_database};
pub(crate) use kept_open::{Keep, KeptOpen};
pub use latch::FailStop;
pub(crate) use latch::is_refused_rename;
#[cfg(feature = "unstable")]
pub use layer::DirCall;
pub use layer::{FileLayer, Layer, Layered, LayeredFile};
pub use memory::MemoryDisk;
pub use os::OsDisk;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; fails if the name exists. Its owner alone may read or write it.
    Create,
}

/// How the bytes of commits reach their files: see [`Engine::io`](crate::Engine::io).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IoBackend {
    /// By a write call and a sync call.
    Calls {
        /// If io_uring was asked for: why it is not used.
        why: Option<String>,
    },
    /// By one submission to io_uring for each flush.
    IoUring,
}

/// The operating system's files, with io_uring if it is asked for and available.
pub(crate) fn operating_system(io_uring: bool) -> Arc<dyn Disk> {
    #[cfg(all(feature = "io-uring", target_os = "linux"))]
    if io_uring {
        return Arc::new(uring::UringDisk::new());
    }
    let _ = io_uring;
    Arc::new(OsDisk)
}

/// A share of the files that this process may have open at once, up to `most`: one of `parts` parts.
pub(crate) fn share_of_files(parts: u64, most: usize) -> usize {
    os::open_files().map_or(most, |limit| usize::try_from(limit / parts).unwrap_or(most).min(most))
}

/// A file system, or a simulation of one.
pub trait Disk: Send + Sync + Debug {
    /// Opens an existing directory. A later change of what `path` leads to does not affect the [`Dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::NotADirectory`], and other errors of the system.
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>>;
    /// The directories that `path`, which need not exist, lies in, as far as they exist: what [`Dir::id`] returns for
    /// each. Symbolic links and `..` are resolved on a disk that has them; the default looks at the path as it is.
    fn above(&self, path: &Path) -> io::Result<Vec<FileId>> {
        let mut ids = Vec::new();
        for above in path.ancestors().skip(1) {
            match self.open_dir(above).and_then(|dir| dir.id()) {
                Ok(id) => ids.push(id),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ids)
    }
    /// Gives the file at `from` a second name, `to`, which must be free. Neither name is followed any further than this call: the
    /// caller looks whether the name has come where it should.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] on a disk that gives files one name only, and errors of the system.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An open directory. It stays the same directory while it is open, even if it is renamed, if a symbolic link that led
/// to it moves, or if another directory takes its name. In a directory that was removed nothing can be created.
///
/// Names are single components; any other name is [`io::ErrorKind::InvalidInput`]. No call reaches into another
/// directory. All methods may be called from any thread. A created, renamed or removed name is durable only after
/// [`Dir::sync`].
pub trait Dir: Send + Sync + Debug {
    /// Opens a regular file.
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing `to` atomically if it exists.
    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Renames a file to a name that is free.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is anything of that name, also a symbolic link that leads nowhere. It
    /// is left as it is.
    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, name: &OsStr) -> io::Result<()>;
    /// The names in the directory, in no particular order.
    fn list(&self) -> io::Result<Vec<OsString>>;
    /// Makes the names in the directory durable.
    fn sync(&self) -> io::Result<()>;
    /// Makes the directory's own name durable: syncs the directory that it is in.
    fn sync_name(&self) -> io::Result<()>;
    /// Opens a directory in this one. [`Access::Create`] makes a new one, which only its owner may use, and fails if
    /// the name exists.
    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>>;
    /// Renames a directory in this one to a name that is free. Handles of it go along.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is anything of that name, which is left as it is;
    /// [`io::ErrorKind::NotADirectory`] if `from` is a file or a symbolic link.
    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Removes an empty directory in this one.
    fn remove_child(&self, name: &OsStr) -> io::Result<()>;
    /// Locks the directory itself; `None` if another lock excludes this one.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where directories cannot be locked.
    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>>;
    /// Checks, without changing anything, that a file could be created under `name`, and that the file there, if there is
    /// one, could be removed. A disk without permissions only checks that `name` is not a directory.
    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        if self.child(name, Access::Read).is_ok() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
    }
    /// How many bytes this user could still write to new files here; `None` if the disk cannot tell.
    fn room(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }
    /// Which directory this is, wherever it is now.
    fn id(&self) -> io::Result<FileId>;
    /// Which file `name` leads to.
    fn id_of(&self, name: &OsStr) -> io::Result<FileId>;
    /// How [`DiskFile::submit`] works on files of this directory.
    fn io(&self) -> IoBackend {
        IoBackend::Calls { why: None }
    }
}

/// Identifies a file or a directory, under whatever name. What has no identity has the default one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// The identity of an open file, and its names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStatus {
    /// Which file it is.
    pub id: FileId,
    /// The number of names that lead to it. 0: it was removed, and is freed when it is closed.
    pub links: u64,
}

/// Which other locks a lock excludes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// All other locks.
    Exclusive,
    /// Exclusive locks.
    Shared,
}

/// A lock, held until it is dropped or the process ends. It belongs to the locked file or directory, not to its name.
pub trait DiskLock: Send + Sync + Debug {}

/// Refuses a name that is not a single component of a path.
pub(crate) fn check_name(name: &OsStr) -> io::Result<()> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file in this directory")),
    }
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "an empty file is no state of its own here")]
pub trait DiskFile: Send + Sync + Debug {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// How long ago its content was changed last, by the clock of the system; `None` if that is not known, or still to come.
    fn age(&self) -> io::Result<Option<Duration>> {
        Ok(None)
    }
    /// Which file it is, and whether it still has a name.
    fn status(&self) -> io::Result<FileStatus>;
    /// Locks the file; `None` if another lock excludes this one. The file stays open meanwhile.
    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>>;
    /// Reads into `buffer` from `offset`. It may read less, but reads 0 bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes from `bytes` at `offset`. It may write less.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or extends the file. An extension reads as zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes the data, and the length needed to read it, durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and all metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;
    /// Tells the kernel to begin writing dirty pages to the medium, and waits for none of them, so that the next sync
    /// has less to do. It makes nothing durable, and need not do anything. After an error the file is as after a failed
    /// sync.
    fn start_writeback(&self) -> io::Result<()> {
        Ok(())
    }
    /// Submits a write of `bytes` at `offset` and, behind it, a sync of the data that was written by then. As soon as
    /// the write has ended, calls `wrote` with the bytes and with how many of them are in the file; never after a write
    /// that failed. Returns when the sync has ended too, with whether there was a sync: after a short write there need
    /// not be one. A caller that needs both in full uses [`write_and_sync`].
    ///
    /// An error is that of the write or of the sync, as of [`DiskFile::write_at`] or [`DiskFile::sync_data`]. The
    /// default calls these two.
    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let taken = write_some_at(self, &bytes, offset)?;
        let is_whole = taken == bytes.len();
        wrote(bytes, taken);
        if is_whole { self.sync_data().map(|()| true) } else { Ok(false) }
    }
    /// Maps the whole file into memory, where the disk can. Only for files that are no longer written or cut. A medium
    /// error under a mapping kills the process with SIGBUS, so recovery and `verify` never use it.
    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        Ok(None)
    }
}

/// Bytes of a mapped file. They may change under the reader if the medium fails: copy, then check, then use.
pub trait Mapping: Send + Sync + Debug {
    /// Copies `buffer.len()` bytes from `offset`; `false` if they are not all inside the mapping.
    fn copy_to(&self, buffer: &mut [u8], offset: u64) -> bool;
}

/// Fills `buffer` from `offset` with as many reads as it takes.
///
/// An interrupted read is repeated; an end of file before the buffer is full is
/// [`io::ErrorKind::UnexpectedEof`], never a short success.
pub fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes one write call. An interrupted one has written 0 bytes.
fn write_some_at<F: DiskFile + ?Sized>(file: &F, bytes: &[u8], offset: u64) -> io::Result<usize> {
    match file.write_at(bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        result => result,
    }
}

/// Writes all of `bytes` at `offset`, with as many calls as it takes. An interrupted call is repeated; a failed one is
/// not.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset` and syncs the file's data, in one submission where the disk supports it. Calls
/// `written` with the bytes when all of them are in the file and only the sync is outstanding.
///
/// After a short write, further calls write the rest, and one sync follows if there was none or if it may have come
/// before them. A failed sync is not repeated: after it the state of the file is unknown.
pub fn write_and_sync(
    file: &dyn DiskFile,
    bytes: Vec<u8>,
    offset: u64,
    written: &mut dyn FnMut(Vec<u8>),
) -> io::Result<()> {
    let mut is_whole = false;
    let mut rest = Ok(());
    let synced = file.submit(bytes, offset, &mut |bytes, taken| {
        is_whole = taken == bytes.len();
        if !is_whole {
            rest = write_all_at(file, &bytes[taken..], offset + taken as u64);
        }
        if rest.is_ok() {
            written(bytes);
        }
    });
    rest?;
    match synced {
        Err(error) => Err(error),
        Ok(true) if is_whole => Ok(()),
        Ok(_) => file.sync_data(),
    }
}
