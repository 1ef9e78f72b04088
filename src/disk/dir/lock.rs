//! Who owns the directory of a database. `LOCK.md` has the steps and the reason for each.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::DirHandle;
use crate::base::error::{Error, ErrorKind, Result, is_short_of_files};
use crate::disk::{Access, Dir, DiskFile, DiskLock, FailStop, LockMode};
use crate::rt::sync::Mutex;

/// The lock file's name.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// How often an opener tries LOCK again because it was removed between its open and its lock.
const TRIES: usize = 8;

/// The locks by which the directory of a database is, or was, held.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum LockHeld {
    /// The LOCK file, if there is one, and the lock on the directory itself.
    #[default]
    Both,
    /// The LOCK file alone: if that file is deleted while the database is open, nothing keeps a second writer out.
    FileAlone {
        /// Why the directory could not be locked.
        why: String,
    },
    /// No lock: the directory was read while it may have been written. Only a reader goes on without a lock.
    Not {
        /// Why it could not be locked.
        why: String,
    },
    /// No lock: a program has the database open, and it was read beside that, as the caller had asked for.
    Beside,
}

impl fmt::Display for LockHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockHeld::Both => f.write_str("locked"),
            LockHeld::FileAlone { why } => write!(f, "locked by its LOCK file alone: {why}"),
            LockHeld::Not { why } => write!(f, "not locked: read while it may be written: {why}"),
            LockHeld::Beside => f.write_str("not locked: read beside a program that has it open"),
        }
    }
}

/// Clones share the locks, which are free when the last clone has given them up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lock {
    file: Option<Arc<LockedFile>>,
    dir: Option<Arc<dyn DiskLock>>,
    /// There is no LOCK.
    is_absent: bool,
    how: LockHeld,
}

/// LOCK as it was locked, and its lock, which is dropped first.
#[derive(Debug)]
struct LockedFile {
    _held: Box<dyn DiskLock>,
    file: Arc<dyn DiskFile>,
}

impl LockedFile {
    fn new(held: Box<dyn DiskLock>, file: Arc<dyn DiskFile>) -> Option<Arc<Self>> {
        Some(Arc::new(LockedFile { _held: held, file }))
    }
}

impl DirHandle {
    /// The same directory as `view` shows it, with a share in the locks of this handle.
    pub(crate) fn viewed_as(&self, view: Arc<dyn Dir>) -> Self {
        let lock = self.lock.lock().clone();
        DirHandle { dir: FailStop::new(view), path: self.path.clone(), lock: Mutex::new(lock) }
    }

