//! Writing a backup: steps 8a to 8d of `engine/BACKUP.md`, between the marks of `engine/unfinished.rs`.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::point::Point;
use super::source::{Earlier, Source};
use super::{BackupProgress, BackupReport};
use crate::base::error::{Error, Result};
use crate::disk::{Access, Dir, DirHandle, Disk, claim};
use crate::engine::unfinished::{self, MayHold};
use crate::format::history;
use crate::format::table::data::Interval;
use crate::format::table::manifest::{Manifest, NamedRun};
use crate::format::table::{DIRECTORY, FileKind, OLD_DIRECTORY, file_name};
use crate::log::UNFINISHED_HISTORY;
use crate::table::copies::Copies;
use crate::table::held::HeldStack;

/// Where a backup goes, and what it need not copy.
pub(super) struct Target<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) path: &'a Path,
    pub(super) earlier: Option<Earlier>,
    /// What it is brought up by, if that is to be.
    pub(super) point: Cell<Option<Point>>,
}

/// Told how far it is. An error of it ends the backup.
pub(super) type Told<'a> = dyn FnMut(BackupProgress) -> Result<()> + 'a;

impl Target<'_> {
    /// Writes all of `source`.
    ///
    /// # Errors
    /// Those of a copy; [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with the file of the source.
    pub(super) fn write(&self, source: &Source, told: &mut Told<'_>) -> Result<BackupReport> {
        let handle = claim(self.disk, self.path, true, |mut claim| {
            unfinished::begin(&mut claim, MayHold::Unfinished)?;
            Ok(Arc::clone(claim.handle))
        })?;
        let written = self.fill(&handle, source, told).and_then(|report| {
            unfinished::finish(&handle, || Ok(()))?;
            Ok(report)
        });
        let path = self.path.display();
        written.map_err(|error| match handle.dir().id_of(OsStr::new(history::FILE_NAME)) {
            // The last sync has failed.
            Ok(_) => error.adding(format!(
                "The copy in {path} is whole, but may not outlast a power loss: open it once, or delete it and do it again"
            )),
            Err(_) => error
                .adding(format!("What is in {path} is unfinished: do it again with the same directory, or delete it")),
        })
    }

    fn fill(&self, handle: &DirHandle, source: &Source, told: &mut Told<'_>) -> Result<BackupReport> {
        let dir = table_dir(handle)?;
        let copies = Copies::new(Arc::clone(&dir), &handle.path_of(OsStr::new(DIRECTORY)));
        let point = self.point.take();
        let total_bytes = source.bytes() + point.as_ref().map_or(0, Point::log_bytes);
        let mut work = Work {
            target: self,
            copies: &copies,
            found: copies.names()?,
            progress: BackupProgress { bytes: 0, total_bytes },
            told,
            report: BackupReport { lsn: source.lsn(), ..BackupReport::default() },
        };
        let needed = source.layers.as_ref().map_or_else(|| Ok(HashSet::new()), |layers| work.files(layers, source))?;
        let manifest = source.manifest().map(|manifest| (manifest.generation, manifest.to_bytes()));
        copies.finish(&needed, manifest.as_ref().map(|(_, bytes)| bytes.as_slice()))?;
        let names = manifest.map(|(generation, bytes)| (generation, Manifest::crc(&bytes)));
        let history = match point {
            None => source.history(names)?,
            Some(point) => {
                work.report.lsn = point.lsn();
                let table = (Arc::clone(&dir), handle.path());
                point.write(table, source.stack(names), &mut |bytes| work.step(bytes))?
            }
        };
        let history = history.to_bytes();
        handle.replace(UNFINISHED_HISTORY.as_ref(), history::TEMPORARY_NAME.as_ref(), &history)?;
        Ok(work.report)
    }
}

/// `table/`, with its name made in this call, and durable (A9).
fn table_dir(handle: &DirHandle) -> Result<Arc<dyn Dir>> {
    let (name, aside) = (OsStr::new(DIRECTORY), OsStr::new(OLD_DIRECTORY));
    let names = handle.list()?;
    let has = |name: &OsStr| names.iter().any(|found| found == name);
    let path = handle.path_of(name);
    let renamed = |from, to| {
        let renamed = handle.dir().rename_child(from, to);
        renamed.map_err(|error| Error::io("make anew the name of", &path, error))
    };
    let access = if has(name) || has(aside) { Access::Read } else { Access::Create };
    if has(name) {
        renamed(name, aside)?;
    }
    if access == Access::Read {
        renamed(aside, name)?;
    }
    let dir = handle.dir().child(name, access).map_err(|error| Error::io("make the directory", &path, error))?;
    handle.sync()?;
    Ok(dir)
}

struct Work<'a> {
    target: &'a Target<'a>,
    copies: &'a Copies,
    /// What an earlier attempt has left.
    found: HashSet<String>,
    progress: BackupProgress,
    told: &'a mut Told<'a>,
    report: BackupReport,
}

impl Work<'_> {
    /// Brings all files in. Returns their names.
    fn files(&mut self, layers: &HeldStack, source: &Source) -> Result<HashSet<String>> {
        let list = layers.stack.manifest.keyspaces;
        let mut needed = HashSet::new();
        for (run, interval) in source.runs() {
            let is_here = self.has(layers, run, interval)?;
            if is_here {
                self.report.bytes_reused += run.file.length;
                self.step(run.file.length)?;
            } else {
                let copies = self.copies;
                copies.copy_run(layers, (run, interval), &mut |bytes| self.step(bytes))?;
                self.report.bytes_copied += run.file.length;
            }
            self.report.files += 1;
            needed.insert(file_name(run.file.number, FileKind::Run));
        }
        let copies = self.copies;
        copies.copy_keyspaces(layers, &mut |bytes| self.step(bytes))?;
        self.report.bytes_copied += list.length;
        self.report.files += 1;
        needed.insert(file_name(list.number, FileKind::Keyspaces));
        Ok(needed)
    }

    /// Whether the run is here, from an earlier attempt or by a second name of what the earlier backup has.
    fn has(&self, layers: &HeldStack, run: &NamedRun, interval: Interval) -> Result<bool> {
        let name = file_name(run.file.number, FileKind::Run);
        if self.found.contains(&name) && self.copies.take_over(layers, run, interval)? {
            return Ok(true);
        }
        let Some(earlier) = self.target.earlier.as_ref().filter(|earlier| earlier.has(&run.file)) else {
            return Ok(false);
        };
        let from = earlier.handle.path_of(OsStr::new(DIRECTORY)).join(&name);
        // Refused on another file system, for example. Then it is copied.
        let is_linked = self.target.disk.hard_link(&from, &self.copies.path_of(&name)).is_ok();
        Ok(is_linked && self.copies.has_linked(layers, run, interval)?)
    }

    fn step(&mut self, bytes: u64) -> Result<()> {
        self.progress.bytes += bytes;
        (self.told)(self.progress)
    }
}
