//! Reading the installed layers beside whatever is done to them: what is held is not removed (step 13 of `FAULTS.md`).

use std::path::PathBuf;
use std::sync::Arc;

use super::dir::open_to_read;
use super::list::read_list;
use super::named::Place;
use super::open::read_keyspaces;
use super::run::read::Run;
use super::store::{Stack, Store};
use crate::base::error::{DamageCause, Error, Result};
use crate::disk::Dir;
use crate::format::Refusal;
use crate::format::table::data::Interval;
use crate::format::table::manifest::{FILE_NAME, Manifest, NamedRun};

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

    /// Checks the list of keyspaces.
    ///
    /// # Errors
    /// It is missing, another one, or damaged; it cannot be read.
    pub(crate) fn check_keyspaces(&self) -> Result<()> {
        read_keyspaces(Place { dir: Some(&*self.dir), path: &self.path }, &self.stack.manifest).map(drop)
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
