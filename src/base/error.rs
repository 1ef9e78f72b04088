//! One error type, whose kind says what the caller does next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::types::{Lsn, Token};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;

/// What went wrong, as seen by a caller who must decide what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or option cannot be: correct the call. Nothing was done.
    InvalidInput,
    /// Another transaction changed what this one read: run it again. Nothing was done.
    Conflict,
    /// The call would have had to wait, and asked not to. Nothing was done.
    WouldBlock,
    /// The time allowed ran out. If [`Error::token`] is set the commit took its place and is visible, and only its
    /// durability is still pending; otherwise nothing was done.
    TimedOut,
    /// Another process, or another handle in this one, has the database open. A child that was forked from such a
    /// process has the lock's file open as well: if its parent is killed, the lock is the child's until it ends or calls
    /// exec. A parent that closes the database gives the lock up for both.
    Locked,
    /// A file of the open database, or the whole directory, was removed or replaced by someone else. The engine takes no
    /// more commits, and of those since the removal none may be there. Close, see what is there, restore or reopen.
    Removed,
    /// The path holds something that is not a forelog database, or cannot hold one.
    NotADatabase,
    /// Written by a newer version, or with a feature that this version does not know: use a newer forelog.
    Unsupported,
    /// What was once durable has changed or is gone: see [`Error::damage`]. Not a byte was changed.
    Damaged,
    /// The disk is full. Nothing was done; free some space and try again.
    DiskFull,
    /// The operating system refused: see [`Error::io_error`]. From a commit: nothing was done, the log goes on, and the
    /// commit can be tried again. From a read: nothing is known about what is there, so it is not called damaged, and not
    /// a byte was changed.
    Io,
    /// A write or fsync failed, before or just now; the engine takes no more commits, and nothing was done of this one.
    /// Reads go on. Close and reopen.
    Poisoned,
    /// A write or fsync failed while this commit was in flight. Reopen and ask for the outcome of [`Error::token`].
    Indeterminate,
    /// The engine or log was closed.
    Closed,
    /// The handle crossed a `fork()` or a bare `clone(2)`: open the database in the child instead, once the parent has
    /// closed it.
    Forked,
    /// There is no keyspace of that name.
    NoSuchKeyspace,
    /// The keyspace was dropped while the handle was in use.
    KeyspaceDropped,
    /// The position asked for was retired.
    Retired,
    /// A bug of forelog, or a panic inside of it (of a disk of your own, for example), and nothing that the operating
    /// system or the medium did: close, reopen, and please report the text. Nothing on disk is wrong because of it.
    Internal,
}

#[cfg(test)]
impl ErrorKind {
    /// All of them; a kind that is missing here does not compile.
    pub(crate) const ALL: [ErrorKind; 19] = {
        use ErrorKind::*;
        match InvalidInput {
            InvalidInput | Conflict | WouldBlock | TimedOut | Locked | NotADatabase | Unsupported | Damaged => {}
            DiskFull | Io | Poisoned | Indeterminate | Closed | Forked | NoSuchKeyspace | KeyspaceDropped => {}
            Retired | Removed | Internal => {}
        }
        [
            InvalidInput,
            Conflict,
            WouldBlock,
            TimedOut,
            Locked,
            NotADatabase,
            Unsupported,
            Damaged,
            DiskFull,
            Io,
            Poisoned,
            Indeterminate,
            Closed,
            Forked,
            NoSuchKeyspace,
            KeyspaceDropped,
            Retired,
            Removed,
            Internal,
        ]
    };
}

/// What kind of damage was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum DamageCause {
    /// A frame that was durable did not land, or reads as if it had not.
    Unlanded,
    /// A frame landed whole and changed afterwards.
    Rotten,
    /// Checksums match, but the fields cannot be.
    Impossible,
    /// The operating system reported an error for the read, so that what is there is not known. Told by a scrub, which
    /// goes on; an open, a scan and `verify` return it as [`ErrorKind::Io`].
    Unreadable,
    /// A segment that must be there is not.
    MissingSegment,
    /// A segment is not as long as it must be.
    WrongLength,
    /// A segment's header does not check.
    BadHeader,
    /// The HISTORY file does not check, or is older than the log beside it.
    BadHistory,
}

impl fmt::Display for DamageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DamageCause::Unlanded => "a frame that was durable is not there (lost write or truncated data)",
            DamageCause::Rotten => "a frame landed whole and was changed afterwards (bit rot or a misdirected write)",
            DamageCause::Impossible => "checksums match but the fields are impossible",
            DamageCause::Unreadable => "the operating system reported an error for the read",
            DamageCause::MissingSegment => "a segment is missing",
            DamageCause::WrongLength => "a segment has the wrong length",
            DamageCause::BadHeader => "a segment's header does not check",
            DamageCause::BadHistory => "HISTORY does not check, or is older than the log beside it",
        })
    }
}

