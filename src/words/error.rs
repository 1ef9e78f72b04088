//! One error type, whose kind says what the caller does next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::types::{Lsn, Token};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

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
    /// Another process, or another handle in this one, has the database open.
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
    /// The operating system refused, see the source.
    Io,
    /// An earlier write or fsync failed; the engine takes no more commits. Reads go on. Close and reopen.
    Poisoned,
    /// A write or fsync failed while this commit was in flight. Reopen and ask for the outcome of [`Error::token`].
    Indeterminate,
    /// The engine or log was closed.
    Closed,
    /// The handle crossed a `fork()`: open the database in the child instead.
    Forked,
    /// There is no keyspace of that name.
    NoSuchKeyspace,
    /// The keyspace was dropped while the handle was in use.
    KeyspaceDropped,
    /// The position asked for was retired.
    Retired,
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
    /// The operating system reported an error for the read.
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
            DamageCause::Unreadable => "the medium reported a read error",
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

    /// An operating-system error while doing `what` to `path`.
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let kind = if is_disk_full(&source) { ErrorKind::DiskFull } else { ErrorKind::Io };
        Error::new(kind, format!("cannot {what} {}", path.display())).with_source(source)
    }

    pub(crate) fn damaged(file: &Path, lsn: Lsn, cause: DamageCause) -> Self {
        let message = format!(
            "{} is damaged at LSN {lsn}: {cause}. Nothing was changed; restore a copy, or check the medium and try again",
            file.display()
        );
        let mut error = Error::new(ErrorKind::Damaged, message);
        error.inner().damage = Some(Damage { file: file.to_owned(), lsn, cause });
        error
    }

    /// A failure to read `file`, or to open it for that: damage, unless the medium cannot be to blame for it.
    pub(crate) fn unreadable(file: &Path, lsn: Lsn, source: io::Error) -> Self {
        if is_not_the_mediums(&source) {
            Error::io("read", file, source)
        } else {
            Error::damaged(file, lsn, DamageCause::Unreadable).with_source(source)
        }
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

    /// The commit that the error is about, if it took its place in the log.
    pub fn token(&self) -> Option<Token> {
        self.0.token
    }
}

/// Whether an operating-system error means that there was no room for new data.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Whether a failed read says nothing about the medium: restoring a copy would not help.
pub(crate) fn is_not_the_mediums(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let too_many_open = cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE));
    too_many_open || matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory)
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
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
