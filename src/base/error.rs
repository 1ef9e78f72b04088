//! The error type of the crate. Its kind tells the caller what to do next.

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

/// What went wrong, for a caller that must decide what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or option is impossible: correct the call. Nothing was done.
    InvalidInput,
    /// Another transaction changed what this one read: run it again. Nothing was done.
    Conflict,
    /// The call would have had to wait, and the caller asked it not to. Nothing was done.
    WouldBlock,
    /// The time allowed ran out. If [`Error::token`] is set, the commit took its place in the log and is visible, and
    /// only its durability is pending; otherwise nothing was done.
    TimedOut,
    /// Another process, or another handle in this one, has the database open. A child that was forked from such a
    /// process has the lock's file open as well: if its parent is killed, the child holds the lock until it ends or
    /// calls exec. A parent that closes the database releases the lock for both.
    Locked,
    /// A file of the open database to which it writes, or the whole directory, was removed, moved, replaced or cut by
    /// another program. The engine takes no more commits, and of those since then none may be there. Close, look at the
    /// directory, restore or reopen.
    Removed,
    /// The path is not a forelog database, or cannot become one.
    NotADatabase,
    /// Written by a newer version, or with a feature that this version does not know: use a newer forelog.
    Unsupported,
    /// Data that was once durable has changed or is gone: see [`Error::damage`]. Not a byte was changed.
    Damaged,
    /// The disk is full, or has no more room than a checkpoint may need, which can give some back. Nothing was done; free
    /// some space, or make a checkpoint, and try again: nothing has to be reopened.
    DiskFull,
    /// The operating system refused: see [`Error::io_error`]. From a commit: nothing was done, the log goes on, and the
    /// commit can be tried again. From a read: the state of the data is unknown, so it is not called damaged, and not a
    /// byte was changed.
    Io,
    /// A write or fsync failed, before or just now. The engine takes no more commits, and nothing of this one was done.
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
    /// A key or value is none of the type that the program gave its keyspace (`forelog::typed`): it was written with another one.
    /// Nothing is wrong with the data.
    WrongType,
    /// A bug of forelog, or a panic inside it (of a disk of your own, for example), and not a failure of the operating
    /// system or the medium: close, reopen, and please report the text. Nothing on disk is wrong because of it.
    Internal,
}

#[cfg(test)]
impl ErrorKind {
    /// All kinds. If one is missing here, this does not compile.
    pub(crate) const ALL: [ErrorKind; 20] = {
        use ErrorKind::*;
        match InvalidInput {
            InvalidInput | Conflict | WouldBlock | TimedOut | Locked | NotADatabase | Unsupported | Damaged => {}
            DiskFull | Io | Poisoned | Indeterminate | Closed | Forked | NoSuchKeyspace | KeyspaceDropped => {}
            Retired | WrongType | Removed | Internal => {}
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
            WrongType,
            Removed,
            Internal,
        ]
    };
}

/// The kind of a damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum DamageCause {
    /// A frame that was durable did not land, or reads as if it had not.
    Unlanded,
    /// A frame landed whole and changed afterwards.
    Rotten,
    /// Checksums match, but the fields are impossible.
    Impossible,
    /// The operating system reported an error for the read, so the state of the data is unknown. Reported by a scrub,
    /// which goes on; an open, a scan and `verify` return it as [`ErrorKind::Io`].
    Unreadable,
    /// A required segment is not there.
    MissingSegment,
    /// A segment does not have its required length.
    WrongLength,
    /// A segment's header fails its check.
    BadHeader,
    /// The HISTORY file fails its check, or is older than the log beside it.
    BadHistory,
    /// A file of the tables fails its check, or breaks a rule of their format.
    BadTable,
    /// A file of the tables is not there.
    MissingTable,
    /// A file of the tables is of another database or another time, or does not have its length.
    ForeignTable,
    /// A file of the tables says that a range of keys could not be read when it was written. The file that had them is
    /// kept apart: `forelog dump` of MANIFEST names it.
    Lost,
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
            DamageCause::BadHeader => "a segment's header fails its check",
            DamageCause::BadHistory => "HISTORY fails its check, or is older than the log beside it",
            DamageCause::BadTable => "a part of the file fails its check, or breaks a rule of the format",
            DamageCause::MissingTable => "the file is missing",
            DamageCause::ForeignTable => "the file is of another database or time than the files beside it",
            DamageCause::Lost => "keys of a range could not be read when they were merged",
        })
    }
}

/// Where and how the database is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The position in the log, where it is known; otherwise the position of the file's begin.
    pub lsn: Lsn,
    /// Where in the file, in bytes, for a file of the tables, which no position in the log leads to.
    pub offset: Option<u64>,
    /// Its cause.
    pub cause: DamageCause,
}