/// Where and how the database is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The position in the log, where it is known; the file's own start otherwise.
    pub lsn: Lsn,
    /// What is wrong there.
    pub cause: DamageCause,
}

/// An error: a kind to act on, words for people, and the cause where there is one. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    damage: Option<Damage>,
    token: Option<Token>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner { kind, message: message.into(), damage: None, token: None, source: None }))
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// What only a bug, or a panic inside of forelog, can bring about.
    pub(crate) fn bug(what: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Internal, format!("bug in forelog: {what}. Close it, reopen it, and please report this"))
    }

    /// An operating-system error while doing `what` to `path`.
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let kind = if is_disk_full(&source) { ErrorKind::DiskFull } else { ErrorKind::Io };
        Error::new(kind, format!("cannot {what} {}", path.display())).with_source(source)
    }

    pub(crate) fn damaged(file: &Path, lsn: Lsn, cause: DamageCause) -> Self {
        let message = format!(
            "{} is damaged at LSN {lsn}: {cause}. Nothing was changed. `forelog verify` shows what an open would find; \
             then restore a copy, or let `forelog salvage` save what is whole into a new database",
            file.display()
        );
        let mut error = Error::new(ErrorKind::Damaged, message);
        error.inner().damage = Some(Damage { file: file.to_owned(), lsn, cause });
        error
    }

    /// A failure to read `file` at `lsn`, or to open it for that. Only a file that is too short says something about the
    /// data; an error of the operating system leaves open what is there.
    pub(crate) fn unreadable(file: &Path, lsn: Lsn, source: io::Error) -> Self {
        if is_end_of_file(&source) {
            return Error::damaged(file, lsn, DamageCause::WrongLength).with_source(source);
        }
        let message = format!(
            "cannot read {} at LSN {lsn}. Nothing was changed, and what is there is not known: check the disk, the mount \
             and the permissions, and try again",
            file.display()
        );
        Error::new(ErrorKind::Io, message).with_source(source)
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner().source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_token(mut self, token: Token) -> Self {
        self.inner().token = Some(token);
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where the damage is, if the kind is [`ErrorKind::Damaged`].
    pub fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    /// What the operating system said, if that is the cause.
    ///
    /// The text of it is part of this error's own, so it is not its [`source`](std::error::Error::source).
    pub fn io_error(&self) -> Option<&io::Error> {
        let cause: &(dyn std::error::Error + 'static) = &**self.0.source.as_ref()?;
        match cause.downcast_ref::<Error>() {
            Some(inner) => inner.io_error(),
            None => cause.downcast_ref(),
        }
    }

    /// The commit that the error is about, if it took its place in the log.
    pub fn token(&self) -> Option<Token> {
        self.0.token
    }

    /// Whether nothing was done and the same call on the same handle may succeed later: after
    /// [`Conflict`](ErrorKind::Conflict) with the transaction run again, after
    /// [`WouldBlock`](ErrorKind::WouldBlock) and [`TimedOut`](ErrorKind::TimedOut) without a token in a moment, after
    /// [`DiskFull`](ErrorKind::DiskFull) with space, after [`Io`](ErrorKind::Io) once the operating system gives what it
    /// refused. Never if there is a [`token`](Error::token): then the commit is in the log, or may be.
    pub fn is_retryable(&self) -> bool {
        use ErrorKind::{Conflict, DiskFull, Io, TimedOut, WouldBlock};
        self.0.token.is_none() && matches!(self.0.kind, Conflict | WouldBlock | TimedOut | DiskFull | Io)
    }
}

/// Whether an operating-system error means that there was no room for new data.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Whether a read ended before it was through because the file does: our own finding, not the operating system's.
pub(crate) fn is_end_of_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof && error.raw_os_error().is_none()
}

/// Whether a failed read says that the medium does not hold what was written, or that no file is there: asking again
/// later would not help.
pub(crate) fn is_the_mediums(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EISDIR: i32 = 21;
    /// ENODATA, EBADMSG, EUCLEAN and EREMOTEIO: a device or a file system that has found a checksum wrong.
    const LINUX: [i32; 4] = [61, 74, 117, 121];
    match error.raw_os_error() {
        Some(code) => cfg!(unix) && [EIO, EISDIR].contains(&code) || cfg!(target_os = "linux") && LINUX.contains(&code),
        // Found without a call: a directory or a pipe under a file's name.
        None => matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    /// What lies behind the cause: [`fmt::Display`] tells the cause itself, so that a program that prints the error
    /// alone shows it, and one that prints the whole chain shows it once.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref()?.source()
    }
}
