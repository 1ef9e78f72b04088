//! Opening a log, in steps: the directory is claimed by its owner ([`crate::disk::claim`]); then [`read`],
//! [`Found::decide`], [`Decided::settle`]. Only then is anything answered.

pub(crate) mod beside;
pub(crate) mod decide;
pub(crate) mod directory;
pub(crate) mod prior;
mod retained;
pub(crate) mod settle;
pub(crate) mod unfinished;

use std::io;
use std::path::Path;
use std::sync::Arc;

use self::decide::{Recovery, Replay, Verdicts};
use self::directory::{Directory, Files, Look, read_history};
use super::Handle;
use super::incarnations::Incarnations;
use super::inner::LogInner;
use super::log_dir::LogDir;
use super::mark::Slots;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::LogId;
use crate::disk::{Claim, Dir, DirHandle, Disk, IoBackend, LockHeld, no_database};
use crate::format::history::History;
use crate::log::write::append::Appender;
use crate::rt::clock::{self, Moment};
use crate::rt::entropy;
use crate::rt::process;

/// What is there, before anything is decided about it.
pub(crate) struct Found {
    place: LogDir,
    directory: Directory,
    /// The HISTORY that a verdict is founded on, if there was one.
    history: Option<Vec<u8>>,
    started: Moment,
}

/// Reads what is in a directory that is claimed, and creates a log, in memory, if there is none and `create` says so.
pub(crate) fn read(claim: Claim<'_>, create: bool, look: &mut Look<'_>) -> Result<Found> {
    process::watch_forks();
    let started = clock::now();
    let Claim { handle, made } = claim;
    let place = LogDir::new(Arc::clone(handle));
    let mut find = || {
        let found = Directory::load(&place, Files::Still, look)?;
        let history = found.as_ref().map(|directory| directory.history.to_bytes());
        let directory = match found {
            Some(directory) => directory,
            None if create => new_log(&place)?,
            None => return Err(no_database(place.dir())),
        };
        if directory.history.entries.is_empty() {
            place.handle().sync_name()?;
        }
        Ok((directory, history))
    };
    let (directory, history) = find().map_err(|error| handle.unless_overtaken(error))?;
    made.keep();
    Ok(Found { place, directory, history, started })
}

impl Found {
    /// Decides what of it is log, showing each record to `replay`, in order. It writes nothing, so that a refusal leaves
    /// no trace.
    pub(crate) fn decide(self, replay: &mut dyn Replay) -> Result<Decided> {
        let Found { place, directory, history, started } = self;
        let verdicts = decide::decide(&place, directory, Files::Still, replay);
        let verdicts = verdicts.map_err(|error| place.handle().unless_overtaken(error))?;
        Ok(Decided { place, verdicts, history, started })
    }
}

/// A log whose every frame has its verdict, none of which is durable yet.
pub(crate) struct Decided {
    place: LogDir,
    verdicts: Verdicts,
    history: Option<Vec<u8>>,
    started: Moment,
}

impl Decided {
    /// Makes the verdict durable, and opens the log.
    ///
    /// `is_same` says whether the owner's other files are those that were looked at, if another program may have changed them
    /// meanwhile. Once the directory is locked, and before anything is written to the log or removed from it, `before` may write other
    /// files; it is told whether segments are to be removed that are retired. It returns whether they may be, and which
    /// MANIFEST HISTORY is to name.
    pub(crate) fn settle(
        self,
        settings: Settings,
        is_same: impl FnOnce(&History) -> Result<bool>,
        before: impl FnOnce(bool) -> Result<(bool, Option<(u64, u32)>)>,
    ) -> Result<Handle> {
        let Decided { place, mut verdicts, history, started } = self;
        let is_same = || Ok(is_as_read(&place, history.as_ref())? && is_same(&verdicts.history)?);
        place.handle().complete_lock(is_same)?;
        verdicts.retain(&settings.retain);
        let (may_remove, names) = before(verdicts.clean_up.has_retired())?;
        if !may_remove {
            verdicts.clean_up.spare_retired();
        }
        let found = verdicts.history.tables;
        if let (Some(tables), Some(names)) = (&mut verdicts.history.tables, names) {
            tables.names = Some(names);
        }
        let names_another = verdicts.history.tables != found;
        settle::settle(&place, &mut verdicts, names_another)?;
        verdicts.report.lock = place.handle().lock_held();
        verdicts.report.duration = clock::now().since(started);
        Ok(Handle::new(share(place, settings, verdicts)))
    }
}

