//! Reading the installed layers beside whatever is done to them: what is held is not removed (step 13 of `FAULTS.md`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::open_to_read;
use super::list::read_list;
use super::named::Place;
use super::open::read_keyspaces;
use super::run::read::{Part, Run};
use super::store::{Stack, Store};
use crate::base::error::{DamageCause, Error, Result};
use crate::disk::{Dir, DiskFile};
use crate::format::Refusal;
use crate::format::table::data::Interval;
use crate::format::table::manifest::{FILE_NAME, Manifest, NamedFile, NamedRun};
use crate::format::table::{FileKind, file_name, split_full_key};

/// A stack whose files stay while this is there.
#[derive(Clone, Debug)]
pub(crate) struct HeldStack {
    dir: Arc<dyn Dir>,
    path: PathBuf,
    pub(crate) stack: Arc<Stack>,
}

impl HeldStack {
    /// The installed layers; `None` before the first MANIFEST.
    pub(crate) fn of(store: &Store) -> Option<Self> {
        let (dir, path) = store.place();
        let stack = store.stack()?;
        Some(HeldStack { dir: Arc::clone(dir), path: path.to_owned(), stack })
    }

    /// The same, read through what `view` makes of the directory.
    pub(crate) fn viewed(self, view: impl FnOnce(Arc<dyn Dir>) -> Arc<dyn Dir>) -> Self {
        HeldStack { dir: view(self.dir), ..self }
    }

    /// Another stack of the same store.
    pub(super) fn with(&self, stack: Arc<Stack>) -> Self {
        HeldStack { stack, ..self.clone() }
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a run of a layer with this interval.
    ///
    /// # Errors
    /// As [`Run::open_named`].
    pub(crate) fn open_run(&self, named: &NamedRun, interval: Interval) -> Result<Run> {
        Run::open_named(&*self.dir, &self.path, named, (self.stack.manifest.log_id, interval))
    }

    /// Opens a file at `path` in `dir` as a copy of a run of a layer with this interval.
    ///
    /// # Errors
    /// As [`Run::open_named`].
    pub(super) fn open_run_as(&self, dir: &dyn Dir, path: &Path, named: &NamedRun, interval: Interval) -> Result<Run> {
        Run::open_as(dir, path, named, (self.stack.manifest.log_id, interval))
    }

    /// Reads and checks all runs of the layers.
    ///
    /// # Errors
    /// As [`HeldStack::open_run`], and the first damage in one; if there is none, the first range that a merge has lost.
    pub(crate) fn check_runs(&self) -> Result<()> {
        let next_id = self.stack.keyspaces.next_id();
        let is_ours = |key: &[u8]| split_full_key(key).is_some_and(|(id, _)| id < next_id);
        let mut lost = None;
        self.runs().try_for_each(|(path, _, run)| {
            let run = run?;
            lost = lost.take().or_else(|| run.first_lost());
            run.walk(|part| match part {
                Part::Bad(error) => Err(error.clone()),
                // A keyspace that is made later would have it.
                Part::Entry(key, _) if !is_ours(key) => Err(Error::bad_file(&path, DamageCause::ForeignTable)),
                Part::Partition(_) | Part::Block(_) | Part::Entry(..) => Ok(()),
            })
        })?;
        lost.map_or(Ok(()), Err)
    }

    /// The runs of the layers, one after the other: its path, what MANIFEST says of it, and the run, or why it cannot be opened.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (PathBuf, &NamedRun, Result<Run>)> {
        self.stack.manifest.layers.iter().flat_map(move |layer| {
            layer.runs.iter().map(move |named| {
                let path = self.path_of(&file_name(named.file.number, FileKind::Run));
                (path, named, self.open_run(named, layer.interval))
            })
        })
    }

    /// Opens a file that MANIFEST names, to read its bytes.
    ///
    /// # Errors
    /// It is missing, or has another length; it cannot be opened.
    pub(super) fn open(&self, name: &str, named: &NamedFile) -> Result<Arc<dyn DiskFile>> {
        Place { dir: Some(&*self.dir), path: &self.path }.open_named(name, named)
    }

    /// Checks the list of keyspaces.
    ///
    /// # Errors
    /// It is missing, another one, or damaged; it cannot be read.
    pub(crate) fn check_keyspaces(&self) -> Result<()> {
        self.check_keyspaces_in(&*self.dir, &self.path)
    }

    /// Checks a copy of it.
    ///
    /// # Errors
    /// As [`HeldStack::check_keyspaces`].
    pub(super) fn check_keyspaces_in(&self, dir: &dyn Dir, path: &Path) -> Result<()> {
        read_keyspaces(Place { dir: Some(dir), path }, &self.stack.manifest).map(drop)
    }

    /// Checks MANIFEST, which may have been replaced by now: by a rename, so that one of its versions is there as a whole.
    ///
    /// # Errors
    /// It is missing, damaged, of another database or older; it cannot be read.
    pub(crate) fn check_manifest(&self) -> Result<()> {
        let path = self.path.join(FILE_NAME);
        let missing = || Error::bad_file(&path, DamageCause::MissingTable);
        let file = open_to_read(&*self.dir, &path)?.ok_or_else(missing)?;
        let refused = |refusal: Refusal| refusal.error(&path, || Error::bad_table(&path, 0));
        let found = Manifest::decode(&read_list(&*file, &path, Manifest::begin_check)?).map_err(refused)?;
        let held = &self.stack.manifest;
        let is_ours = found.log_id == held.log_id && found.generation >= held.generation;
        if is_ours { Ok(()) } else { Err(Error::bad_file(&path, DamageCause::ForeignTable)) }
    }
}