/// An error: a kind for the program, a text for people, and the cause if there is one. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    damage: Option<Damage>,
    /// Of an error of the operating system.
    file: Option<PathBuf>,
    token: Option<Token>,
    /// Files of the database are of different moments.
    is_mixed: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            damage: None,
            file: None,
            token: None,
            is_mixed: false,
            source: None,
        }))
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// The error of a handle that crossed `fork()`.
    pub(crate) fn forked() -> Self {
        Error::new(
            ErrorKind::Forked,
            "this handle was opened before fork() and belongs to the parent: open the database in the child",
        )
    }

    /// The error of a call after a close.
    pub(crate) fn closed() -> Self {
        Error::new(ErrorKind::Closed, "the database was closed: open it again")
    }

    /// An error that only a bug, or a panic inside forelog, can bring about.
    pub(crate) fn bug(what: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Internal, format!("bug in forelog: {what}. Close it, reopen it, and please report this"))
    }

    /// An operating-system error while doing `what` to `path`.
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let kind = match &source {
            _ if is_disk_full(&source) => ErrorKind::DiskFull,
            _ if source.get_ref().is_some_and(|inner| inner.is::<GoneSince>()) => ErrorKind::Removed,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot {what} {}", path.display())).of_system(source).about(path)
    }

    pub(crate) fn damaged(file: &Path, lsn: Lsn, cause: DamageCause) -> Self {
        let message = format!(
            "{} is damaged at LSN {lsn}: {cause}. Nothing was changed. `forelog verify` shows what an open would find; \
             then restore a copy, or let `forelog salvage` save what is whole into a new database",
            file.display()
        );
        Error::new(ErrorKind::Damaged, message).with_damage(Damage { file: file.to_owned(), lsn, offset: None, cause })
    }

    /// Damage in a file of the tables, at byte `offset` of it.
    pub(crate) fn bad_table(file: &Path, offset: u64) -> Self {
        let cause = DamageCause::BadTable;
        let message = format!(
            "{} is damaged at byte {offset}: {cause}. Nothing was changed. Restore a copy of the database, or let \
             `forelog salvage` save what is whole into a new one",
            file.display()
        );
        Error::damaged_table(file, Some(offset), cause, message)
    }

    fn damaged_table(file: &Path, offset: Option<u64>, cause: DamageCause, message: String) -> Self {
        let damage = Damage { file: file.to_owned(), lsn: Lsn::ZERO, offset, cause };
        Error::new(ErrorKind::Damaged, message).with_damage(damage)
    }

    /// For a reader who comes to keys that were lost in a merge. What says so is at byte `offset` of a file of the tables.
    pub(crate) fn lost(file: &Path, offset: u64) -> Self {
        let cause = DamageCause::Lost;
        let message = format!(
            "{} says at byte {offset}: {cause}. All other keys can be read, and those of the range can be written again or \
             deleted as a range. Restore a copy of the database, or let `forelog salvage` save what is whole into a new one",
            file.display()
        );
        Error::damaged_table(file, Some(offset), cause, message)
    }

    /// A file of the tables that is missing, or does not belong to the others.
    pub(crate) fn bad_file(file: &Path, cause: DamageCause) -> Self {
        Error::bad_file_with(
            file,
            cause,
            "Restore all files of the database together, from one copy, or let `forelog salvage` save what is whole into \
             a new one",
        )
    }

    /// The same, with another next step.
    pub(crate) fn bad_file_with(file: &Path, cause: DamageCause, next: &str) -> Self {
        let message = format!("{}: {cause}. Nothing was changed. {next}", file.display());
        Error::damaged_table(file, None, cause, message)
    }

    /// A failure to read `file` at `lsn`, or to open it for that read. Only a file that is too short says something
    /// about the data; after an error of the operating system the state of the data is unknown.
    pub(crate) fn unreadable(file: &Path, lsn: Lsn, source: io::Error) -> Self {
        if is_end_of_file(&source) {
            return Error::damaged(file, lsn, DamageCause::WrongLength).with_source(source);
        }
        let message = format!(
            "cannot read {} at LSN {lsn}. Nothing was changed. The state of the data is unknown: check the disk, the \
             mount and the permissions, and try again",
            file.display()
        );
        Error::new(ErrorKind::Io, message).of_system(source).about(file)
    }

    /// With an error of the operating system, and what to do about it where that is known.
    fn of_system(self, source: io::Error) -> Self {
        let error = match next_step(&source) {
            Some(step) => self.adding(step),
            None => self,
        };
        error.with_source(source)
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner().source = Some(Arc::new(source));
        self
    }

    fn about(mut self, file: &Path) -> Self {
        self.inner().file = Some(file.to_owned());
        self
    }

    fn with_damage(mut self, damage: Damage) -> Self {
        self.inner().damage = Some(damage);
        self
    }

    pub(crate) fn with_token(mut self, token: Token) -> Self {
        self.inner().token = Some(token);
        self
    }

    /// Adds a sentence for people.
    pub(crate) fn adding(mut self, sentence: impl fmt::Display) -> Self {
        let message = &mut self.inner().message;
        message.push_str(&format!(". {sentence}"));
        self
    }

    /// The reason for this error: `proof` says that files of the database in `dir` are of different moments.
    pub(crate) fn of_mixed_files(mut self, dir: &Path, proof: impl fmt::Display) -> Self {
        let inner = self.inner();
        inner.is_mixed = true;
        inner.message = format!(
            "the files in {} are of different moments: {proof}. No crash leaves that, and no damage to a file. The directory was \
             copied while a program had it open, or a file was put into it from an older copy. `Engine::backup` copies an open \
             database, and `forelog backup` a closed one: copy it anew. What the open met is: {}",
            dir.display(),
            inner.message
        );
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// The kind, by which the caller decides what to do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where the damage is, if the kind is [`ErrorKind::Damaged`].
    pub fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    /// The file or directory that the error is about: what is damaged, or what the operating system refused. `None` if it is about
    /// none, or if the cause is another error.
    pub fn file(&self) -> Option<&Path> {
        self.0.damage.as_ref().map(|damage| &*damage.file).or(self.0.file.as_deref())
    }

    /// Whether the files of the database prove to be of different moments: the directory was copied while a program had it
    /// open, or an older file was put into it. The kind is [`ErrorKind::Damaged`]. `false` proves nothing. Make copies by
    /// [`Engine::backup`](crate::Engine::backup).
    pub fn is_of_mixed_files(&self) -> bool {
        self.0.is_mixed
    }

    /// The error of the operating system, if that is the cause.
    ///
    /// Its text is part of this error's own text, so it is not the [`source`](std::error::Error::source).
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
    /// [`Conflict`](ErrorKind::Conflict) with the transaction run again; after [`WouldBlock`](ErrorKind::WouldBlock)
    /// and [`TimedOut`](ErrorKind::TimedOut) without a token in a moment; after [`DiskFull`](ErrorKind::DiskFull) with
    /// space; after [`Io`](ErrorKind::Io) once the operating system grants what it refused. Never if there is a
    /// [`token`](Error::token): then the commit is in the log, or may be.
    pub fn is_retryable(&self) -> bool {
        use ErrorKind::{Conflict, DiskFull, Io, TimedOut, WouldBlock};
        self.0.token.is_none() && matches!(self.0.kind, Conflict | WouldBlock | TimedOut | DiskFull | Io)
    }
}

