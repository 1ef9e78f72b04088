//! Whether what an open refuses is a directory that was copied file by file while its engine ran (`BACKUP.md`, "A directory
//! that was copied while its engine ran").

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use crate::base::error::{Error, ErrorKind};
use crate::base::types::Lsn;
use crate::disk::{Access, Dir, DirHandle, LockHeld, read_exact_at};
use crate::format::history::{self, History};
use crate::format::segment::{base_of, file_name};
use crate::format::table::data::Interval;
use crate::format::table::manifest::{self, Manifest};
use crate::format::table::run::{RunHeader, SECTOR};
use crate::format::table::{DIRECTORY, FileKind, number_of};
use crate::log::log_dir::LogDir;
use crate::log::mark::Slots;
use crate::log::open::directory::{read_history, read_info};
use crate::table::list::read_list;

/// An error of an open with the reason, if the files in the directory prove to be of different moments. They must be locked:
/// an engine that runs meanwhile makes them so.
pub(super) fn explained(handle: &Arc<DirHandle>, error: Error) -> Error {
    let is_still = matches!(handle.lock_held(), LockHeld::Both | LockHeld::FileAlone { .. });
    if error.kind() != ErrorKind::Damaged || !is_still {
        return error;
    }
    match proof(&LogDir::new(Arc::clone(handle))) {
        Some(proof) => error.of_mixed_files(handle.path(), proof),
        None => error,
    }
}

/// Two files that are whole, and were never in the directory together.
struct Proof {
    older: String,
    newer: String,
    /// What shows it.
    why: &'static str,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proof { older, newer, why } = self;
        write!(f, "{older} is older than {newer}, {why}")
    }
}

impl Proof {
    fn new(older: &str, newer: impl Into<String>, why: &'static str) -> Option<Self> {
        Some(Proof { older: older.to_owned(), newer: newer.into(), why })
    }

    fn of_history(newer: impl Into<String>, why: &'static str) -> Option<Self> {
        Proof::new(history::FILE_NAME, newer, why)
    }
}

/// The first proof that there is, by the rows of the table. What cannot be read, or does not check, proves nothing.
fn proof(place: &LogDir) -> Option<Proof> {
    let history = read_history(place).ok()?;
    let tables = place.handle().dir().child(OsStr::new(DIRECTORY), Access::Read).ok();
    let manifest = tables.as_deref().and_then(|dir| manifest_of(dir, place, &history));
    newer_segment(place, &history)
        .or_else(|| newer_mark(place, &history))
        .or_else(|| newer_manifest(manifest.as_ref()?, &history))
        .or_else(|| older_manifest(manifest.as_ref()?, &history))
        .or_else(|| newer_run(tables.as_deref()?, manifest.as_ref()?, &history))
}

/// H1 and H2.
fn newer_segment(place: &LogDir, history: &History) -> Option<Proof> {
    let names = place.handle().list().ok()?;
    let bases = names.iter().filter_map(|name| base_of(name.to_str()?));
    for base in bases {
        let Ok(info) = read_info(place, base) else { continue };
        let identity = info.header.identity;
        if identity.log_id != history.log_id || identity.base != base {
            continue;
        }
        if identity.incarnation.number >= history.next_number() {
            if info.has_frames(place).unwrap_or(false) {
                return Proof::of_history(file_name(base), "which has records of an incarnation that it does not list");
            }
            continue;
        }
        let listed = history.entries.iter().any(|entry| entry.incarnation == identity.incarnation);
        if listed && info.header.features & !history.features_of_segments() != 0 {
            return Proof::of_history(file_name(base), "which uses a feature that it does not announce");
        }
    }
    None
}

/// H3.
fn newer_mark(place: &LogDir, history: &History) -> Option<Proof> {
    let marks = Slots::read(place).ok()?;
    let is_newer = marks.judge(history, place).is_err();
    is_newer.then(|| Proof::of_history("MARK", "which has noted a later position as durable"))?
}

/// MANIFEST, if it is whole and of this log.
fn manifest_of(dir: &dyn Dir, place: &LogDir, history: &History) -> Option<Manifest> {
    let path = place.path(DIRECTORY).join(manifest::FILE_NAME);
    let file = dir.open(OsStr::new(manifest::FILE_NAME), Access::Read).ok()?;
    let manifest = Manifest::decode(&read_list(&*file, &path, Manifest::begin_check).ok()?).ok()?;
    (manifest.log_id == history.log_id).then_some(manifest)
}

/// H4.
fn newer_manifest(manifest: &Manifest, history: &History) -> Option<Proof> {
    if history.tables.is_none() {
        return Proof::of_history("MANIFEST", "which it does not announce");
    }
    let is_newer = manifest.branch.number >= history.next_number();
    is_newer.then(|| Proof::of_history("MANIFEST", "which goes up to an incarnation that it does not list"))?
}

/// M1.
fn older_manifest(manifest: &Manifest, history: &History) -> Option<Proof> {
    let (generation, _) = history.tables?.names?;
    let is_older = manifest.generation < generation;
    is_older.then(|| Proof::new("MANIFEST", history::FILE_NAME, "which names a later one"))?
}

/// M2.
fn newer_run(dir: &dyn Dir, manifest: &Manifest, history: &History) -> Option<Proof> {
    let names = dir.list().ok()?;
    let names = names.iter().filter_map(|name| name.to_str());
    for name in names.filter(|name| number_of(name).is_some_and(|(_, kind)| kind == FileKind::Run)) {
        let Some(header) = header_of(dir, name) else { continue };
        let is_listed = history.entries.iter().any(|entry| entry.incarnation == header.branch);
        let is_ours = header.identity.log_id == history.log_id && is_listed;
        if is_ours && is_behind(header.interval, manifest.to) {
            return Proof::new("MANIFEST", name, "which was written for a later one");
        }
    }
    None
}

/// Whether a MANIFEST that ends at `to` was replaced, durably, before a run of this interval was begun. Until it is, an attempt
/// begins its layer at `to`, or merges layers that end at or below it, or writes all that there is.
fn is_behind(interval: Interval, to: Lsn) -> bool {
    interval.to > to && interval.from != to && interval.from != Lsn::ZERO
}

fn header_of(dir: &dyn Dir, name: &str) -> Option<RunHeader> {
    let file = dir.open(OsStr::new(name), Access::Read).ok()?;
    let mut bytes = [0; SECTOR];
    read_exact_at(&*file, &mut bytes, 0).ok()?;
    RunHeader::decode(&bytes).ok()
}
