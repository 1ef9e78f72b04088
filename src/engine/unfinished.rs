//! The directory of a copy until it is whole: what may be in it, its mark, and the rename that makes it a database. The steps
//! are those of a copy in `disk/LOCK.md`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::disk::{Access, Claim, Dir, DirHandle, Disk, FileId, LOCK_NAME, is_system_name, write_all_at};
use crate::format::history;
use crate::log::{Marked, UNFINISHED, UNFINISHED_HISTORY, is_of_unfinished, may_go_on};

const TEXT: &[u8] =
    b"This directory is a copy of a forelog database that was not finished, and holds only a part of it.\n\
    While no forelog is making it, delete the directory and make the copy again.\n\
    If there is a file HISTORY, too, the directory holds a whole database, and this file is not part of it: keep the\n\
    directory, move this file out of it, and open the database.\n";
const TEMPORARY: &str = "UNFINISHED.tmp";

/// What the directory of a copy may hold when the copy begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MayHold {
    Nothing,
    /// Or an unfinished copy without a segment, with which a backup goes on.
    Unfinished,
}

/// Completes the locks of a directory that is claimed, and marks it (steps 4 to 7).
///
/// # Errors
/// [`ErrorKind::Locked`](crate::ErrorKind::Locked), and those of [`refuse_if_used`].
pub(super) fn begin(claim: &mut Claim<'_>, may_hold: MayHold) -> Result<()> {
    let handle = claim.handle;
    refuse_used(handle, may_hold).map_err(|error| handle.unless_overtaken(error))?;
    handle.sync_name()?;
    claim.made.keep();
    handle.complete_lock(|| match refuse_used(handle, may_hold) {
        Err(error) if error.io_error().is_some() => Err(error),
        looked => Ok(looked.is_ok()),
    })?;
    if handle.list()?.iter().any(|name| is_of_unfinished(name)) {
        // The one that is there may be in the cache alone.
        return handle.replace(UNFINISHED.as_ref(), TEMPORARY.as_ref(), TEXT).map(drop);
    }
    mark(handle)
}

/// Makes a copy of which all is durable a database (steps 9 and 10). `check` is made before each.
pub(super) fn finish(handle: &DirHandle, check: impl Fn() -> Result<()>) -> Result<()> {
    let dir = handle.dir();
    let (mark, name) = (OsStr::new(UNFINISHED), OsStr::new(history::FILE_NAME));
    handle.check_lock()?;
    check()?;
    // The mark goes first: the other one goes by the rename that makes the copy a database.
    dir.remove(mark).map_err(|error| Error::io("remove", &handle.path_of(mark), error))?;
    handle.sync()?;
    handle.check_lock()?;
    check()?;
    let named = match dir.id_of(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => dir.rename(UNFINISHED_HISTORY.as_ref(), name),
        // Not of this copy: a rename would replace it.
        found => found.and(Err(io::ErrorKind::AlreadyExists.into())),
    };
    named.map_err(|error| Error::io("rename the finished", &handle.path_of(name), error))?;
    handle.sync()?;
    handle.unlock();
    Ok(())
}

/// Marks a directory that is locked and holds nothing as an unfinished copy, durably. If that fails, what is there of the
/// mark stays: it says what the directory is.
fn mark(handle: &DirHandle) -> Result<()> {
    let name = OsStr::new(UNFINISHED);
    let write = || {
        let file = handle.dir().open(name, Access::Create)?;
        write_all_at(&*file, TEXT, 0)?;
        file.sync_all()
    };
    write().map_err(|error| Error::io("write", &handle.path_of(name), error))?;
    handle.sync()
}

/// Refuses a place where something is, before anything is read for the copy, and by a look that keeps no opener out.
/// [`begin`] looks again, under its locks.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput); [`ErrorKind::Locked`](crate::ErrorKind::Locked) if a copy
/// is being made there.
pub(super) fn refuse_if_used(disk: &dyn Disk, to: &Path, may_hold: MayHold) -> Result<()> {
    let handle = match DirHandle::open(disk, to) {
        Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => return Ok(()),
        handle => handle?,
    };
    // Whether its copy is still being made, only the lock tells.
    if handle.list()?.iter().any(|name| is_of_unfinished(name)) {
        handle.lock_for_reading()?;
    }
    refuse_used(&handle, may_hold).map_err(|error| handle.unless_overtaken(error))
}

/// Refuses a directory with more in it than LOCK, what systems put there, and what it may hold.
fn refuse_used(handle: &DirHandle, may_hold: MayHold) -> Result<()> {
    let names = handle.list()?;
    let is_nothing = |name: &&OsString| is_system_name(name) || *name == LOCK_NAME;
    if names.iter().all(|name| is_nothing(&name)) || (may_hold == MayHold::Unfinished && may_go_on(&names)) {
        return Ok(());
    }
    let why = match Marked::of(&names) {
        Some(marked) => marked.describe(handle.path()),
        None => format!("{} is not empty", handle.path().display()),
    };
    Err(Error::invalid_input(format!("{why}. A copy needs a directory that is empty or new")))
}

/// Refuses a place inside the directory that is copied, or in one that it holds, by whatever paths both are known: their
/// engine, or their owner, would find foreign files there.
pub(super) fn refuse_inside(disk: &dyn Disk, to: &Path, from: &DirHandle) -> Result<()> {
    let above = disk.above(to).map_err(|error| Error::io("resolve", to, error))?;
    let is_inside = holds_one_of(from.dir(), &above).map_err(|error| Error::io("list", from.path(), error))?;
    if is_inside {
        return Err(Error::invalid_input(format!(
            "{} is inside {}, which is to be copied: choose a directory outside of it",
            to.display(),
            from.path().display()
        )));
    }
    Ok(())
}

/// How many directories below the one that is copied are looked into: a database makes none.
const LOOKED_INTO: usize = 1000;

/// Whether `dir` is one of these directories, or holds one, which may be mounted elsewhere, too.
fn holds_one_of(dir: &dyn Dir, ids: &[FileId]) -> io::Result<bool> {
    if ids.contains(&dir.id()?) {
        return Ok(true);
    }
    let mut left = LOOKED_INTO;
    let mut below = directories_in(dir, &mut left);
    while let Some(dir) = below.pop() {
        if dir.id().is_ok_and(|id| ids.contains(&id)) {
            return Ok(true);
        }
        below.extend(directories_in(&*dir, &mut left));
    }
    Ok(false)
}

/// The directories in `dir`, at most `left` of them. What cannot be read is passed over.
fn directories_in(dir: &dyn Dir, left: &mut usize) -> Vec<Arc<dyn Dir>> {
    // Not through symbolic links, which lead elsewhere.
    let is_dir =
        |name: &OsString| dir.may_replace(name).is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory);
    let names = dir.list().unwrap_or_default();
    let found = names.iter().filter(|name| is_dir(name)).filter_map(|name| dir.child(name, Access::Read).ok());
    let found: Vec<_> = found.take(*left).collect();
    *left -= found.len();
    found
}
