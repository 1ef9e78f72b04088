//! Fail-stop: after a failed write or fsync on the log, nothing more is written or synced, and everybody is told.

use super::flush::HandOn;
use super::positions::OutOfOrder;
use super::shared::{Core, Shared};
use crate::words::error::{Error, ErrorKind, Result};
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
            .with_token(self.token(Lsn::new(lsn)))
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