/// A file was there when a database was read, and is not any more.
#[derive(Debug)]
pub(crate) struct GoneSince;

impl fmt::Display for GoneSince {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "it was removed or replaced since the database was looked at, and had not been kept open, for want of open files: \
             read the database again, and raise that limit (ulimit -n) if this goes on",
        )
    }
}

impl std::error::Error for GoneSince {}

/// Whether an operating-system error means that there was no room for new data.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// What to do about an operating-system error that says that there is no more of something.
fn next_step(error: &io::Error) -> Option<&'static str> {
    if is_short_of_files(error) {
        return Some("Raise the limit of open files (ulimit -n), or have fewer open");
    }
    match error.kind() {
        io::ErrorKind::FileTooLarge => Some("Raise the limit of the length of files (ulimit -f)"),
        io::ErrorKind::StorageFull => Some("Make room on that disk"),
        io::ErrorKind::QuotaExceeded => Some("Make room within the quota, or raise it"),
        io::ErrorKind::OutOfMemory => Some("Raise the limits of memory (ulimit -v, or of a control group)"),
        // Of all calls only the start of a thread is refused like this.
        io::ErrorKind::WouldBlock => Some("Raise the limits of threads and memory (ulimit -u, ulimit -v)"),
        _ => None,
    }
}

/// Whether a process, or the system, has as many files open as it may.
pub(crate) fn is_short_of_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Whether a read ended early because the file ends: a finding of this crate, not an error of the operating system.
pub(crate) fn is_end_of_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof && error.raw_os_error().is_none()
}

/// Whether a failed read proves that the medium does not have the data that was written, or that there is no such file:
/// another read later would not help.
pub(crate) fn is_the_mediums(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EISDIR: i32 = 21;
    /// ENODATA, EBADMSG, EUCLEAN and EREMOTEIO: a device or a file system found a wrong checksum.
    const LINUX: [i32; 4] = [61, 74, 117, 121];
    match error.raw_os_error() {
        Some(code) => cfg!(unix) && [EIO, EISDIR].contains(&code) || cfg!(target_os = "linux") && LINUX.contains(&code),
        // Found without a call: there is a directory or a pipe under the name of a file.
        None => matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory),
    }
}

/// Whether the bytes of a file, and not the way to them, are the reason for this error.
pub(crate) fn is_rot(error: &Error) -> bool {
    error.damage().is_some() || error.io_error().is_some_and(is_the_mediums)
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
    /// The cause of the cause: [`fmt::Display`] prints the direct cause itself. So a program that prints the error
    /// alone shows the cause, and one that prints the whole chain shows it once.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref()?.source()
    }
}
