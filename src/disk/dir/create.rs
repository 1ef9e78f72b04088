//! Making the directory of a database. Each name is durable before there is anything in the directory.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DirHandle, check_path, not_opened, not_synced};
use crate::base::error::{Error, ErrorKind, Result};
use crate::disk::{Access, Dir, Disk};

/// Directories that this open has made. If it fails before their names are durable, it removes them: after a failed
/// fsync the next fsync proves nothing about a name that exists already (A9), only about a name that is made again. It
/// removes only empty ones, so it never removes what another open put there (rule 6 of `LOCK.md`).
#[derive(Debug, Default)]
pub(crate) struct Made(Vec<(Arc<dyn Dir>, OsString)>);

impl Made {
    /// Makes the directories stay.
    pub(crate) fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (above, name) in self.0.iter().rev() {
            // A directory that cannot be removed stays; this open has failed and reports its error.
            let _ = above.remove_child(name);
        }
    }
}

impl DirHandle {
    /// Opens the directory. If it is missing, makes it and the missing ones above it. The names of those above are
    /// durable then, its own is not: see [`DirHandle::sync_name`].
    pub(crate) fn open_or_make(disk: &dyn Disk, path: &Path) -> Result<(Self, Made)> {
        check_path(path)?;
        let mut made = Made::default();
        let dir = match disk.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(disk, path, &mut made)?,
            dir => dir.map_err(|error| not_opened(path, error))?,
        };
        Ok((DirHandle::new(dir, path), made))
    }
}

/// How often an open begins again because the directory was removed before the open wrote anything.
const TRIES: usize = 8;

/// A directory that is locked for a writer, as far as locking creates nothing.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) handle: &'a Arc<DirHandle>,
    /// [`Made::keep`] is called on it as soon as the directory's name is durable.
    pub(crate) made: &'a mut Made,
}

/// Opens the directory for a writer, makes it if `create` says so, and calls `go_on` for the rest: steps 1 to 3 of
/// `LOCK.md`, and rule 7. `go_on` may be called again if it found that the directory was removed.
///
/// # Errors
/// [`ErrorKind::NotADatabase`], [`ErrorKind::Locked`], and those of `go_on`.
pub(crate) fn claim<T>(
    disk: &dyn Disk,
    path: &Path,
    create: bool,
    mut go_on: impl FnMut(Claim<'_>) -> Result<T>,
) -> Result<T> {
    let mut tries = 1;
    loop {
        let (handle, mut made) =
            if create { DirHandle::open_or_make(disk, path)? } else { (DirHandle::open(disk, path)?, Made::default()) };
        // An open without the lock removes nothing.
        handle.lock_for_writing().inspect_err(|_| made.keep())?;
        let handle = Arc::new(handle);
        // So that it is dropped before the handle: directories are removed while the lock is held.
        let mut made = made;
        match go_on(Claim { handle: &handle, made: &mut made }) {
            Err(error) if error.kind() == ErrorKind::Removed && tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

fn make(disk: &dyn Disk, path: &Path, made: &mut Made) -> Result<Arc<dyn Dir>> {
    let is_missing =
        |path: &&Path| matches!(disk.open_dir(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let missing: Vec<PathBuf> = path
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .take_while(is_missing)
        .map(Path::to_owned)
        .collect();
    let Some(highest) = missing.last() else {
        // Another open has made it since this one looked.
        return disk.open_dir(path).map_err(|error| not_opened(path, error));
    };
    let lowest = highest.parent().unwrap_or(Path::new(""));
    let mut dir = disk.open_dir(lowest).map_err(|error| not_opened(lowest, error))?;
    // From the top, each made durable before the next one is made. So if the process is killed in between, at most the
    // lowest name is not durable, and the next open makes it durable before there is anything in that directory.
    if lowest.parent().is_some() {
        sync_name(&*dir, lowest)?;
    }
    for path_here in missing.iter().rev() {
        let failed = |error| Error::io("create the directory", path_here, error);
        // `..` behind a directory that was missing.
        let Some(name) = path_here.file_name() else {
            dir = disk.open_dir(path_here).map_err(failed)?;
            continue;
        };
        let below = match dir.child(name, Access::Create) {
            Ok(below) => {
                made.0.push((Arc::clone(&dir), name.to_owned()));
                below
            }
            // Another open has made it since, and may not have made its name durable.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                dir.child(name, Access::Read).map_err(|error| taken(path_here, error))?
            }
            Err(error) => return Err(failed(error)),
        };
        if path_here != path {
            dir.sync().map_err(|error| not_synced("sync directory", above(path_here), error))?;
        }
        dir = below;
    }
    Ok(dir)
}

/// The error for a name that cannot be made, because it is there, and that cannot be opened.
fn taken(path: &Path, error: io::Error) -> Error {
    if error.kind() != io::ErrorKind::NotFound {
        return not_opened(path, error);
    }
    let message = format!(
        "{} is a symbolic link that leads nowhere: make the directory that it leads to, or remove the link. (If another \
         program made and removed a directory there at the same time, try again)",
        path.display()
    );
    Error::new(ErrorKind::NotADatabase, message).with_source(error)
}

/// Makes a directory's own name durable.
pub(super) fn sync_name(dir: &dyn Dir, path: &Path) -> Result<()> {
    match dir.sync_name() {
        // A directory without permission to read cannot be synced. Then the user who made the directory in it must have
        // made the name durable.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(|error| not_synced("sync directory", above(path), error)),
    }
}

/// The directory above, under the name that the user knows.
fn above(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
