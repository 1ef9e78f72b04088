//! Reading a database that a writer may change meanwhile: "A reader beside a writer" in `disk/LOCK.md`, of which this is B2,
//! B7 and B8.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use super::directory::{is_missing, read_history};
use super::unless_unlocked;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::LogId;
use crate::disk::{Access, Dir, DirHandle, DiskFile, Keep, KeptOpen, share_of_files};
use crate::format::history::{self, Entry, History};
use crate::format::segment::base_of;
use crate::format::table::{self, FileKind, manifest, number_of};
use crate::log::log_dir::LogDir;

/// How often all is read, before the writer is found to be too quick.
const TRIES: usize = 16;

/// What one reading has found.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) answer: T,
    pub(crate) history: History,
    /// The answer counts only if HISTORY or MANIFEST was replaced meanwhile. Otherwise this does.
    pub(crate) doubt: Option<Error>,
}

/// A directory, with files that stay open.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) handle: Arc<DirHandle>,
    files: KeptOpen,
}

impl View {
    pub(crate) fn of(handle: &DirHandle) -> Self {
        let files = KeptOpen::new(handle.dir().clone(), keep, share_of_files(4, 1 << 14));
        View { handle: Arc::new(handle.viewed_as(Arc::new(files.clone()))), files }
    }

    /// Of the files, only runs are still to be read.
    pub(crate) fn keep_runs(&self) {
        let is_run = |(_, kind)| kind == FileKind::Run;
        self.files.let_go(|name| name.to_str().and_then(number_of).is_some_and(is_run));
    }
}

/// Calls `read` with a view of the directory until it has an answer, or a refusal, that is the directory's at one instant.
///
/// # Errors
/// Those of `read`; [`ErrorKind::Removed`] if the database was removed or replaced meanwhile; [`ErrorKind::WouldBlock`] if
/// the writer changed it each time before it was read.
pub(crate) fn read_beside<T>(handle: &Arc<DirHandle>, mut read: impl FnMut(&View) -> Result<Read<T>>) -> Result<T> {
    let mut refused = None;
    for _ in 0..TRIES {
        let before = Heads::read(handle);
        let read = read(&View::of(handle));
        let after = Heads::read(handle);
        let error = match read {
            Ok(Read { doubt: Some(doubt), .. }) if before == after => doubt,
            Ok(Read { answer, history, .. }) => {
                check_goes_on(handle, &history)?;
                return Ok(answer);
            }
            Err(error) => error,
        };
        if after.is_of_another_than(&before) {
            return Err(removed(handle, "it was removed, or another one was put in its place").with_source(error));
        }
        if before == after {
            return Err(unless_unlocked(handle, error));
        }
        refused = Some(error);
    }
    let message = format!(
        "{} was read {TRIES} times, and each time the program that has it open changed its files before they were read: \
         try again",
        handle.path().display()
    );
    let error = Error::new(ErrorKind::WouldBlock, message);
    Err(match refused {
        Some(last) => error.with_source(last),
        None => error,
    })
}

/// Segments, of which there are few and which go soon, before runs and lists of keyspaces.
fn keep(name: &OsStr) -> Keep {
    match name.to_str() {
        Some(name) if base_of(name).is_some() => Keep::First,
        Some(name) if number_of(name).is_some() => Keep::IfRoom,
        _ => Keep::Never,
    }
}

/// Of each file: magic, checksum of all the rest, the fields that all versions have, and the log's id.
const HEAD: usize = history::HEADER;

/// The first bytes of HISTORY and MANIFEST, which tell each of their versions from all others.
#[derive(PartialEq, Eq, Debug)]
struct Heads {
    history: Head,
    manifest: Head,
}

#[derive(PartialEq, Eq, Debug)]
enum Head {
    Is(Vec<u8>),
    Missing,
    /// The operating system does not give it. Then it says nothing, and the refusal is the answer.
    Unknown,
}

impl Heads {
    fn read(handle: &DirHandle) -> Self {
        let dir = handle.dir();
        let history = Head::of(dir.open(history::FILE_NAME.as_ref(), Access::Read));
        let tables = dir.child(table::DIRECTORY.as_ref(), Access::Read);
        let manifest = Head::of(tables.and_then(|tables| tables.open(manifest::FILE_NAME.as_ref(), Access::Read)));
        Heads { history, manifest }
    }

    /// Whether there was a HISTORY, and there is none now, or that of another log.
    fn is_of_another_than(&self, before: &Heads) -> bool {
        let id = |head: &Head| match head {
            Head::Is(bytes) => bytes.get(history::LOG_ID..history::LOG_ID + size_of::<LogId>()).map(<[u8]>::to_vec),
            _ => None,
        };
        let (was, is) = (id(&before.history), id(&self.history));
        was.is_some() && (self.history == Head::Missing || is.is_some_and(|is| Some(is) != was))
    }
}

impl Head {
    fn of(opened: io::Result<Arc<dyn DiskFile>>) -> Self {
        let read = || {
            let (file, mut bytes, mut length) = (opened?, vec![0; HEAD], 0);
            while length < HEAD {
                match file.read_at(&mut bytes[length..], length as u64)? {
                    0 => break,
                    more => length += more,
                }
            }
            bytes.truncate(length);
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Head::Is(bytes),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Head::Missing
            }
            Err::<_, io::Error>(_) => Head::Unknown,
        }
    }
}

/// Refuses an answer if HISTORY does not go on from the one that was read (B8).
fn check_goes_on(handle: &Arc<DirHandle>, was: &History) -> Result<()> {
    match read_history(&LogDir::new(Arc::clone(handle))) {
        Ok(is) if goes_on(was, &is) => Ok(()),
        Ok(_) => Err(removed(handle, "it was replaced by that of another time, or by another one")),
        Err(error) if is_missing(&error) => Err(removed(handle, "it was removed").with_source(error)),
        Err(error) => Err(error),
    }
}

fn goes_on(was: &History, is: &History) -> bool {
    let still = |entry: &Entry| {
        let index = entry.incarnation.number.checked_sub(is.first_number).and_then(|index| usize::try_from(index).ok());
        match index {
            Some(index) => is.entries.get(index).is_some_and(|now| {
                (now.incarnation, now.begin) == (entry.incarnation, entry.begin)
                    && (entry.end.is_none() || now.end == entry.end)
            }),
            // It was pruned.
            None => true,
        }
    };
    is.log_id == was.log_id && is.next_number() >= was.next_number() && was.entries.iter().all(still)
}

fn removed(handle: &DirHandle, what: &str) -> Error {
    let message = format!(
        "the database in {} changed while it was read: {what}. See what is there, and read it again",
        handle.path().display()
    );
    Error::new(ErrorKind::Removed, message)
}
