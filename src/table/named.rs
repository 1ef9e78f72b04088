//! The files that MANIFEST names: whether they are there.

use std::path::Path;
use std::sync::Arc;

use super::dir::open_to_read;
use crate::base::error::{DamageCause, Error, Result};
use crate::disk::{Dir, DiskFile};
use crate::format::table::manifest::{Manifest, NamedFile};
use crate::format::table::{FileKind, file_name};

/// `table/`, if it is there, and its path for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) dir: Option<&'a dyn Dir>,
    pub(crate) path: &'a Path,
}

impl Place<'_> {
    /// Opens a file; `None` if there is none.
    pub(super) fn open(&self, name: &str) -> Result<Option<Arc<dyn DiskFile>>> {
        self.dir.map_or(Ok(None), |dir| open_to_read(dir, &self.path.join(name)))
    }

    /// Opens a file that MANIFEST names.
    ///
    /// # Errors
    /// It is missing, or has another length; it cannot be opened.
    pub(super) fn open_named(&self, name: &str, named: &NamedFile) -> Result<Arc<dyn DiskFile>> {
        let file = self.open(name)?.ok_or_else(|| self.damaged(name, DamageCause::MissingTable))?;
        let length = file.len().map_err(|error| Error::io("read", &self.path.join(name), error))?;
        if length == named.length { Ok(file) } else { Err(self.damaged(name, DamageCause::ForeignTable)) }
    }

    pub(super) fn damaged(&self, name: &str, cause: DamageCause) -> Error {
        Error::bad_file(&self.path.join(name), cause)
    }
}

/// Whether the files that MANIFEST names are there, in their lengths.
pub(super) fn check_files(place: Place<'_>, manifest: &Manifest) -> Result<()> {
    check_file(place, FileKind::Keyspaces, &manifest.keyspaces)?;
    check_runs(place, manifest)
}

pub(super) fn check_runs(place: Place<'_>, manifest: &Manifest) -> Result<()> {
    // Nobody but a salvage reads what is set aside: whoever needs the room may remove it.
    let mut runs = manifest.layers.iter().flat_map(|layer| &layer.runs);
    runs.try_for_each(|run| check_file(place, FileKind::Run, &run.file))
}

fn check_file(place: Place<'_>, kind: FileKind, named: &NamedFile) -> Result<()> {
    place.open_named(&file_name(named.number, kind), named).map(drop)
}
