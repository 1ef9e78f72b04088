//! `table/` of an open database: each call that changes it, and which of its names are durable (`FAULTS.md`, section 1).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gate::{Gate, again, contained};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::disk::{Access, Dir, DiskFile, DiskLock, FileId, FileStatus, LockMode, is_refused_rename, write_all_at};
use crate::format::table::manifest::{FILE_NAME, TEMPORARY_NAME};
use crate::format::table::{FileKind, file_name};
use crate::rt::sync::Mutex;

/// The directory `table/`, as its owner uses it.
#[derive(Debug)]
pub(crate) struct TableDir {
    dir: Arc<dyn Dir>,
    path: PathBuf,
    gate: Arc<Gate>,
    /// The right to sync the directory: the system reports a failure once, to whoever asks.
    syncing: Mutex<()>,
    names: Mutex<HashMap<Name, State>>,
}

/// A name that is to become durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Name {
    /// A file with this number.
    File(u64),
    /// MANIFEST, as that of this generation.
    Manifest(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The call that makes the name is under way.
    Making,
    Made,
    Durable,
    /// A sync failed that should have made it durable. No later sync is believed (A9).
    Lost,
}

/// Why MANIFEST was not replaced, and what it was to name is not installed.
#[derive(Debug)]
pub(crate) enum NotInstalled {
    /// Nothing has changed. The attempt is over.
    Failed(Error),
    /// The MANIFEST may be on the medium, of this try or one before. The attempt goes on when it is installed again.
    InDoubt(Error),
}

impl From<Error> for NotInstalled {
    fn from(error: Error) -> Self {
        NotInstalled::Failed(error)
    }
}

impl NotInstalled {
    pub(crate) fn into_error(self) -> Error {
        match self {
            NotInstalled::Failed(error) | NotInstalled::InDoubt(error) => error,
        }
    }
}

impl TableDir {
    /// `dir` is called `path` in messages. What changes it passes `gate`.
    pub(crate) fn new(dir: Arc<dyn Dir>, path: &Path, gate: Arc<Gate>) -> Self {
        let (syncing, names) = Default::default();
        TableDir { dir, path: path.to_owned(), gate, syncing, names }
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn id(&self) -> io::Result<FileId> {
        self.dir.id()
    }

    pub(crate) fn list(&self) -> Result<Vec<OsString>> {
        read(|| self.dir.list()).map_err(|error| Error::io("list", &self.path, error))
    }

    /// The directory itself, for those who read, and what it is called in messages.
    pub(super) fn place(&self) -> (&Arc<dyn Dir>, &Path) {
        (&self.dir, &self.path)
    }

    /// Whether nothing may be changed any more, and no lock may be taken: in a forked child, whose parent may hold it.
    pub(crate) fn is_over(&self) -> bool {
        self.gate.check().is_err()
    }

    /// Refuses once nothing may be changed any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.gate.check_open()
    }

    /// Creates a file. Its name is to be made durable by [`TableDir::sync_names`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken, and those of the system; [`ErrorKind::Closed`].
    pub(crate) fn create(&self, number: u64, kind: FileKind) -> Result<io::Result<TableFile>> {
        let name = file_name(number, kind);
        self.note(Name::File(number), State::Making);
        let created = self.gate.pass_again(|| self.dir.open(OsStr::new(&name), Access::Create));
        match &created {
            Ok(Ok(_)) => self.made(Name::File(number)),
            _ => self.forget(Name::File(number)),
        }
        Ok(created?.map(|file| TableFile::new(file, self.path_of(&name), Arc::clone(&self.gate))))
    }

