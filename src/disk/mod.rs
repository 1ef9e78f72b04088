//! The seam to the storage medium: a small object-safe trait with positional reads and writes.
//!
//! Nothing in the crate touches the operating system's files except through [`Disk`] and [`DiskFile`]. [`OsDisk`] is
//! the real one; [`MemoryDisk`] keeps nothing; with the feature `sim`, [`sim::SimDisk`] is one in memory that loses what was not synced.
//!
//! Failures are plain [`std::io::Error`]s; what they mean for the log is decided above.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::words::plant::planted;

mod latch;
mod memory;
mod os;
#[cfg(feature = "sim")]
pub mod sim;

pub use latch::FailStop;
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

/// A file system, or something that behaves like one.
///
/// All methods may be called from any thread. A created, renamed or removed name is durable only after
/// [`Disk::sync_dir`] on its directory.
pub trait Disk: Send + Sync + Debug {
    /// Creates a directory (and missing parents) for its owner only; succeeds if it is there already.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing `to` atomically if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory. Asked for only where the creation of a database fails; a disk that does not offer
    /// it leaves the directory there.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on `path`, creating the file if needed; `None` if somebody else holds it. The lock
    /// is held until the value is dropped or the process ends.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// An exclusive lock, held until dropped.
pub trait DiskLock: Send + Sync + Debug {}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "an empty file is no state of its own here")]
pub trait DiskFile: Send + Sync + Debug {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads into `buffer` from `offset`; may read less, and reads nothing only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes from `bytes` at `offset`; may write less.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or extends the file. An extension reads as zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes the data, and the length needed to read it, durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and all metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;
    /// Begins to send what was written to the medium and waits for none of it, so that the sync that follows finds
    /// less to do. Makes nothing durable, and need not do anything. After an error the file is as after a failed sync.
    fn start_sync(&self) -> io::Result<()> {
        Ok(())
    }
    /// The whole file as memory, where the disk can map it. Only for files that nobody writes or cuts any more; a
    /// medium error under a mapping kills the process with SIGBUS, so recovery and `verify` never use it.
    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        Ok(None)
    }
}

/// Bytes of a mapped file. They may change under the reader if the medium fails: copy, then check, then use.
pub trait Mapping: Send + Sync + Debug {
    /// Copies `buffer.len()` bytes from `offset`; `false` if they are not all inside the mapping.
    fn copy_to(&self, buffer: &mut [u8], offset: u64) -> bool;
}

/// Fills `buffer` from `offset`, whatever pieces the disk hands out.
///
/// An interrupted read is repeated; an end of file before the buffer is full is
/// [`io::ErrorKind::UnexpectedEof`], never a short success.
pub fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) if planted!("short-read-is-end-of-file") && n < buffer.len() => return Ok(()),
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

/// Writes all of `bytes` at `offset`, whatever pieces the disk takes. An interrupted call is repeated, an error is not.
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
