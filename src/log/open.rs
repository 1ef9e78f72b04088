//! Opening a log: lock, read, decide, settle, and only then answer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::Appender;
use super::directory::{Directory, LOCK_NAME};
use super::incarnations::Incarnations;
use super::inner::LogInner;
use super::mark::Slots;
use super::place::Place;
use super::recover::{self, Recovery, Verdicts, Visitor};
use super::repair;
use crate::disk::{Disk, DiskLock, FailStop, IoBackend};
use crate::format::history::History;
use crate::words::clock;
use crate::words::entropy;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::options::Settings;
use crate::words::process;
use crate::words::types::LogId;

/// Opens the log in `dir`, showing every record to `visit`, in order.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    settings: Settings,
    visit: &mut Visitor<'_>,
) -> Result<Arc<LogInner>> {
    process::watch_forks();
    settings.check()?;
    let started = clock::now();
    // Before the lock, which goes first if this fails.
    let mut made = Made { disk: Arc::clone(&disk), dirs: Vec::new() };
    let place = Place { disk: Arc::new(FailStop::new(disk)), dir: dir.to_owned() };
    prepare_dir(&place, settings.create, &mut made)?;
    let lock = lock(&place)?;
    let directory = match Directory::load(&place)? {
        Some(directory) => directory,
        None if settings.create => create(&place)?,
        None => return Err(no_database(&place.dir)),
    };
    if directory.history.lives.is_empty() {
        make_name_durable(&place, &place.dir)?;
    }
    made.dirs.clear();
    let mut verdicts = recover::decide(&place, directory, visit)?;
    repair::settle(&place, &mut verdicts)?;
    verdicts.report.duration = clock::now().since(started);
    Ok(share(place, settings, verdicts, lock))
}

/// Reads and checks the log in `dir` without changing a byte; `visit` sees every record.
pub(crate) fn verify(disk: Arc<dyn Disk>, dir: &Path, visit: &mut Visitor<'_>) -> Result<Recovery> {
    let started = clock::now();
    let place = Place { disk: Arc::new(FailStop::new(disk)), dir: dir.to_owned() };
    let directory = load_existing(&place)?;
    // Only now: a directory that is no database must not be given a LOCK file.
    let _lock = match lock(&place) {
        Err(error) if error.kind() == ErrorKind::Io => None,
        lock => Some(lock?),
    };
    let verdicts = recover::decide(&place, directory, visit)?;
    Ok(Recovery { duration: clock::now().since(started), ..verdicts.report })
}

/// Reads the directory of a log that must be there.
pub(super) fn load_existing(place: &Place) -> Result<Directory> {
    prepare_dir(place, false, &mut Made { disk: Arc::clone(&place.disk) as Arc<dyn Disk>, dirs: Vec::new() })?;
    Directory::load(place)?.ok_or_else(|| no_database(&place.dir))
}

fn no_database(dir: &Path) -> Error {
    Error::new(ErrorKind::NotADatabase, format!("there is no forelog database in {}", dir.display()))
}

/// Directories that this open has made. They go again if it fails before their names are durable: after a failed fsync
/// the next one proves nothing about a name that is there already (A9), only about one that is made again.
struct Made {
    /// Not behind the latch, which a failed fsync has closed.
    disk: Arc<dyn Disk>,
    dirs: Vec<PathBuf>,
}

impl Drop for Made {
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            // What cannot be removed stays; this open has failed and said so.
            let _ = self.disk.remove(&dir.join(LOCK_NAME));
            let _ = self.disk.remove_dir(dir);
        }
    }
}

/// Makes sure that the directory is there, the names of those above it durable.
fn prepare_dir(place: &Place, create: bool, made: &mut Made) -> Result<()> {
    let dir = &place.dir;
    if dir.as_os_str().is_empty() {
        return Err(Error::invalid_input("the path of the database is empty"));
    }
    match place.disk.list(dir) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_database(dir).with_source(error)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let message = format!("{} is a file: a database is a directory", dir.display());
            return Err(Error::new(ErrorKind::NotADatabase, message));
        }
        Err(error) => return Err(Error::io("open the directory", dir, error)),
    }
    let missing: Vec<PathBuf> = dir
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .take_while(|path| matches!(place.disk.list(path), Err(error) if error.kind() == io::ErrorKind::NotFound))
        .map(Path::to_owned)
        .collect();
    // From the top, each durable before the next one is made: after a process kill in between, the one name that may
    // not be durable is that of the lowest directory there. It is made so before there is anything in it.
    let lowest = missing.last().and_then(|highest| highest.parent());
    if let Some(lowest) = lowest.filter(|path| path.parent().is_some()) {
        make_name_durable(place, lowest)?;
    }
    for path in missing.iter().rev() {
        place.disk.create_dir(path).map_err(|error| Error::io("create the directory", path, error))?;
        made.dirs.push(path.clone());
        if path != dir {
            sync_parent(place, path)?;
        }
    }
    Ok(())
}

/// Makes a directory's own name durable. At every open before the first incarnation: its creation may have been cut
/// off, by the death of that process, before the name was durable, and nothing later makes it so.
fn make_name_durable(place: &Place, dir: &Path) -> Result<()> {
    // What may not be read cannot be synced: then whoever made the directory there answers for its name.
    match place.disk.list(parent_of(dir)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        _ => sync_parent(place, dir),
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_parent(place: &Place, path: &Path) -> Result<()> {
    let parent = parent_of(path);
    place.disk.sync_dir(parent).map_err(|error| Error::io("sync directory", parent, error))
}

pub(super) fn lock(place: &Place) -> Result<Box<dyn DiskLock>> {
    let path = place.path(LOCK_NAME);
    match place.disk.lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::new(
            ErrorKind::Locked,
            format!(
                "{} is open already, in this process or another: close it there first. If that process was killed, a child \
                 that was forked from it may live on and hold the lock: end it",
                place.dir.display()
            ),
        )),
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

/// A new log. Its HISTORY becomes durable with the verdict, before anything else (specification, section 2.4).
fn create(place: &Place) -> Result<Directory> {
    let id = entropy::bytes().map_err(|error| Error::io("draw random numbers for", &place.dir, error))?;
    let history = History::new(LogId(id));
    let mark = Slots::default();
    Ok(Directory { history, mark, segments: Default::default(), leftovers: Vec::new(), temporary: Vec::new() })
}

fn share(place: Place, mut settings: Settings, verdicts: Verdicts, lock: Box<dyn DiskLock>) -> Arc<LogInner> {
    let Verdicts { history, catalogue, report, .. } = verdicts;
    // Without it two calls are the better way: the device can be told to begin between them.
    let refused = matches!(place.disk.io(), IoBackend::Calls { why: Some(_) });
    settings.io_uring &= !refused;
    let appender = Appender::new(settings, Incarnations::new(history, catalogue), report.recovered_to);
    LogInner::new(place, lock, appender, report)
}
