//! The files in `table/`, read one by one, and what tells those of this log from others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BadFile, LossCause};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::{Access, Dir, DiskFile};
use crate::format::Refusal;
use crate::format::history::History;
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{FILE_NAME, Manifest, NamedRun};
use crate::format::table::{DIRECTORY, FileKind, number_of};
use crate::log::log_dir::LogDir;
use crate::table::dir::open_to_read;
use crate::table::list::{magic, read_list};
use crate::table::open::lies_in;
use crate::table::run::rescue::Remains;

/// A MANIFEST and its checksum, or why it cannot be read.
type ReadManifest = Result<(Manifest, u32)>;

/// The directory, and what stands in it under names of ours.
#[derive(Debug)]
pub(super) struct TableFiles {
    dir: Option<Arc<dyn Dir>>,
    pub(super) path: PathBuf,
    pub(super) runs: Vec<String>,
    pub(super) keyspaces: Vec<String>,
    /// `None` if there is none.
    pub(super) manifest: Option<ReadManifest>,
    /// MANIFEST begins as one of ours does.
    pub(super) has_our_manifest: bool,
}

impl TableFiles {
    /// Lists the directory and reads MANIFEST. That it cannot be listed is noted in `bad`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a newer version wrote MANIFEST.
    pub(super) fn look(place: &LogDir, bad: &mut Vec<BadFile>) -> Result<Self> {
        let path = place.path(DIRECTORY);
        let (runs, keyspaces) = Default::default();
        let mut files = TableFiles { dir: None, path, runs, keyspaces, manifest: None, has_our_manifest: false };
        let child = place.disk().child(OsStr::new(DIRECTORY), Access::Read);
        let mut names = match child.and_then(|dir| dir.list().map(|names| (dir, names))) {
            Ok((dir, names)) => {
                files.dir = Some(dir);
                names
            }
            // Who needs a file that should be in it will miss it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
            Err(error) => {
                bad.push(BadFile { file: files.path.clone(), cause: LossCause::of_io(&error) });
                Vec::new()
            }
        };
        names.sort();
        for name in names.into_iter().filter_map(|name| name.into_string().ok()) {
            match number_of(&name) {
                Some((_, FileKind::Run)) => files.runs.push(name),
                Some((_, FileKind::Keyspaces)) => files.keyspaces.push(name),
                None => {}
            }
        }
        files.read_manifest()?;
        Ok(files)
    }

    /// Whether this is where a list of keyspaces should be.
    pub(super) fn keyspaces_at(&self, file: &Path) -> bool {
        let name = file.strip_prefix(&self.path).ok().and_then(Path::to_str);
        matches!(name.and_then(number_of), Some((_, FileKind::Keyspaces)))
    }

    /// Whether nothing here can be of a database.
    pub(super) fn is_empty(&self) -> bool {
        self.manifest.is_none() && self.runs.is_empty() && self.keyspaces.is_empty()
    }

    fn read_manifest(&mut self) -> Result<()> {
        let path = self.path.join(FILE_NAME);
        let read = || -> Result<Option<(bool, ReadManifest)>> {
            let Some(file) = self.open(FILE_NAME)? else { return Ok(None) };
            let is_ours = magic(&*file, &path)? == Some(Manifest::MAGIC);
            let refused = |refusal: Refusal| refusal.error(&path, || Error::bad_table(&path, 0));
            let decode = |bytes: Vec<u8>| Ok((Manifest::decode(&bytes).map_err(refused)?, Manifest::crc(&bytes)));
            Ok(Some((is_ours, read_list(&*file, &path, Manifest::begin_check).and_then(decode))))
        };
        let manifest = match read() {
            Ok(None) => return Ok(()),
            Ok(Some((is_ours, manifest))) => {
                self.has_our_manifest = is_ours;
                manifest
            }
            Err(error) => Err(error),
        };
        self.manifest = Some(unless_newer(manifest)?);
        Ok(())
    }