/// Whether HISTORY is what the verdict is founded on: no other open has come between (rule 4 of `LOCK.md`).
fn is_as_read(place: &LogDir, found: Option<&Vec<u8>>) -> Result<bool> {
    let is_missing = |error: &Error| error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    match read_history(place) {
        Ok(history) => Ok(Some(&history.to_bytes()) == found),
        Err(error) if is_missing(&error) => Ok(found.is_none()),
        Err(error) if error.kind() == ErrorKind::Io => Err(error),
        Err(_) => Ok(false),
    }
}

/// Reads and checks the log in `dir` without changing a byte, showing each record to `replay`, and says whether an open
/// would succeed.
pub(crate) fn verify(disk: &dyn Disk, dir: &Path, look: &mut Look<'_>, replay: &mut dyn Replay) -> Result<Recovery> {
    let started = clock::now();
    let place = LogDir::new(Arc::new(DirHandle::open(disk, dir)?));
    place.handle().lock_for_reading()?;
    let verdicts = load_existing(&place, Files::Still, look)
        .and_then(|directory| decide::decide(&place, directory, Files::Still, replay));
    let verdicts = verdicts.map_err(|error| unless_unlocked(place.handle(), error))?;
    let (obstacle, commit_obstacle) = obstacles(&place, &verdicts);
    Ok(Recovery { obstacle, commit_obstacle, ..account(place.handle(), verdicts.report, started) })
}

/// Why an open would fail that goes on from these verdicts, or else the first commit after it.
pub(crate) fn obstacles(place: &LogDir, verdicts: &Verdicts) -> (Option<Error>, Option<Error>) {
    match place.handle().would_lock().and_then(|()| settle::would_settle(place, verdicts)) {
        Ok(()) => (None, settle::would_begin(place, verdicts).err()),
        Err(error) => (Some(error), None),
    }
}

/// The account of a look at a log.
pub(crate) fn account(handle: &DirHandle, mut report: Recovery, started: Moment) -> Recovery {
    report.lock = handle.lock_held();
    if report.lock == LockHeld::Beside {
        // It goes on: what lies above is not lost.
        (report.crashed, report.dropped_frames, report.dropped_bytes) = (None, 0, 0);
    }
    Recovery { duration: clock::now().since(started), ..report }
}

/// An error of a reader, which may be no fault of the log if a writer may have changed it meanwhile.
pub(crate) fn unless_unlocked(handle: &DirHandle, error: Error) -> Error {
    let error = handle.unless_overtaken(error);
    match handle.lock_held() {
        how @ LockHeld::Not { .. } if error.kind() != ErrorKind::Locked => {
            error.adding(format_args!("It was {how}; if it is open in a program, try again when it is closed"))
        }
        _ => error,
    }
}

/// Reads the directory of a log that must be there.
pub(crate) fn load_existing(place: &LogDir, files: Files, look: &mut Look<'_>) -> Result<Directory> {
    Directory::load(place, files, look)?.ok_or_else(|| no_database(place.dir()))
}

/// A new log. Its HISTORY becomes durable with the verdict, before anything else (specification, section 2.4).
fn new_log(place: &LogDir) -> Result<Directory> {
    let id = entropy::bytes().map_err(|error| Error::io("draw random numbers for", place.dir(), error))?;
    let history = History::new(LogId(id));
    let mark = Slots::default();
    let (prior, segments, leftovers, retained, temporary) = Default::default();
    Ok(Directory { history, prior, mark, segments, leftovers, retained, has_unread: false, temporary })
}

fn share(place: LogDir, mut settings: Settings, verdicts: Verdicts) -> Arc<LogInner> {
    let Verdicts { history, oldest, catalogue, report, .. } = verdicts;
    // Without it two calls are the better way: the device can be told to begin between them.
    let refused = matches!(place.disk().io(), IoBackend::Calls { why: Some(_) });
    settings.io_uring &= !refused;
    let appender =
        Appender::new(settings, place.clone(), Incarnations::new(history, oldest, catalogue), report.recovered_to);
    LogInner::new(place, appender, report)
}
