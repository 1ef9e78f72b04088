//! Commits that may give up: their error gives the transaction back.

use std::fmt;
use std::time::Duration;

use super::Transaction;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::{CommitMode, Token};
use crate::log::{Receipt, WaitLimit, refuse_waiting_mode};

/// Why [`Transaction::try_commit_with`] or [`Transaction::commit_timeout`] did not commit, and the transaction, if nothing
/// of it was done.
///
/// `?` turns it into an [`Error`], and drops the transaction.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = forelog::Engine::in_memory()?;
/// # let users = engine.create_keyspace("users")?;
/// use forelog::{CommitMode, ErrorKind};
/// let mut tx = engine.begin()?;
/// tx.put(&users, "alice", "1")?;
/// let receipt = loop {
///     match tx.try_commit_with(CommitMode::Async) {
///         Ok(receipt) => break receipt,
///         Err(refused) if refused.kind() == ErrorKind::WouldBlock => {
///             // Something else could be done here, before it is tried again.
///             let (error, given_back) = refused.into_parts();
///             tx = given_back.ok_or(error)?;
///         }
///         Err(refused) => return Err(refused.into()),
///     }
/// };
/// # receipt.wait()?;
/// # Ok(()) }
/// ```
pub struct TryCommitError {
    error: Error,
    transaction: Option<Box<Transaction>>,
}

/// Commits that may give up.
impl Transaction {
    /// Commits without waiting for the device: neither for room in the loss budget, nor for a log segment, nor for an
    /// fsync. If it cannot be, the error gives the transaction back as it was, to be tried again.
    /// (The first commit after an open prepares the log, which takes some milliseconds, in this mode too.)
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock); [`InvalidInput`](ErrorKind::InvalidInput) for the mode `Sync`; otherwise
    /// as [`Transaction::commit`].
    pub fn try_commit_with(self, mode: CommitMode) -> Result<Receipt, TryCommitError> {
        let committed = refuse_waiting_mode(mode).and_then(|()| self.commit_within(mode, WaitLimit::Never));
        committed.map_err(|error| TryCommitError::new(error, self))
    }

    /// Commits, waiting for at most `time` for room and durability together, also while the device stalls: the
    /// background flusher issues the flush. (A `Written` commit waits for its write call, and the first
    /// commit after an open prepares the log, however long that takes.)
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut): with a token, the commit took its place and is visible, and only its
    /// durability is pending; without one nothing was done, and the error gives the transaction back. Otherwise as
    /// [`Transaction::commit`].
    pub fn commit_timeout(self, mode: CommitMode, time: Duration) -> Result<Receipt, TryCommitError> {
        let committed = self.commit_within(mode, WaitLimit::lasting(time));
        committed.map_err(|error| TryCommitError::new(error, self))
    }
}

impl TryCommitError {
    /// Gives the transaction back, unless the commit took its place in the log.
    pub(super) fn new(error: Error, transaction: Transaction) -> Self {
        let transaction = error.token().is_none().then(|| Box::new(transaction));
        TryCommitError { error, transaction }
    }

    /// The error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The token of the commit, if it took its place in the log: then there is no transaction any more.
    pub fn token(&self) -> Option<Token> {
        self.error.token()
    }

    /// The transaction as it was, if nothing of it was done: to be committed again, in any way.
    pub fn into_transaction(self) -> Option<Transaction> {
        self.into_parts().1
    }

    /// The error, and the transaction as it was, if nothing of it was done.
    pub fn into_parts(self) -> (Error, Option<Transaction>) {
        (self.error, self.transaction.map(|transaction| *transaction))
    }
}

impl From<TryCommitError> for Error {
    fn from(refused: TryCommitError) -> Self {
        refused.error
    }
}

impl fmt::Display for TryCommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for TryCommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl std::error::Error for TryCommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
