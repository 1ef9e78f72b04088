//! Fail-stop: after the first failed write or sync nothing more is written or synced.
//!
//! The kernel reports a failed write-back once, marks the pages clean, and answers the next fsync with success. So a
//! failure is final. This latch enforces it in one place, below all code that could retry.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
/// unusable. Nor is a rename final that the operating system refused: such a refusal says nothing about what is durable.
/// A rename is final if the medium failed, or the connection to it.
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

    /// Which call it was that failed first, and why. Every call that is refused since then has the same error, and none
    /// of them is to blame.
    pub(crate) fn first_failure(&self) -> Option<FirstFailure> {
        self.latch.0.get().map(|cause| FirstFailure {
            call: cause.call,
            name: cause.name.clone(),
            error: cause.error(),
        })
    }
}

/// The call by which a latch has closed.
#[derive(Debug)]
pub(crate) struct FirstFailure {
    /// What was done: "fsync", for example.
    pub(crate) call: &'static str,
    /// The file to which it was done; `None` for the directory itself. A file that was renamed while it was open goes by
    /// the name that it had when it was opened.
    pub(crate) name: Option<OsString>,
    pub(crate) error: io::Error,
}

/// A failure as a value; `io::Error` cannot be cloned.
#[derive(Debug)]
struct Cause {
    call: &'static str,
    name: Option<OsString>,
    code: Option<i32>,
    kind: io::ErrorKind,
    message: String,
}

impl Cause {
    fn of((call, name): Call<'_>, error: &io::Error) -> Self {
        let (code, kind, message) = (error.raw_os_error(), error.kind(), error.to_string());
        Cause { call, name: name.map(OsStr::to_owned), code, kind, message }
    }

    fn error(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.message.clone()),
        }
    }
}

/// What is done, and the file to which it is done.
type Call<'a> = (&'static str, Option<&'a OsStr>);

const SYNC_DIR: Call<'static> = ("sync directory", None);

#[derive(Default, Debug)]
struct Latch(OnceLock<Cause>);

impl Latch {
    fn check(&self) -> io::Result<()> {
        self.0.get().map_or(Ok(()), |cause| Err(cause.error()))
    }

    /// Passes the result of `call` on. A failure closes the latch, unless it is closed already.
    fn watch<T>(&self, call: Call<'_>, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.close(Cause::of(call, error));
        }
        result
    }

    /// [`Latch::watch`] for a rename to `to`.
    fn watch_rename(&self, to: &OsStr, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if is_refused_rename(&error) => Err(error),
            result => self.watch(("rename to", Some(to)), result),
        }
    }

    /// The first cause stays.
    fn close(&self, cause: Cause) {
        let _ = self.0.set(cause);
    }
}

/// Makes `call`. If it panics, it may have failed half-way, and no later call may hide that: the latch that `latch` then
/// chooses is closed.
fn guarded<'a, T>(latch: impl Fn() -> &'a Latch, what: Call<'_>, call: impl FnOnce() -> T) -> T {
    struct Unwinding<'l, 'a> {
        latch: &'l dyn Fn() -> &'a Latch,
        what: Call<'l>,
        returned: bool,
    }

    impl Drop for Unwinding<'_, '_> {
        fn drop(&mut self) {
            if !self.returned {
                (self.latch)().close(Cause::of(self.what, &io::Error::other("a call of the disk panicked")));
            }
        }
    }

    let mut guard = Unwinding { latch: &latch, what, returned: false };
    let result = call();
    guard.returned = true;
    result
}

impl FailStop {
    /// Makes the call `what` to the directory. A panic in it is final, as its failure is.
    fn call<T>(&self, what: Call<'_>, call: impl FnOnce(&dyn Dir) -> io::Result<T>) -> io::Result<T> {
        self.latch.check()?;
        guarded(|| &*self.latch, what, || call(&*self.inner))
    }
}

/// Whether a rename that failed with `error` was refused: then both names are as they were. A file of that name in the
/// way, a program that has removed the temporary file, a quota: none of them says anything about what is durable.
pub(crate) fn is_refused_rename(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        return !super::os::may_have_renamed(code);
    }
    // Without a code that is known, an error that is none of these may be anything.
    matches!(
        error.kind(),
        AlreadyExists
            | ArgumentListTooLong
            | CrossesDevices
            | Deadlock
            | DirectoryNotEmpty
            | ExecutableFileBusy
            | FileTooLarge
            | InvalidFilename
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | NotFound
            | OutOfMemory
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | ResourceBusy
            | StorageFull
            | TooManyLinks
            | Unsupported
            | WouldBlock
    )
}

impl Dir for FailStop {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let fresh = access == Access::Create;
        if fresh {
            self.latch.check()?;
        }
        let inner = self.inner.open(name, access)?;
        let shared = Arc::clone(&self.latch);
        let (name, own) = (name.to_owned(), Latch::default());
        let file = File { inner, name, shared, own, fresh: fresh.into(), syncing: Mutex::new(()) };
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.latch.watch_rename(to, self.call(("rename to", Some(to)), |dir| dir.rename(from, to)))
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.latch.watch_rename(to, self.call(("rename to", Some(to)), |dir| dir.rename_new(from, to)))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.latch.check()?;
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.inner.list()
    }

    fn sync(&self) -> io::Result<()> {
        self.latch.watch(SYNC_DIR, self.call(SYNC_DIR, |dir| dir.sync()))
    }

    fn sync_name(&self) -> io::Result<()> {
        match self.call(SYNC_DIR, |dir| dir.sync_name()) {
            // The directory above may not be opened: no sync was tried, so none has failed.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            synced => self.latch.watch(SYNC_DIR, synced),
        }
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        if access == Access::Create {
            self.latch.check()?;
        }
        self.inner.child(name, access)
    }

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.latch.watch_rename(to, self.call(("rename to", Some(to)), |dir| dir.rename_child(from, to)))
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        self.latch.check()?;
        self.inner.remove_child(name)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.inner.lock(mode)
    }

    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        self.inner.id_of(name)
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        self.inner.may_replace(name)
    }

    fn room(&self) -> io::Result<Option<u64>> {
        self.inner.room()
    }

    fn io(&self) -> IoBackend {
        self.inner.io()
    }
}

#[derive(Debug)]
struct File {
    inner: Arc<dyn DiskFile>,
    name: OsString,
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
    fn change<T>(&self, call: &'static str, action: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.shared.check()?;
        self.own.check()?;
        let call = (call, Some(&*self.name));
        let latch = || if self.fresh.load(Ordering::Acquire) { &self.own } else { &*self.shared };
        let result = guarded(latch, call, || action(&*self.inner));
        latch().watch(call, result)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn age(&self) -> io::Result<Option<Duration>> {
        self.inner.age()
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
        self.change("write to", |file| match file.write_at(bytes, offset)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change("change the length of", |file| file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.change("fsync", |file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.change("fsync", |file| file.sync_all())?;
        self.fresh.store(false, Ordering::Release);
        Ok(())
    }

    fn start_writeback(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.change("write to", |file| file.start_writeback())
    }

    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let _one_at_a_time = self.syncing.lock();
        self.change("write to", |file| file.submit(bytes, offset, wrote))
    }

    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        self.inner.map()
    }
}
