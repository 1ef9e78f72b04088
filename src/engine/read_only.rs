//! Reading a database without opening it: nothing is changed, and no right to write is needed (rule 9 of `disk/LOCK.md`).

use std::path::Path;
use std::sync::Arc;

use super::copied::explained;
use super::open::{self, Looked};
use crate::base::error::{Error, ErrorKind, Result};
use crate::care::pace::{Paced, ScrubOptions};
use crate::disk::{DirHandle, Disk, Layered, LockHeld, OsDisk};
#[cfg(doc)]
use crate::engine::Engine;
use crate::log::log_dir::LogDir;
use crate::log::open::beside::{Read, View, read_beside};
use crate::log::open::settle::end_of;
use crate::log::open::{account, obstacles, unless_unlocked};
use crate::log::receipts::outcome::Fates;
use crate::log::{Files, Recovery};
use crate::rt::clock;
use crate::txn::ReadOnly;

/// How a database is read without opening it: from a read-only mount, an image or a backup, of another user, or beside the
/// program that has it open.
///
/// Nothing is changed, in no case, and no right to write is needed.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-read-only-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{Engine, ErrorKind, ReadOnlyOptions};
/// let engine = Engine::open(&dir)?;
/// let accounts = engine.create_keyspace("accounts")?;
/// let mut tx = engine.begin()?;
/// tx.put(&accounts, "alice", "90")?;
/// tx.commit()?;
///
/// // While a program has it open, that must be asked for.
/// assert_eq!(Engine::read_only(&dir).unwrap_err().kind(), ErrorKind::Locked);
/// let seen = ReadOnlyOptions::new().beside_a_writer(true).open(&dir)?;
/// assert!(seen.has_writer());
/// assert_eq!(seen.get("accounts", "alice")?.unwrap(), b"90");
/// engine.close()?;
///
/// let seen = Engine::read_only(&dir)?;
/// assert_eq!(seen.keyspace_names()?, ["accounts"]);
/// assert_eq!(seen.range("accounts", ..)?.count(), 1);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyOptions {
    beside_a_writer: bool,
    pace: Option<ScrubOptions>,
}

impl ReadOnlyOptions {
    /// The defaults.
    pub fn new() -> Self {
        ReadOnlyOptions::default()
    }

