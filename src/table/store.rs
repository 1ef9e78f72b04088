//! The files of `table/` that count: the installed stack, attempts to change it, and each MANIFEST that is in doubt
//! (`FAULTS.md`, sections 1 to 3).
//!
//! Two locks, in this order. The *right to write MANIFEST* is held during that I/O, from before the content is chosen.
//! `known` is held for a few instructions, and never during I/O. That of `damaged` is taken alone, and as briefly.

mod attempt;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Weak};

use super::damaged::{DamagedRuns, run_of};
use super::dir::{TableDir, open_to_read};
use super::keyspaces::KeyspaceList;
use super::list::read_list;
use super::named::{Place, check_files};
use super::pace::Pacers;
use super::run::read::Run;
use crate::base::error::{Error, Result};
use crate::base::types::LogId;
use crate::disk::{Dir, FileId};
use crate::format::table::data::Interval;
use crate::format::table::manifest::{FILE_NAME, Layer, Manifest, NamedRun, TEMPORARY_NAME};
use crate::format::table::{MAX_NUMBER, number_of};
use crate::rt::sync::{Mutex, OnceLock};

pub(crate) use super::dir::NotInstalled;
pub(crate) use attempt::{Attempt, Chosen};

/// The layers that are installed, as a durable MANIFEST names them. Its files stay while anyone has it.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) manifest: Manifest,
    /// What the file of keyspaces lists.
    pub(crate) keyspaces: Arc<KeyspaceList>,
    /// That of MANIFEST.
    pub(crate) crc: u32,
}

impl Stack {
    /// Generation and CRC of its MANIFEST, by which HISTORY names it.
    pub(crate) fn names(&self) -> (u64, u32) {
        (self.manifest.generation, self.crc)
    }

    /// Bytes of MANIFEST and of the list of keyspaces.
    pub(crate) fn bytes_of_lists(&self) -> u64 {
        self.manifest.keyspaces.length.saturating_add(self.manifest.to_bytes().len() as u64)
    }
}

/// `table/` of an open database.
#[derive(Debug)]
pub(crate) struct Store {
    dir: TableDir,
    log_id: LogId,
    pacers: Pacers,
    writing: Mutex<Writing>,
    known: Mutex<Known>,
    pub(super) damaged: DamagedRuns,
    follower: OnceLock<Arc<dyn Follower>>,
}

/// Who wants to know at once which layers are installed.
pub(crate) trait Follower: Debug + Send + Sync {
    /// `stack` is installed. Called for one after the other, before the attempt has succeeded, under the right to write MANIFEST.
    fn installed(&self, stack: &Arc<Stack>);
}

/// What the right to write MANIFEST is about.
#[derive(Debug)]
struct Writing {
    /// No generation up to this is free: it was found, or a rename to it was tried.
    highest: u64,
    /// Bytes of the installed MANIFEST, and of those that were tried since.
    bytes: u64,
}

#[derive(Debug)]
struct Known {
    installed: Option<Arc<Stack>>,
    /// Stacks before the installed one, which readers may have.
    older: Vec<Weak<Stack>>,
    /// The files that some MANIFEST may name which may be on the medium in place of the installed one, beside those of
    /// that one.
    doubt: HashSet<u64>,
    /// The files of attempts that are not over.
    under_way: HashSet<u64>,
    next_number: u64,
    /// No MANIFEST of an earlier life is in doubt: this open has made one durable.
    is_settled: bool,
}

/// What a removal of needless files has done.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    pub(crate) removed: usize,
    /// The first that could not be removed. It is tried again.
    pub(crate) failed: Option<Error>,
}

