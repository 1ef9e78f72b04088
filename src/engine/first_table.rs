//! Where `table/` comes from: step 2 of `table/FAULTS.md`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::disk::{Access, Dir, DirHandle};
use crate::format::table::manifest::{FILE_NAME, Manifest, TEMPORARY_NAME};
use crate::format::table::{DIRECTORY, OLD_DIRECTORY, number_of};
use crate::log::LogInner;
use crate::table::dir::{open_to_read, read};
use crate::table::gate::Gate;
use crate::table::list::magic;

/// Makes `table/` anew, and its name durable. What is there under that name has no MANIFEST, and goes.
///
/// # Errors
/// [`ErrorKind::Io`] with the entry if something there is not ours: then nothing was changed. And as of any change of the
/// database's directory: after a rename or a sync that is final the log has stopped.
pub(super) fn make(log: &LogInner, gate: &Gate) -> Result<Arc<dyn Dir>> {
    log.check_ours(|| Ok(()))?;
    let place = Place { handle: log.handle(), gate };
    let old = place.look(OLD_DIRECTORY)?;
    let found = place.look(DIRECTORY)?;
    place.replace(found, old).map_err(|error| log.note_change(error))
}

/// The directory of a database, and the right to change it.
#[derive(Clone, Copy)]
struct Place<'a> {
    handle: &'a DirHandle,
    gate: &'a Gate,
}

/// A directory with files of ours alone.
struct Found {
    dir: Arc<dyn Dir>,
    names: Vec<OsString>,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.handle.path_of(OsStr::new(name))
    }

    /// What is there under this name.
    ///
    /// # Errors
    /// It is no directory, or holds what is not ours.
    fn look(&self, name: &str) -> Result<Option<Found>> {
        let path = self.path(name);
        if !self.handle.list()?.iter().any(|there| *there == *name) {
            return Ok(None);
        }
        if !is_directory(self.handle.dir(), OsStr::new(name)) {
            return Err(foreign(&path));
        }
        let dir = read(|| self.handle.dir().child(OsStr::new(name), Access::Read))
            .map_err(|error| Error::io("open the directory", &path, error))?;
        let names = read(|| dir.list()).map_err(|error| Error::io("list", &path, error))?;
        for file in &names {
            let path = path.join(file);
            let is_ours = match file.to_str() {
                Some(FILE_NAME) if name == OLD_DIRECTORY => is_manifest(&*dir, &path)?,
                // It was there when the database was opened, and is another's, or it came since.
                Some(FILE_NAME) | None => false,
                Some(file) => file == TEMPORARY_NAME || number_of(file).is_some(),
            };
            if !is_ours || is_directory(&*dir, file) {
                return Err(foreign(&path));
            }
        }
        Ok(Some(Found { dir, names }))
    }

    /// Makes `table/` in place of what was found. Nothing is removed from a directory that the medium may have as `table`:
    /// there it may have a MANIFEST, which would return beside removed runs.
    fn replace(&self, found: Option<Found>, mut old: Option<Found>) -> Result<Arc<dyn Dir>> {
        match found {
            None => {}
            // The medium may have what is called table.old here under this name.
            Some(found) if found.names.is_empty() => self.remove_empty(DIRECTORY)?,
            Some(found) => {
                // Files come into `table/` once its name is durable: the medium has no other directory of that name.
                if let Some(old) = old.take() {
                    self.remove_old(&old)?;
                }
                self.rename_away()?;
                old = Some(found);
            }
        }
        let made = self.gate.pass_again(|| self.handle.dir().child(OsStr::new(DIRECTORY), Access::Create))?;
        let made = made.map_err(|error| Error::io("create the directory", &self.path(DIRECTORY), error))?;
        let synced = self.gate.pass(|| self.handle.dir().sync())?;
        synced.map_err(|error| Error::io("sync directory", self.handle.path(), error))?;
        if let Some(old) = old {
            self.remove_old(&old)?;
        }
        Ok(made)
    }

    fn rename_away(&self) -> Result<()> {
        let (from, to) = (OsStr::new(DIRECTORY), OsStr::new(OLD_DIRECTORY));
        let renamed = self.gate.pass(|| self.handle.dir().rename_child(from, to))?;
        renamed.map_err(|error| Error::io("rename away", &self.path(DIRECTORY), error))
    }

    /// Removes `table.old` and the files in it. One that a crash leaves, or a failure, goes with the next attempt: no
    /// MANIFEST is made before.
    fn remove_old(&self, old: &Found) -> Result<()> {
        for name in &old.names {
            match self.gate.pass_again(|| old.dir.remove(name))? {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &self.path(OLD_DIRECTORY).join(name), error));
                }
                _ => {}
            }
        }
        self.remove_empty(OLD_DIRECTORY)
    }

    fn remove_empty(&self, name: &str) -> Result<()> {
        match self.gate.pass_again(|| self.handle.dir().remove_child(OsStr::new(name)))? {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove the directory", &self.path(name), error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `name` is a directory itself, and no link to one.
fn is_directory(dir: &dyn Dir, name: &OsStr) -> bool {
    dir.may_replace(name).is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory)
}

/// Whether this is a MANIFEST of ours, whole or not.
fn is_manifest(dir: &dyn Dir, path: &Path) -> Result<bool> {
    match open_to_read(dir, path) {
        Ok(Some(file)) => Ok(magic(&*file, path)? == Some(Manifest::MAGIC)),
        Ok(None) => Ok(true),
        Err(error) if error.damage().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

fn foreign(path: &Path) -> Error {
    let message = format!(
        "{} is not a file of this database and is in the way of its first checkpoint, which has changed nothing: move it out of \
         the database's directory, and ask for the checkpoint again. The database goes on without",
        path.display()
    );
    Error::new(ErrorKind::Io, message).with_source(io::Error::from(io::ErrorKind::AlreadyExists))
}