    /// Removes a file. That there is none is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match again(|| self.gate.pass_to_end(|| self.dir.remove(OsStr::new(name))))? {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.path_of(name), error))
            }
            _ => Ok(()),
        }
    }

    /// Makes all of these names durable. After an error none of them may be relied on, ever.
    pub(crate) fn sync_names(&self, names: &[Name]) -> Result<()> {
        let _right = self.syncing.lock();
        if self.are(names, State::Durable) {
            return Ok(());
        }
        if names.iter().any(|name| self.is(*name, State::Lost)) {
            return Err(self.lost());
        }
        let covered: Vec<Name> = {
            let names = self.names.lock();
            names.iter().filter(|(_, state)| **state == State::Made).map(|(name, _)| *name).collect()
        };
        let is_last = names.iter().any(|name| matches!(name, Name::Manifest(_)));
        let sync = || self.dir.sync();
        // Without it, what is installed is not what the next open finds. An interrupted one has failed.
        let synced = if is_last { self.gate.pass_to_end(sync) } else { self.gate.pass(sync) }?;
        let mut known = self.names.lock();
        match synced {
            Ok(()) => {
                for name in covered {
                    known.entry(name).and_modify(|state| *state = State::Durable);
                }
            }
            // It counts for what was made meanwhile as well.
            Err(error) => {
                known.values_mut().filter(|state| **state != State::Durable).for_each(|state| *state = State::Lost);
                return Err(Error::io("sync directory", &self.path, error));
            }
        }
        drop(known);
        self.check_durable(names)
    }

    /// Refuses names that are not durable.
    pub(crate) fn check_durable(&self, names: &[Name]) -> Result<()> {
        if self.are(names, State::Durable) { Ok(()) } else { Err(self.lost()) }
    }

    /// Nobody asks about the name any more.
    pub(crate) fn forget(&self, name: Name) {
        self.names.lock().remove(&name);
    }

    /// Replaces MANIFEST, durably (steps 8 to 10 of `FAULTS.md`).
    pub(crate) fn replace_manifest(&self, bytes: &[u8], generation: u64) -> std::result::Result<(), NotInstalled> {
        self.write_manifest(bytes).map_err(|error| {
            self.remove_temporary();
            NotInstalled::Failed(error)
        })?;
        let name = Name::Manifest(generation);
        self.note(name, State::Making);
        let renamed = self.gate.pass(|| self.dir.rename(OsStr::new(TEMPORARY_NAME), OsStr::new(FILE_NAME)));
        let done = match renamed {
            Ok(Ok(())) => {
                self.made(name);
                self.sync_names(&[name]).map_err(NotInstalled::InDoubt)
            }
            Ok(Err(error)) => {
                // An interrupted one may have landed. So may one that found nothing to rename: over NFS the answer to it may
                // have been lost, and the second try finds the work done.
                let may_have_landed = matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::NotFound);
                let is_refused = is_refused_rename(&error) && !may_have_landed;
                let error = Error::io("replace", &self.path_of(FILE_NAME), error);
                if is_refused {
                    self.remove_temporary();
                }
                Err(if is_refused { NotInstalled::Failed(error) } else { NotInstalled::InDoubt(error) })
            }
            Err(closed) => {
                self.remove_temporary();
                Err(NotInstalled::Failed(closed))
            }
        };
        self.forget(name);
        done
    }

    /// What cannot be removed only costs space: the next attempt removes it first.
    fn remove_temporary(&self) {
        let _ = self.remove(TEMPORARY_NAME);
    }

    fn write_manifest(&self, bytes: &[u8]) -> Result<()> {
        self.remove(TEMPORARY_NAME)?;
        let path = self.path_of(TEMPORARY_NAME);
        let created = self.gate.pass_again(|| self.dir.open(OsStr::new(TEMPORARY_NAME), Access::Create))?;
        let file = created.map_err(|error| Error::io("create", &path, error))?;
        let file = TableFile::new(file, path, Arc::clone(&self.gate));
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    }

    fn note(&self, name: Name, state: State) {
        self.names.lock().insert(name, state);
    }

    fn made(&self, name: Name) {
        self.names.lock().entry(name).and_modify(|state| {
            if *state == State::Making {
                *state = State::Made;
            }
        });
    }

    fn is(&self, name: Name, state: State) -> bool {
        self.names.lock().get(&name) == Some(&state)
    }

    fn are(&self, names: &[Name], state: State) -> bool {
        names.iter().all(|name| self.is(*name, state))
    }

    fn lost(&self) -> Error {
        let message = format!(
            "an fsync of the directory {} failed: what was new in it is not relied on, and is written again",
            self.path.display()
        );
        Error::new(ErrorKind::Io, message)
    }
}

/// A file in `table/` that is being written.
#[derive(Debug)]
pub(crate) struct TableFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    gate: Arc<Gate>,
}

impl TableFile {
    pub(crate) fn new(file: Arc<dyn DiskFile>, path: PathBuf, gate: Arc<Gate>) -> Self {
        TableFile { file, path, gate }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.gate.pass(|| write_all_at(&*self.file, bytes, offset))?;
        written.map_err(|error| Error::io("write to", &self.path, error))
    }

    /// Has the kernel begin to write what it has of the file.
    ///
    /// # Errors
    /// As [`TableFile::sync_all`].
    pub(crate) fn start_writeback(&self) -> Result<()> {
        let started = self.gate.pass(|| self.file.start_writeback())?;
        started.map_err(|error| Error::io("write to", &self.path, error))
    }

    /// Makes the file durable; its name is not.
    ///
    /// # Errors
    /// After one the file must not be synced again, nor be named.
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.gate.pass(|| self.file.sync_all())?.map_err(|error| Error::io("fsync", &self.path, error))
    }
}

/// A file that is only read. A panic of the disk is as its failure.
#[derive(Debug)]
struct ReadFile(Arc<dyn DiskFile>);

impl ReadFile {
    fn not_written<T>() -> io::Result<T> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl DiskFile for ReadFile {
    fn len(&self) -> io::Result<u64> {
        read(|| self.0.len())
    }

    fn status(&self) -> io::Result<FileStatus> {
        read(|| self.0.status())
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.0.lock(mode)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read(|| self.0.read_at(buffer, offset))
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Self::not_written()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Self::not_written()
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::not_written()
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::not_written()
    }
}

/// Opens the file of the tables at the end of `path` to read it; `None` if there is none.
///
/// # Errors
/// [`ErrorKind::Damaged`] if something else has its name, [`ErrorKind::Io`].
pub(crate) fn open_to_read(dir: &dyn Dir, path: &Path) -> Result<Option<Arc<dyn DiskFile>>> {
    match read(|| dir.open(path.file_name().unwrap_or_default(), Access::Read)) {
        Ok(file) => Ok(Some(Arc::new(ReadFile(file)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if is_no_file(&error) => Err(Error::bad_file(path, DamageCause::ForeignTable)),
        Err(error) => Err(Error::io("open", path, error)),
    }
}

/// Whether what was to be opened is no file: another's directory or pipe, or a link that leads to itself.
fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory};
    /// ELOOP, which has no kind of its own yet.
    const LOOP: i32 = 40;
    matches!(error.kind(), InvalidInput | IsADirectory | NotADirectory)
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(LOOP))
}

/// Makes a call that only reads, again if it is interrupted.
pub(crate) fn read<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    contained(|| {
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    })
}
