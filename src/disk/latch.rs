//! Fail-stop: after the first failed write or sync nothing more is written or synced.
//!
//! The kernel reports a failed write-back once, marks the pages clean, and answers the next fsync with success. So a
//! failure is final. This latch enforces it in one place, below all code that could retry.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Access, Dir, DiskFile, DiskLock, FileId, FileStatus, IoBackend, LockMode, Mapping};
use crate::rt::sync::Mutex;

/// A directory that stops at the first failure.
///
/// After a write, change of length, sync or rename that failed or panicked, every later call that would change something
/// fails with that first cause and does not reach the directory below. Reads, listings and locks go on. Clones share the
/// state. A directory inside this one has a latch of its own, or none.
///
/// Not final are failed reads, creations and removals, interrupted calls, and every failure of a new file before its
/// first successful [`DiskFile::sync_all`]: no durable data relies on such a file yet, so only the file itself becomes
/// unusable. Nor is a call final that the operating system refused before it did anything: a rename for want of space,
/// memory or permission. Such a refusal says nothing about what is durable.
#[derive(Clone, Debug)]
pub struct FailStop {
    inner: Arc<dyn Dir>,
    latch: Arc<Latch>,
}

impl FailStop {
    /// Puts a latch in front of `inner`.
    pub fn new(inner: Arc<dyn Dir>) -> Self {
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

    /// Passes `result` on. A failure closes the latch, unless it is closed already.
    fn watch<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.close(error);
        }
        result
    }

    /// [`Latch::watch`], except for errors by which the call has done nothing.
    fn watch_unless<T>(&self, is_refusal: fn(&io::Error) -> bool, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error) if is_refusal(&error) => Err(error),
            result => self.watch(result),
        }
    }

    /// The first cause stays.
    fn close(&self, error: &io::Error) {
        let _ = self.0.set(Cause::of(error));
    }
}

/// Makes `call`. If it panics, it may have failed half-way, and no later call may hide that: the latch that `latch` then
/// chooses is closed.
fn guarded<'a, T>(latch: impl Fn() -> &'a Latch, call: impl FnOnce() -> T) -> T {
    struct Unwinding<'l, 'a> {
        latch: &'l dyn Fn() -> &'a Latch,
        returned: bool,
    }

    impl Drop for Unwinding<'_, '_> {
        fn drop(&mut self) {
            if !self.returned {
                (self.latch)().close(&io::Error::other("a call of the disk panicked"));
            }
        }
    }

    let mut guard = Unwinding { latch: &latch, returned: false };
    let result = call();
    guard.returned = true;
    result
}

/// Whether a rename that failed with `error` has left both names as they were. POSIX promises it for every error but
/// EIO. Of the others these are temporary. A network file system may not know what its server did.
fn is_refused_rename(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let passes = [OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    passes.contains(&error.kind()) || (cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE)))
}

impl FailStop {
    /// Makes a `call` of which a panic is final, as its failure is.
    fn call<T>(&self, call: impl FnOnce(&dyn Dir) -> io::Result<T>) -> io::Result<T> {
        self.latch.check()?;
        guarded(|| &*self.latch, || call(&*self.inner))
    }
}

impl Dir for FailStop {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let fresh = access == Access::Create;
        if fresh {
            self.latch.check()?;
        }
        let inner = self.inner.open(name, access)?;
        let shared = Arc::clone(&self.latch);
        let file = File { inner, shared, own: Latch::default(), fresh: fresh.into(), syncing: Mutex::new(()) };
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.latch.watch_unless(is_refused_rename, self.call(|dir| dir.rename(from, to)))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.latch.check()?;
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.inner.list()
    }

    fn sync(&self) -> io::Result<()> {
        self.latch.watch(self.call(|dir| dir.sync()))
    }

    fn sync_name(&self) -> io::Result<()> {
        self.latch.watch(self.call(|dir| dir.sync_name()))
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        if access == Access::Create {
            self.latch.check()?;
        }
        self.inner.child(name, access)
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        self.latch.check()?;
        self.inner.remove_child(name)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.inner.lock(mode)
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        self.inner.id_of(name)
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        self.inner.may_replace(name)
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
    /// Created through this handle and never synced: its failures do not close the latch.
    fresh: AtomicBool,
    /// Held from before a sync until its failure is in the latch. Otherwise another thread's sync could succeed in
    /// between, because the kernel reports a failure only once.
    syncing: Mutex<()>,
}

impl File {
    /// Runs an `action` that changes the file, unless the latch is closed.
    fn change<T>(&self, action: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.shared.check()?;
        self.own.check()?;
        let latch = || if self.fresh.load(Ordering::Acquire) { &self.own } else { &*self.shared };
        let result = guarded(latch, || action(&*self.inner));
        latch().watch(result)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn status(&self) -> io::Result<FileStatus> {
        self.inner.status()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.inner.lock(mode)
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
        self.change(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.change(|file| file.sync_all())?;
        self.fresh.store(false, Ordering::Release);
        Ok(())
    }

    fn start_writeback(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.change(|file| file.start_writeback())
    }

    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let _one_at_a_time = self.syncing.lock();
        self.change(|file| file.submit(bytes, offset, wrote))
    }

    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        self.inner.map()
    }
}