    /// Opens a file; `None` if there is none.
    fn open(&self, name: &str) -> Result<Option<Arc<dyn DiskFile>>> {
        self.dir.as_ref().map_or(Ok(None), |dir| open_to_read(&**dir, &self.path.join(name)))
    }

    fn open_existing(&self, name: &str) -> Result<Arc<dyn DiskFile>> {
        self.open(name)?.ok_or_else(|| Error::bad_file(&self.path.join(name), DamageCause::MissingTable))
    }

    /// The run in a file, which MANIFEST may name.
    ///
    /// # Errors
    /// As [`Remains::open`], and if there is no such file.
    pub(super) fn run(&self, name: &str, named: Option<&NamedRun>) -> Result<Arc<Remains>> {
        Remains::open(self.open_existing(name)?, &self.path.join(name), named).map(Arc::new)
    }

    /// The names of the runs by the number and the nonce that are in them.
    pub(super) fn names_by_content(&self) -> BTreeMap<(u64, u64), String> {
        let opened = self.runs.iter().filter_map(|name| Some((self.run(name, None).ok()?.header.identity, name)));
        opened.map(|(identity, name)| ((identity.number, identity.nonce), name.clone())).collect()
    }

    /// A list of keyspaces, and its checksum.
    ///
    /// # Errors
    /// It is missing, damaged or of a newer version.
    pub(super) fn keyspaces(&self, name: &str) -> Result<(Keyspaces, u32)> {
        let path = self.path.join(name);
        let bytes = read_list(&*self.open_existing(name)?, &path, Keyspaces::begin_check)?;
        let refused = |refusal: Refusal| refusal.error(&path, || Error::bad_table(&path, 0));
        Ok((Keyspaces::decode(&bytes).map_err(refused)?, Keyspaces::crc(&bytes)))
    }
}

/// What a newer version wrote would be saved in part, and read as something else: that ends a salvage. Any other error is
/// one of the file.
pub(super) fn unless_newer<T>(read: Result<T>) -> Result<Result<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(error),
        read => Ok(read),
    }
}

/// What tells the files of this log from others.
#[derive(Debug)]
pub(super) struct Origin<'h> {
    pub(super) history: Option<&'h History>,
    pub(super) log_id: Option<LogId>,
    /// The nonces of the incarnations of which there are segments, by number.
    pub(super) segments: BTreeMap<u64, u64>,
    /// Those of which nothing but files in `table/` tells.
    pub(super) files: BTreeMap<u64, u64>,
}

/// Whether a file is of this log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Belongs {
    Yes,
    No,
    /// It is of another branch than a file before, and nothing tells which of them is this log's.
    Unknown,
}

impl Origin<'_> {
    /// Judges a file that ends at `to` in the incarnation `branch`.
    pub(super) fn judge(&mut self, log_id: LogId, branch: Incarnation, to: Lsn) -> Belongs {
        let yes_if = |is_ours| if is_ours { Belongs::Yes } else { Belongs::No };
        if self.log_id.is_some_and(|known| known != log_id) {
            return Belongs::No;
        }
        if let Some(history) = self.history.filter(|history| is_listed(history, branch)) {
            return yes_if(lies_in(&history.entries, branch, to));
        }
        if let Some(nonce) = self.segments.get(&branch.number) {
            return yes_if(*nonce == branch.nonce);
        }
        match *self.files.entry(branch.number).or_insert(branch.nonce) == branch.nonce {
            true => Belongs::Yes,
            false => Belongs::Unknown,
        }
    }

    /// HISTORY knows less than a file that ends in this incarnation: it is older.
    pub(super) fn is_older_than(&self, branch: Incarnation) -> bool {
        self.history.is_some_and(|history| branch.number >= history.next_number() || history.tables.is_none())
    }
}

/// Whether HISTORY has the incarnation of this number. It has forgotten the first ones, and an old one never knew the
/// last ones.
fn is_listed(history: &History, branch: Incarnation) -> bool {
    (history.first_number..history.next_number()).contains(&branch.number)
}
