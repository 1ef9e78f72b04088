//! What a commit that may give up returns if it does.

use std::fmt;

use super::Transaction;
use crate::words::error::{Error, ErrorKind};
use crate::words::types::Token;

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