impl Store {
    /// Takes over a directory with the MANIFEST that was found in it, if there was one. Runs are written as `pacers` let them.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(crate) fn new(dir: TableDir, pacers: Pacers, log_id: LogId, found: Option<Stack>) -> Result<Self> {
        let names = dir.list()?;
        let numbers = names.iter().filter_map(|name| number_of(name.to_str()?)).map(|(number, _)| number);
        // No build comes to such numbers. Another's file of that name is in nobody's way.
        let there = numbers.filter(|number| *number < MAX_NUMBER / 2).max();
        let listed = found.as_ref().map_or(1, |stack| stack.manifest.next_number);
        let next_number = listed.max(there.map_or(1, |number| number + 1));
        let highest = found.as_ref().map_or(0, |stack| stack.manifest.generation);
        let bytes = found.as_ref().map_or(0, |stack| stack.manifest.to_bytes().len() as u64);
        let installed = found.map(Arc::new);
        let (older, doubt, under_way) = Default::default();
        Ok(Store {
            dir,
            log_id,
            pacers,
            writing: Mutex::new(Writing { highest, bytes }),
            known: Mutex::new(Known { installed, older, doubt, under_way, next_number, is_settled: false }),
            damaged: DamagedRuns::default(),
            follower: OnceLock::new(),
        })
    }

    /// What an open does before it answers or removes anything: MANIFEST is written again, under the next generation,
    /// unless HISTORY names the one that was found (`is_named`) and there is nothing to remove, in `table/` or elsewhere
    /// (`has_more`). The medium may hold a later one that was in doubt. Returns why it was not written, if it need not be.
    ///
    /// # Errors
    /// It cannot be written, and HISTORY does not name it. If HISTORY does, the open goes on, and removes nothing.
    pub(crate) fn settle(&self, is_named: bool, has_more: bool) -> Result<Option<Error>> {
        let Some(found) = self.stack() else { return Ok(None) };
        if is_named && !has_more && self.needless().is_ok_and(|needless| needless.is_empty()) {
            return Ok(None);
        }
        match self.begin().install(|_| Ok(Chosen::of(&found)), |_| ()) {
            Ok(_) => Ok(None),
            Err(failed) if is_named => Ok(Some(failed.into_error())),
            Err(failed) => Err(failed.into_error()),
        }
    }

    /// Which directory it is, wherever it is now.
    pub(crate) fn dir_id(&self) -> std::io::Result<FileId> {
        self.dir.id()
    }

    /// Whether the MANIFEST that is there is the installed one, or one in doubt. Someone may have restored a copy over it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn has_own_manifest(&self) -> Result<bool> {
        // Else another attempt could replace it between the two looks.
        let _nobody_writes_it = self.writing.lock();
        let Some(stack) = self.stack() else { return Ok(true) };
        let (dir, path) = self.place();
        let path = path.join(FILE_NAME);
        let Some(file) = open_to_read(&**dir, &path)? else { return Ok(false) };
        let found = match read_list(&*file, &path, Manifest::begin_check) {
            Ok(bytes) => Manifest::decode(&bytes).ok().map(|manifest| (manifest, Manifest::crc(&bytes))),
            Err(error) if error.damage().is_some() => None,
            Err(error) => return Err(error),
        };
        let (generation, crc) = stack.names();
        Ok(found.is_some_and(|(manifest, found)| {
            let is_in_doubt = self.is_in_doubt() && manifest.generation > generation;
            manifest.log_id == self.log_id && (is_in_doubt || (manifest.generation, found) == (generation, crc))
        }))
    }

    /// Whether the files of the installed layers are there, in their lengths: nothing reads them while the database is open.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with the first that is not.
    pub(crate) fn check_files(&self) -> Result<()> {
        let Some(stack) = self.stack() else { return Ok(()) };
        let (dir, path) = self.place();
        check_files(Place { dir: Some(&**dir), path }, &stack.manifest)
    }

    /// Whether MANIFEST could be written by an open, as far as that can be told without changing anything: why not, if not.
    pub(crate) fn would_settle(&self, is_named: bool) -> Result<()> {
        let needs_none = is_named && self.needless()?.is_empty();
        let Some(stack) = self.stack().filter(|_| !needs_none) else { return Ok(()) };
        let (dir, path) = self.place();
        for name in [TEMPORARY_NAME, FILE_NAME] {
            let failed = |error| Error::io("replace", &path.join(name), error);
            dir.may_replace(OsStr::new(name)).map_err(failed)?;
        }
        let failed = |error| Error::io("replace", &path.join(FILE_NAME), error);
        match dir.room().map_err(failed)? {
            Some(room) if room < stack.manifest.to_bytes().len() as u64 => {
                Err(failed(std::io::ErrorKind::StorageFull.into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a MANIFEST may be on the medium in place of the installed one.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.known.lock().doubt.is_empty()
    }

    /// Ends the doubt that attempts have left which were given up, of this open or an earlier one, by the installed MANIFEST
    /// under a new generation. Then files may go that could not before. Returns whether there was any. Without a MANIFEST it can
    /// only be ended by a first one.
    ///
    /// # Errors
    /// The doubt goes on.
    pub(crate) fn end_doubt(&self, installed: impl FnOnce(&Arc<Stack>)) -> Result<bool> {
        let is_in_doubt = {
            // What another attempt is just about to make durable is in no doubt.
            let _nobody_writes_it = self.writing.lock();
            self.is_in_doubt()
        };
        let is_due = is_in_doubt || (!self.is_settled() && !self.needless()?.is_empty());
        if !is_due || self.stack().is_none() {
            return Ok(false);
        }
        let again = |before: Option<&Stack>| before.map(Chosen::of).ok_or_else(|| Error::bug("a stack that went away"));
        self.begin().install(again, installed).map(|_| true).map_err(NotInstalled::into_error)
    }

    /// The installed layers; `None` before the first MANIFEST.
    pub(crate) fn stack(&self) -> Option<Arc<Stack>> {
        self.known.lock().installed.clone()
    }

    /// Tells `follower` of each stack that is installed from now on. There is one, for good.
    pub(super) fn follow(&self, follower: Arc<dyn Follower>) {
        // Whoever asks next to another one has the same.
        let _ = self.follower.set(follower);
    }

    /// Whether files that the installed MANIFEST does not need may go, in `table/` and in the log.
    pub(crate) fn is_settled(&self) -> bool {
        self.known.lock().is_settled
    }

    /// The directory, for those who read.
    pub(super) fn place(&self) -> (&Arc<dyn Dir>, &Path) {
        self.dir.place()
    }

    /// Opens a run that a layer with this interval names.
    ///
    /// # Errors
    /// As [`Run::open_named`].
    pub(crate) fn open_run(&self, named: &NamedRun, interval: Interval) -> Result<Run> {
        let (dir, path) = self.place();
        Run::open_named(&**dir, path, named, (self.log_id, interval))
    }

    /// Reads the run that `error` is about once more, if an installed layer names it. Returns whether more is wrong with it than was
    /// known: the next merge goes round that (`MERGING.md`, 8).
    ///
    /// # Errors
    /// Nothing tells that the file is this run; it cannot be opened.
    pub(crate) fn look_again(&self, error: &Error) -> Result<bool> {
        let (Some(number), Some(stack)) = (run_of(error), self.stack()) else { return Ok(false) };
        let mut runs = stack.manifest.layers.iter().flat_map(Layer::named);
        let Some((named, interval)) = runs.find(|(run, _)| run.file.number == number) else { return Ok(false) };
        let (dir, path) = self.place();
        self.damaged.look_again(Place { dir: Some(&**dir), path }, named, interval)
    }

    /// Merges go round nothing any more, until they come to it again.
    pub(crate) fn forget_damage(&self) {
        self.damaged.retain(|_| false);
    }

    /// Begins an attempt to change the stack.
    pub(crate) fn begin(&self) -> Attempt<'_> {
        Attempt::new(self, &self.pacers.checkpoints)
    }

    /// Begins one of a merge.
    pub(super) fn begin_merge(&self) -> Attempt<'_> {
        Attempt::new(self, &self.pacers.merges)
    }

    /// Removes the files that nothing needs (step 13).
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(crate) fn remove_needless(&self) -> Result<Removal> {
        let mut removal = Removal::default();
        {
            // A try that was cut off has left it. It is never read, so no MANIFEST in doubt needs it.
            let _nobody_writes_it = self.writing.lock();
            // An open with nothing to remove makes no call that could change something.
            if self.dir.list()?.iter().any(|name| name == TEMPORARY_NAME) {
                removal.failed = self.dir.remove(TEMPORARY_NAME).err();
            }
        }
        if !self.is_settled() {
            return Ok(removal);
        }
        for name in self.needless()? {
            match self.dir.remove(&name) {
                Ok(()) => removal.removed += 1,
                Err(error) => {
                    removal.failed.get_or_insert(error);
                }
            }
        }
        Ok(removal)
    }

    /// The names of ours that nothing needs. They are listed first: a file that comes later belongs to an attempt.
    fn needless(&self) -> Result<Vec<String>> {
        let names = self.dir.list()?;
        let needed = self.needed();
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| number_of(name).is_some_and(|(number, _)| !needed.contains(&number))).collect())
    }

    /// The files that a MANIFEST which may be on the medium, a reader, or an attempt needs. What is needed by none now is
    /// needed by none later: only attempts bring files in, and no number is used twice.
    fn needed(&self) -> HashSet<u64> {
        let (mut needed, stacks) = {
            let mut known = self.known.lock();
            known.older.retain(|stack| stack.strong_count() > 0);
            let stacks: Vec<_> = known.older.iter().filter_map(Weak::upgrade).chain(known.installed.clone()).collect();
            (known.doubt.union(&known.under_way).copied().collect::<HashSet<u64>>(), stacks)
        };
        needed.extend(stacks.iter().flat_map(|stack| stack.manifest.numbers()));
        needed
    }

    /// A number for a new file.
    fn next_number(&self) -> Result<u64> {
        let mut known = self.known.lock();
        let number = known.next_number;
        if number >= MAX_NUMBER {
            return Err(Error::bug("the numbers of table files are used up"));
        }
        known.next_number += 1;
        known.under_way.insert(number);
        Ok(number)
    }
}
