//! Fail-stop: after a failed write or fsync on the log nothing more is written or synced, and every waiter is told.
//!
//! A failure is final only if it may be a verdict on what is durable. What the operating system refuses before it was
//! asked for durability is none: the commit that needs it gets an error that can be tried again, and the log goes on.
//!
//! | call | on | final | because |
//! |---|---|---|---|
//! | write, fsync, start of write-back, change of length | a segment in use | always | bytes that the log relies on may be gone (A9) |
//! | the same | a new segment, HISTORY or MARK under its temporary name, MARK | never | nothing relies on the file; the next attempt makes it anew |
//! | create, open, list, remove | any | never | they change nothing that is relied on |
//! | any of these, when HISTORY was removed and is written again | any | the third time in a row | until it is there, a crash takes everything |
//! | rename | a new segment, HISTORY | if the medium failed, or the connection to it: EIO, ESTALE and their like | after those either name may be durable; every other error is a refusal, which leaves both names as they were |
//! | fsync | the directory | always | the names of segments in use are in it |
//! | start of a thread | | never | nothing was begun |
//!
//! A call of the disk that panics is as final as its failure: what it has done is not known.
//!
//! Which calls are final is decided in one place, `disk/latch.rs`. It remembers the first one, since the thread that stops
//! the log may be another one, which was refused for that reason. A refused attempt leaves no trace that the next one, or
//! recovery, could trip over: the incarnation is drawn once for each open, so whichever HISTORY and whichever segment an
//! attempt has left belong together; a new segment without a durable name is removed.
//!
//! A background thread that panics is a failure too: its last act is to stop the log and to raise the alarm (`rt/guard.rs`).
//!
//! The thread that stops the log may hold locks, under which it can wake no one. It is handed an [`Alarm`], which goes up
//! with the error to where no lock is held, and is raised there. The compiler tells where one is forgotten.

use super::log_dir::LogDir;
use super::positions::OutOfOrder;
use crate::base::error::{Error, ErrorKind};
use crate::base::types::Lsn;
use crate::format::segment::TEMPORARY_SUFFIX;
use crate::rt::sync::OnceLock;

impl From<OutOfOrder> for Error {
    fn from(step: OutOfOrder) -> Self {
        let OutOfOrder { mark, from, to } = step;
        Error::bug(format_args!("the {mark} position moved from {from:#x} to {to:#x}"))
    }
}

/// Why an engine or log takes no more commits, and which of them are in doubt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Poisoned {
    /// The first failure.
    pub cause: Error,
    /// Commits up to here are durable.
    pub durable: Lsn,
    /// Commits above `durable` and up to here are indeterminate until the database is reopened.
    pub appended: Lsn,
}

/// The log has stopped, and its waiters do not know it yet.
#[must_use = "those who wait for the log sleep on until it is raised"]
#[derive(Debug)]
pub(crate) struct Alarm(());

/// Everything that waits for the log: threads, tasks, callbacks.
pub(crate) trait WakeEveryone {
    /// Gives every waiter a verdict. Called without any lock: it may run a user's code.
    fn wake_everyone(&self);
}

impl Alarm {
    /// Wakes every waiter. Called without any lock; the right to sync is handed on afterwards.
    pub(crate) fn raise(self, waiting: &impl WakeEveryone) {
        waiting.wake_everyone();
    }

    /// For a thread that unwinds, or goes on, under a lock, and can raise nothing. The flusher raises it: a stopped log ends that
    /// thread, and its last act is to wake every waiter.
    pub(crate) fn left_to_the_flusher(self) {}
}

/// An error, and the alarm that is to be raised if it has stopped the log.
#[must_use = "those who wait for the log sleep on until its alarm is raised"]
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) alarm: Option<Alarm>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused { error, alarm: None }
    }
}

impl Refused {
    /// The error, after every waiter was told. Called without any lock.
    pub(crate) fn raise(self, waiting: &impl WakeEveryone) -> Error {
        if let Some(alarm) = self.alarm {
            alarm.raise(waiting);
        }
        self.error
    }
}

/// Why the log has stopped, if it was by a failure.
#[derive(Debug)]
pub(crate) struct Failure {
    poisoned: OnceLock<Poisoned>,
    place: LogDir,
}

impl Failure {
    /// None yet, of the log in `place`.
    pub(super) fn none(place: LogDir) -> Self {
        Failure { poisoned: OnceLock::new(), place }
    }

    pub(super) fn poisoned(&self) -> Option<&Poisoned> {
        self.poisoned.get()
    }

    /// Called under the append lock; the first failure stays.
    pub(super) fn note(&self, poisoned: Poisoned) -> Alarm {
        let poisoned = Poisoned { cause: self.first_cause(poisoned.cause), ..poisoned };
        let _ = self.poisoned.set(poisoned);
        Alarm(())
    }

    /// The failure that `cause` is a consequence of. Between the call that failed and the stop of the log, a call of another
    /// thread may be refused: its error would name a file to which nothing happened.
    fn first_cause(&self, cause: Error) -> Error {
        let is_of_the_disk = matches!(cause.kind(), ErrorKind::Io | ErrorKind::DiskFull);
        let Some(first) = self.place.disk().first_failure().filter(|_| is_of_the_disk) else { return cause };
        let told = cause.to_string();
        let (path, is_told) = match &first.name {
            Some(name) => {
                let name = name.to_string_lossy();
                let name = name.strip_suffix(TEMPORARY_SUFFIX).unwrap_or(&name);
                (self.place.path(name), told.contains(name))
            }
            None => (self.place.dir().to_owned(), told.contains(first.call)),
        };
        if is_told { cause } else { Error::io(first.call, &path, first.error) }
    }

    /// Asked right before each write and fsync: another thread may have failed since this one was let in.
    pub(super) fn check(&self) -> std::result::Result<(), Alarm> {
        if self.poisoned().is_some() { Err(Alarm(())) } else { Ok(()) }
    }

    /// The error for new commits.
    pub(super) fn refusal(&self) -> Error {
        match self.poisoned() {
            Some(poison) => {
                let message = match poison.cause.kind() {
                    ErrorKind::Internal => "the log stopped and no more commits are taken: close and reopen",
                    ErrorKind::Removed => {
                        "files of the log were removed or replaced and no more commits are taken: close, see what is there"
                    }
                    _ => {
                        "an earlier write or fsync failed and no more commits are taken: close, check the disk, reopen"
                    }
                };
                Error::new(ErrorKind::Poisoned, message).with_source(poison.cause.clone())
            }
            None => Error::closed(),
        }
    }
}