    /// Whether the database is read also while a program has it open. Default `false`: then it is refused
    /// ([`ErrorKind::Locked`]).
    ///
    /// The writer does not notice. What is seen is the effect of a prefix of the commit order, with every commit that was
    /// acknowledged as [`Sync`](crate::CommitMode::Sync) or [`Written`](crate::CommitMode::Written) before the call began.
    /// [`ReadOnly::lsn`] says where that prefix ends, [`ReadOnly::has_writer`] that there was a writer. Of the newest commits
    /// in it, those above [`Recovery::proven_durable`], a power loss may take some. Without a writer this changes nothing.
    ///
    /// Writer and reader must be on the same host: over a network file system, the files of a writer on another one may be
    /// taken for damaged. On systems other than Unix it is [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn beside_a_writer(mut self, yes: bool) -> Self {
        self.beside_a_writer = yes;
        self
    }

    /// Reads no faster than this, also once it is open: for a disk that others need meanwhile. By default there is no limit.
    #[must_use]
    pub fn pace(mut self, pace: ScrubOptions) -> Self {
        self.pace = Some(pace);
        self
    }

    /// Reads the log of the database in directory `dir` behind its tables, and finds the tables, of which a part is read when it
    /// is asked for. After a crash it is read as the next open will keep it. No bytes of tables are checked until they are read:
    /// for that there is [`ReadOnlyOptions::verify`].
    ///
    /// Where nobody has it open, this is done under shared locks, which end with this call; an open meanwhile is refused as
    /// [`ErrorKind::Locked`]. If they cannot be had, [`Recovery::lock`] says so, and it is read as beside a writer, which
    /// may be there.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] while a program has it open, unless [asked for](ReadOnlyOptions::beside_a_writer);
    /// [`ErrorKind::NotADatabase`], [`ErrorKind::Unsupported`], [`ErrorKind::Damaged`], [`ErrorKind::Io`] as of
    /// [`Engine::open`]. Beside a writer [`ErrorKind::WouldBlock`] if it changes its files too fast each time, after which
    /// another call may succeed, and [`ErrorKind::Removed`] if the database was removed or replaced meanwhile.
    /// [`ErrorKind::InvalidInput`] if the [pace](ReadOnlyOptions::pace) is zero. [`ErrorKind::Io`] also if this process has as
    /// many files open as it may.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<ReadOnly> {
        self.read(Arc::new(OsDisk), dir.as_ref())
    }

    /// [`ReadOnlyOptions::open`] on a disk of your own.
    ///
    /// # Errors
    /// As [`ReadOnlyOptions::open`].
    #[cfg(feature = "unstable")]
    pub fn open_on(self, disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<ReadOnly> {
        self.read(disk, dir.as_ref())
    }

    /// Reads and checks everything in the database in directory `dir`: see [`Engine::verify`]. Beside a writer it says what
    /// it saw, and does not ask whether an open would succeed.
    ///
    /// # Errors
    /// As [`ReadOnlyOptions::open`].
    pub fn verify(self, dir: impl AsRef<Path>) -> Result<Recovery> {
        self.check(Arc::new(OsDisk), dir.as_ref())
    }

    /// [`ReadOnlyOptions::verify`] on a disk of your own.
    ///
    /// # Errors
    /// As [`ReadOnlyOptions::verify`].
    #[cfg(feature = "unstable")]
    pub fn verify_on(self, disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Recovery> {
        self.check(disk, dir.as_ref())
    }

    fn read(self, disk: Arc<dyn Disk>, dir: &Path) -> Result<ReadOnly> {
        let started = clock::now();
        let (handle, Looked { index, verdicts, .. }) = self.look(disk, dir)?;
        let end = verdicts.unfinished.as_ref().map(end_of);
        let report = account(&handle, verdicts.report, started);
        let has_writer = report.lock == LockHeld::Beside;
        let fates = Fates::new(verdicts.history, end, report.proven_durable, has_writer);
        Ok(ReadOnly::new(index, report, fates))
    }

    fn check(self, disk: Arc<dyn Disk>, dir: &Path) -> Result<Recovery> {
        let started = clock::now();
        let (handle, Looked { verdicts, tables, .. }) = self.look(disk, dir)?;
        // Runs never change, so what is found in them needs no second look.
        let runs = tables.hold().map_or(Ok(()), |layers| layers.check_runs());
        runs.map_err(|error| explained(&handle, unless_unlocked(&handle, error)))?;
        let (mut obstacle, mut commit_obstacle) = (None, None);
        if handle.lock_held() != LockHeld::Beside {
            (obstacle, commit_obstacle) = obstacles(&LogDir::new(Arc::clone(&handle)), &verdicts);
            obstacle = obstacle.or_else(|| tables.would_settle().err());
        }
        Ok(Recovery { obstacle, commit_obstacle, ..account(&handle, verdicts.report, started) })
    }

    /// Locks the directory if that can be, and reads what is in it.
    fn look(self, disk: Arc<dyn Disk>, dir: &Path) -> Result<(Arc<DirHandle>, Looked)> {
        let handle = match self.pace {
            Some(pace) => DirHandle::open(&Layered::new(disk, Paced::new(pace)?), dir)?,
            None => DirHandle::open(&*disk, dir)?,
        };
        let handle = Arc::new(handle);
        match handle.lock_for_reading() {
            Err(error) if error.kind() == ErrorKind::Locked => {
                if !self.beside_a_writer {
                    return Err(error.adding("To read it meanwhile, ask for that: ReadOnlyOptions::beside_a_writer"));
                }
                if !cfg!(unix) {
                    let message = "beside a writer a database is read on Unix only: elsewhere a file that is open here could \
                                   not be replaced by the writer. Close it there first";
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
                handle.read_beside();
            }
            locked => locked?,
        }
        let read = |view: &View, files| {
            let looked = open::look(&view.handle, files)?;
            view.keep_runs();
            Ok(looked)
        };
        let looked = match handle.lock_held() {
            LockHeld::Beside | LockHeld::Not { .. } => read_beside(&handle, |view| {
                let mut answer = read(view, Files::MayChange)?;
                let (history, doubt) = (answer.verdicts.history.clone(), answer.verdicts.doubt.take());
                Ok(Read { answer, history, doubt })
            })?,
            _ => read(&View::of(&handle), Files::Still).map_err(|error| unless_unlocked(&handle, error))?,
        };
        Ok((handle, looked))
    }
}