    /// Locks the directory for a writer, as far as that creates nothing: the directory itself, and LOCK if there is
    /// one. [`DirHandle::complete_lock`] creates LOCK later.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`].
    pub(crate) fn lock_for_writing(&self) -> Result<()> {
        let mut lock = Lock::default();
        match self.dir().lock(LockMode::Exclusive) {
            Ok(None) => return Err(self.locked()),
            Ok(Some(held)) => lock.dir = Some(held.into()),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                lock.how = LockHeld::FileAlone { why: error.to_string() };
            }
            Err(error) => return Err(Error::io("lock", self.path(), error)),
        }
        for _ in 0..TRIES {
            let file = match self.dir().open(OsStr::new(LOCK_NAME), Access::Write) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    lock.is_absent = true;
                    break;
                }
                Err(error) => return Err(self.lock_failed(error)),
            };
            if let Some(held) = self.lock_file(&file, LockMode::Exclusive)? {
                lock.file = LockedFile::new(held, file);
                break;
            }
        }
        *self.lock.lock() = lock;
        Ok(())
    }

    /// Locks LOCK through an open file. `None` if the name no longer leads to that file.
    fn lock_file(&self, file: &Arc<dyn DiskFile>, mode: LockMode) -> Result<Option<Box<dyn DiskLock>>> {
        let held = file.lock(mode).map_err(|error| self.lock_failed(error))?.ok_or_else(|| self.locked())?;
        Ok(self.is_lock(&**file)?.then_some(held))
    }

    /// Whether the name LOCK leads to this file.
    fn is_lock(&self, file: &dyn DiskFile) -> Result<bool> {
        let named = match self.dir().id_of(OsStr::new(LOCK_NAME)) {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.lock_failed(error)),
        };
        Ok(named == file.status().map_err(|error| self.lock_failed(error))?.id)
    }

    /// Whether the next [`DirHandle::complete_lock`] creates LOCK: everything read until then may be stale.
    pub(crate) fn lacks_lock_file(&self) -> bool {
        self.lock.lock().file.is_none()
    }

    /// Creates LOCK if there was none, before the first write. Once LOCK is locked, `is_as_read` checks that the state
    /// on which the open decided is still there.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if another program came meanwhile, [`ErrorKind::Removed`] if the directory was removed.
    pub(crate) fn complete_lock(&self, is_as_read: impl FnOnce() -> Result<bool>) -> Result<()> {
        if !self.lacks_lock_file() {
            return Ok(());
        }
        let file = match self.dir().open(OsStr::new(LOCK_NAME), Access::Create) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(if self.leads_nowhere()? { self.no_lock_file() } else { self.overtaken() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.removed(self.path(), "was removed").with_source(error));
            }
            Err(error) => return Err(Error::io("create", &self.path_of(OsStr::new(LOCK_NAME)), error)),
        };
        let held = self.lock_file(&file, LockMode::Exclusive)?.ok_or_else(|| self.overtaken())?;
        if !is_as_read()? {
            return Err(self.overtaken());
        }
        self.lock.lock().file = LockedFile::new(held, file);
        Ok(())
    }

    /// Locks the directory for a reader. A reader creates nothing, and reads even if it cannot lock.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if a writer has it.
    pub(crate) fn lock_for_reading(&self) -> Result<()> {
        let mut lock = Lock::default();
        match self.dir().lock(LockMode::Shared) {
            Ok(None) => return Err(self.locked()),
            Ok(Some(held)) => lock.dir = Some(held.into()),
            Err(error) if is_out_of_resources(&error) => return Err(Error::io("lock", self.path(), error)),
            Err(error) => lock.how = LockHeld::FileAlone { why: error.to_string() },
        }
        for _ in 0..TRIES {
            let file = match self.dir().open(OsStr::new(LOCK_NAME), Access::Read) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    lock.is_absent = true;
                    // No writer has it, unless only the directory's lock could tell.
                    if let LockHeld::FileAlone { why } = lock.how {
                        lock.how = LockHeld::Not { why: format!("there is no LOCK, and {why}") };
                    }
                    break;
                }
                Err(error) if is_out_of_resources(&error) => return Err(self.lock_failed(error)),
                Err(error) => {
                    lock.how = LockHeld::Not { why: format!("LOCK cannot be opened: {error}") };
                    break;
                }
            };
            match file.lock(LockMode::Shared) {
                Ok(None) => return Err(self.locked()),
                Ok(Some(held)) if self.is_lock(&*file)? => {
                    lock.file = LockedFile::new(held, file);
                    break;
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    lock.how = LockHeld::Not { why: format!("LOCK cannot be locked: {error}") };
                    break;
                }
            }
        }
        *self.lock.lock() = lock;
        Ok(())
    }

    /// A writer has it, and it is read all the same.
    pub(crate) fn read_beside(&self) {
        *self.lock.lock() = Lock { how: LockHeld::Beside, ..Lock::default() };
    }

    /// Checks that a writer could lock LOCK, or create it, as far as that can be known without changing anything.
    ///
    /// # Errors
    /// As an open would.
    pub(crate) fn would_lock(&self) -> Result<()> {
        let name = OsStr::new(LOCK_NAME);
        match self.dir().open(name, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.leads_nowhere()? {
                    return Err(self.no_lock_file());
                }
                self.dir().may_replace(name).map_err(|error| self.lock_failed(error))
            }
            opened => opened.map(drop).map_err(|error| self.lock_failed(error)),
        }
    }

    /// Whether there is a LOCK, and it leads to no file: a symbolic link to something that is gone.
    fn leads_nowhere(&self) -> Result<bool> {
        let is_missing = match self.dir().id_of(OsStr::new(LOCK_NAME)) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(self.lock_failed(error)),
        };
        Ok(is_missing && self.list()?.iter().any(|name| name == LOCK_NAME))
    }

    fn no_lock_file(&self) -> Error {
        let path = self.path_of(OsStr::new(LOCK_NAME));
        let message = format!(
            "cannot lock {}: it is a symbolic link that leads nowhere. Remove the link; an open makes the file anew",
            path.display()
        );
        Error::new(ErrorKind::Io, message)
    }

    /// The error of a reader that failed without a LOCK file: `Locked` if there is one now, because its owner may have
    /// changed what was read; otherwise `error`.
    pub(crate) fn unless_overtaken(&self, error: Error) -> Error {
        let came = self.lock.lock().is_absent && self.dir().id_of(OsStr::new(LOCK_NAME)).is_ok();
        if came { self.overtaken().with_source(error) } else { error }
    }

    pub(crate) fn lock_held(&self) -> LockHeld {
        self.lock.lock().how.clone()
    }

    /// Checks that LOCK still leads to the file that this open has locked, before a write that a second writer would
    /// take for its own. Without a lock there is nothing to check.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`].
    pub(crate) fn check_lock(&self) -> Result<()> {
        let lock = self.lock.lock();
        let Some(LockedFile { file, .. }) = lock.file.as_deref() else { return Ok(()) };
        if self.is_lock(&**file)? {
            return Ok(());
        }
        let path = self.path_of(OsStr::new(LOCK_NAME));
        Err(self.removed(&path, "was removed or replaced, alone or with its directory,"))
    }

    /// Gives up this handle's share in the locks: LOCK first.
    pub(crate) fn unlock(&self) {
        let Lock { file, dir, .. } = std::mem::take(&mut *self.lock.lock());
        drop(file);
        drop(dir);
    }

    fn locked(&self) -> Error {
        Error::new(
            ErrorKind::Locked,
            format!("{} is open already, in this process or another: close it there first", self.path().display()),
        )
    }

    fn overtaken(&self) -> Error {
        let path = self.path().display();
        Error::new(ErrorKind::Locked, format!("another program opened {path} at the same time: try again"))
    }

    fn lock_failed(&self, error: io::Error) -> Error {
        Error::io("lock", &self.path_of(OsStr::new(LOCK_NAME)), error)
    }
}

/// Whether this process was short of a resource, rather than forbidden to lock the file.
fn is_out_of_resources(error: &io::Error) -> bool {
    is_short_of_files(error) || error.kind() == io::ErrorKind::OutOfMemory
}
