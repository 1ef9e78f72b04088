//! Fail-stop: after the first failed write or sync nothing more is written or synced.
//!
//! The kernel reports a failed write-back once, marks the pages clean, and answers the next fsync with success. So a
//! failure is final, and it is so in one place, below everybody who could be tempted to try again.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Access, Disk, DiskFile, DiskLock, IoBackend, Mapping};
use crate::words::plant::planted;
use crate::words::sync::Mutex;

/// A disk that stops at the first failure.
///
/// Once a write, a change of length, a sync or a rename failed, every later call that would change something fails
/// with that first cause and does not reach the disk below. Reads, listings and locks go on. Clones share the state.
///
/// Not final are failed reads, creations and removals, interrupted calls, and whatever happens to a new file before
/// its first successful [`DiskFile::sync_all`]: nobody relies on such a file yet, so it alone is done for. Nor is a call
/// that the operating system refused before it did anything: a rename for want of space, memory or permission, and a
/// sync of a directory that could not be opened for want of descriptors. It says nothing about what is durable.
#[derive(Clone, Debug)]
pub struct FailStop {
    inner: Arc<dyn Disk>,
    latch: Arc<Latch>,
}

impl FailStop {
    /// Puts the latch in front of `inner`.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        FailStop { inner, latch: Arc::default() }
    }

    /// The first failure, if there was one: its kind, its message, and its code if the operating system gave one.
    pub fn failure(&self) -> Option<io::Error> {
        self.latch.0.get().map(Cause::error)
    }
}

/// A failure as a value; `io::Error` cannot be cloned.
#[derive(Debug)]
struct Cause {
    code: Option<i32>,
    kind: io::ErrorKind,
    message: String,
}

impl Cause {
    fn of(error: &io::Error) -> Self {
        Cause { code: error.raw_os_error(), kind: error.kind(), message: error.to_string() }
    }

    fn error(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.message.clone()),
        }
    }
}

#[derive(Default, Debug)]
struct Latch(OnceLock<Cause>);

impl Latch {
    fn check(&self) -> io::Result<()> {
        self.0.get().map_or(Ok(()), |cause| Err(cause.error()))
    }

    /// Passes `result` on; a failure closes the latch, unless it is closed.
    fn watch<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            // Whoever was first has said why.
            let _ = self.0.set(Cause::of(error));
        }
        result
    }
}

impl Latch {
    /// [`Latch::watch`], but for errors by which the call has done nothing.
    fn watch_unless<T>(&self, is_refusal: fn(&io::Error) -> bool, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error) if is_refusal(&error) => Err(error),
            result => self.watch(result),
        }
    }
}

/// Whether a rename that failed so has left both names as they were. POSIX says it of every error but EIO; of the others
/// these are the ones that pass, and a file system of the network may not know what its server did.
fn is_refused_rename(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let passes = [OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    passes.contains(&error.kind()) || is_out_of_descriptors(error)
}

/// Of the two calls that sync a directory only its open gives these errors: the fsync was not asked for.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

impl Disk for FailStop {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.latch.check()?;
        self.inner.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let fresh = access == Access::Create;
        if fresh {
            self.latch.check()?;
        }
        let inner = self.inner.open(path, access)?;
        let shared = Arc::clone(&self.latch);
        let file = File { inner, shared, own: Latch::default(), fresh: fresh.into(), syncing: Mutex::new(()) };
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.latch.check()?;
        self.latch.watch_unless(is_refused_rename, self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.latch.check()?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.latch.check()?;
        self.latch.watch_unless(is_out_of_descriptors, self.inner.sync_dir(dir))
    }

    fn may_replace(&self, path: &Path) -> io::Result<()> {
        self.inner.may_replace(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.inner.lock(path)
    }

    fn io(&self) -> IoBackend {
        self.inner.io()
    }
}

#[derive(Debug)]
struct File {
    inner: Arc<dyn DiskFile>,
    shared: Arc<Latch>,
    own: Latch,
    /// Created through this handle, and never yet synced: its failures are its own.
    fresh: AtomicBool,
    /// Held from before a sync until its failure is latched, or the next one could succeed in between.
    syncing: Mutex<()>,
}

impl File {
    /// Does something that changes the file, if it may still be changed.
    fn change<T>(&self, action: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.shared.check()?;
        self.own.check()?;
        let result = action(&*self.inner);
        if self.fresh.load(Ordering::Acquire) { self.own.watch(result) } else { self.shared.watch(result) }
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.change(|file| match file.write_at(bytes, offset)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(|file| file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        if planted!("retry-fsync") {
            return self.inner.sync_data().or_else(|_| self.inner.sync_data());
        }
        self.change(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.change(|file| file.sync_all())?;
        self.fresh.store(false, Ordering::Release);
        Ok(())
    }

    fn start_sync(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        if planted!("start-of-sync-cannot-fail") {
            return self.inner.start_sync().or(Ok(()));
        }
        self.change(|file| file.start_sync())
    }

    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let _one_at_a_time = self.syncing.lock();
        if planted!("uring-retries-sync") {
            return self.inner.submit(bytes, offset, wrote).or_else(|_| self.inner.sync_data().map(|()| true));
        }
        self.change(|file| file.submit(bytes, offset, wrote))
    }

    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        self.inner.map()
    }
}
