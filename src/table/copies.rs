//! Copies of the files that a MANIFEST names, in a directory that no MANIFEST is in yet (`engine/BACKUP.md`). A file has its name
//! once it is durable and was checked.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::read;
use super::held::HeldStack;
use super::run::read::{Part, Run, read as read_at};
use crate::base::error::{Error, ErrorKind, Result};
use crate::disk::{Access, Dir, write_all_at};
use crate::format::table::data::Interval;
use crate::format::table::manifest::{FILE_NAME, NamedFile, NamedRun, TEMPORARY_NAME};
use crate::format::table::{FileKind, file_name, number_of};

/// Copied at a time.
const PIECE: usize = 1 << 20;

/// Told how many bytes were copied, or need not be. An error of it ends the copy.
pub(crate) type Told<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// The directory of the copies.
#[derive(Debug)]
pub(crate) struct Copies {
    dir: Arc<dyn Dir>,
    path: PathBuf,
}

fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// Reads all of a run. One of which something was lost is no copy to rely on.
fn check(run: &Run) -> Result<()> {
    run.first_lost().map_or(Ok(()), Err)?;
    run.walk(|part| match part {
        Part::Bad(error) => Err(error.clone()),
        _ => Ok(()),
    })
}

impl Copies {
    pub(crate) fn new(dir: Arc<dyn Dir>, path: &Path) -> Self {
        Copies { dir, path: path.to_owned() }
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn io(&self, what: &str, name: &str, error: io::Error) -> Error {
        Error::io(what, &self.path_of(name), error)
    }

    /// The names in it.
    pub(crate) fn names(&self) -> Result<HashSet<String>> {
        let names = read(|| self.dir.list()).map_err(|error| Error::io("list", &self.path, error))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Copies a run of a layer with this interval.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with the original if that is damaged; those of reading and of new files.
    pub(crate) fn copy_run(
        &self,
        original: &HeldStack,
        (named, interval): (&NamedRun, Interval),
        told: &mut Told<'_>,
    ) -> Result<()> {
        let name = file_name(named.file.number, FileKind::Run);
        self.write_copy(original, &name, &named.file, told)?;
        let temporary = temporary(&name);
        let copied = original.open_run_as(&*self.dir, &self.path_of(&temporary), named, interval);
        if let Err(error) = copied.and_then(|run| check(&run)) {
            let _ = self.dir.remove(OsStr::new(&temporary));
            if error.kind() != ErrorKind::Io {
                original.open_run(named, interval).and_then(|run| check(&run))?;
            }
            return Err(error);
        }
        self.rename(&temporary, &name)
    }

    /// Copies the list of keyspaces.
    ///
    /// # Errors
    /// As [`Copies::copy_run`].
    pub(crate) fn copy_keyspaces(&self, original: &HeldStack, told: &mut Told<'_>) -> Result<()> {
        let named = original.stack.manifest.keyspaces;
        let name = file_name(named.number, FileKind::Keyspaces);
        original.check_keyspaces()?;
        self.remove(&name)?;
        self.write_copy(original, &name, &named, told)?;
        self.rename(&temporary(&name), &name)?;
        original.check_keyspaces_in(&*self.dir, &self.path).inspect_err(|_| _ = self.dir.remove(OsStr::new(&name)))
    }

    /// Takes over the run that an earlier attempt has left here, if it is whole; removes it if not. Its name may be in the cache
    /// alone, and the next sync says nothing about a name that was not made again (A9).
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn take_over(&self, original: &HeldStack, named: &NamedRun, interval: Interval) -> Result<bool> {
        let name = file_name(named.file.number, FileKind::Run);
        let found = original.open_run_as(&*self.dir, &self.path_of(&name), named, interval);
        if found.and_then(|run| check(&run)).is_err() {
            return self.remove(&name).map(|()| false);
        }
        self.remove(&temporary(&name))?;
        self.rename(&name, &temporary(&name))?;
        self.rename(&temporary(&name), &name)?;
        Ok(true)
    }

    /// Whether a run has come here by its second name: its two ends are looked at. If it is not the right one, the name goes.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn has_linked(&self, original: &HeldStack, named: &NamedRun, interval: Interval) -> Result<bool> {
        let name = file_name(named.file.number, FileKind::Run);
        match original.open_run_as(&*self.dir, &self.path_of(&name), named, interval) {
            Ok(_) => Ok(true),
            Err(_) => self.remove(&name).map(|()| false),
        }
    }

    /// Removes what nothing needs, and makes MANIFEST, if there is to be one. Then everything here is durable.
    ///
    /// # Errors
    /// Those of the system. No name here may be relied on then.
    pub(crate) fn finish(&self, needed: &HashSet<String>, manifest: Option<&[u8]>) -> Result<()> {
        let is_ours = |name: &str| {
            let stem = name.strip_suffix(".tmp").unwrap_or(name);
            number_of(stem).is_some() || stem == FILE_NAME
        };
        for name in self.names()?.iter().filter(|name| is_ours(name) && !needed.contains(*name)) {
            self.remove(name)?;
        }
        manifest.map_or(Ok(()), |bytes| self.write_manifest(bytes))?;
        self.dir.sync().map_err(|error| Error::io("sync directory", &self.path, error))
    }

    fn write_manifest(&self, bytes: &[u8]) -> Result<()> {
        let write = || {
            let file = self.dir.open(OsStr::new(TEMPORARY_NAME), Access::Create)?;
            write_all_at(&*file, bytes, 0)?;
            file.sync_all()
        };
        write().map_err(|error| self.io("write", TEMPORARY_NAME, error))?;
        self.rename(TEMPORARY_NAME, FILE_NAME)
    }

    /// Writes a copy under its temporary name, durably. It was not checked yet.
    fn write_copy(&self, original: &HeldStack, name: &str, named: &NamedFile, told: &mut Told<'_>) -> Result<()> {
        let temporary = temporary(name);
        let (from, from_path) = (original.open(name, named)?, original.path_of(name));
        self.remove(&temporary)?;
        let to = self.dir.open(OsStr::new(&temporary), Access::Create);
        let to = to.map_err(|error| self.io("create", &temporary, error))?;
        let (mut at, mut piece) = (0, Vec::new());
        while at < named.length {
            let length = usize::try_from(named.length - at).map_or(PIECE, |left| left.min(PIECE));
            piece.resize(length, 0);
            read_at(&*from, &from_path, &mut piece, at)?;
            write_all_at(&*to, &piece, at).map_err(|error| self.io("write to", &temporary, error))?;
            at += length as u64;
            told(length as u64)?;
        }
        to.sync_all().map_err(|error| self.io("fsync", &temporary, error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let renamed = self.dir.rename_new(OsStr::new(from), OsStr::new(to));
        renamed.map_err(|error| self.io("give its name to", to, error))
    }

    /// That there is no such file is no error.
    fn remove(&self, name: &str) -> Result<()> {
        match self.dir.remove(OsStr::new(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io("remove", name, error)),
            _ => Ok(()),
        }
    }
}
