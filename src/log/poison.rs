//! Fail-stop: after a failed write or fsync on the log, nothing more is written or synced, and everybody is told.
//!
//! A failure is final only if it may be a verdict on what is durable. What the operating system refuses before it was
//! asked for durability is none: the commit that needs it gets an error that can be tried again, and the log goes on.
//!
//! | call | on | final | because |
//! |---|---|---|---|
//! | write, fsync, start of write-back, change of length | a segment in use | always | bytes that the log relies on may be gone (A9) |
//! | the same | a new segment, HISTORY or MARK under its temporary name, MARK | never | nobody relies on the file; the next attempt makes it anew |
//! | create, open, list, remove | any | never | they change nothing that is relied on |
//! | rename | a new segment, HISTORY | but for want of space, memory, descriptors or permission | then both names are as they were; after EIO either may be durable |
//! | fsync | the directory | always | the names of segments in use are in it |
//! | start of a thread | | never | nothing was begun |
//!
//! Which calls are final is decided in one place, `disk/latch.rs`. A refused attempt leaves no trace that the next one, or
//! recovery, could trip over: the incarnation is drawn once for each open, so whichever HISTORY and whichever segment an
//! attempt has left belong together; a new segment without a durable name is removed.
//!
//! A background thread that panics is a failure too: its last act is [`Shared::poison_by_panic`] (`words/guard.rs`).

use super::flush::HandOn;
use super::positions::OutOfOrder;
use super::shared::{Core, Shared};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::guard::Panicked;
use crate::words::plant::planted;
use crate::words::types::Lsn;

/// The log is poisoned; the cause is in [`Shared::poisoned`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stopped;

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

impl Shared {
    /// Stops the log for good; the first cause stays. Whoever calls this tells the others as soon as it holds no
    /// right and no lock ([`Shared::tell_of_poison`]).
    pub(crate) fn stop(&self, cause: Error) -> Stopped {
        self.stop_holding(&mut self.core.lock(), cause)
    }

    /// [`Shared::stop`] for who holds the append lock: no commit gets a place that the range does not tell of.
    pub(crate) fn stop_holding(&self, core: &mut Core, cause: Error) -> Stopped {
        if planted!("forget-the-failure") {
            return Stopped;
        }
        core.stopped = true;
        let _ = self.poison.set(Poisoned {
            cause,
            durable: Lsn::new(self.positions.durable()),
            appended: Lsn::new(self.positions.appended()),
        });
        Stopped
    }

    /// The last act of a background thread that has panicked: nobody must wait for what it does no more.
    pub(crate) fn poison_by_panic(&self, thread: &str, panicked: &Panicked) {
        let message = format!("the thread {thread} panicked: {}", panicked.message);
        self.stop(Error::new(ErrorKind::Io, message));
        self.tell_of_poison();
    }

    /// Gives everybody who waits for the poisoned log a verdict.
    pub(crate) fn tell_of_poison(&self) {
        self.room.notify_all();
        self.background.notify_all();
        self.wake_served(HandOn::Nothing);
    }

    pub(crate) fn poisoned(&self) -> Option<&Poisoned> {
        self.poison.get()
    }

    /// The error for a commit that asks for something the poisoned log does no more.
    pub(crate) fn refuse_if_poisoned(&self, lsn: u64) -> Result<()> {
        match self.poisoned() {
            None => Ok(()),
            Some(_) => self.verdict_on(lsn),
        }
    }

    /// Right before each write and fsync: another thread may have failed since this one was let in.
    pub(crate) fn stop_if_poisoned(&self) -> std::result::Result<(), Stopped> {
        if self.poisoned().is_some() { Err(Stopped) } else { Ok(()) }
    }

    /// What a commit at `lsn` is told when it is not waited for any longer.
    pub(crate) fn verdict_on(&self, lsn: u64) -> Result<()> {
        match self.poisoned() {
            _ if self.positions.durable() >= lsn => Ok(()),
            Some(poison) => Err(Error::new(
                ErrorKind::Indeterminate,
                format!(
                    "the commit at LSN {} was in flight when the log failed: reopen and ask for its outcome",
                    Lsn::new(lsn)
                ),
            )
            .with_token(self.incarnations.token(Lsn::new(lsn)))
            .with_source(poison.cause.clone())),
            None => Err(Error::new(ErrorKind::Closed, "the log was closed")),
        }
    }

    /// The error for new commits.
    pub(crate) fn refusal(&self) -> Error {
        match self.poisoned() {
            Some(poison) => {
                let message = if poison.cause.kind() == ErrorKind::Internal {
                    "the log stopped and no more commits are taken: close and reopen"
                } else {
                    "an earlier write or fsync failed and no more commits are taken: close, check the disk, reopen"
                };
                Error::new(ErrorKind::Poisoned, message).with_source(poison.cause.clone())
            }
            None => Error::new(ErrorKind::Closed, "the database was closed: open it again"),
        }
    }
}
