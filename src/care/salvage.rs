//! Salvage: every record and every entry that its checksums prove whole, from a database that may be in any state; and
//! what is missing. `format/TABLES.md`, section 4, decides which entries count.
//!
//! Recovery asks whether the log is what it must be, and refuses if it is not. This asks only what can be proven: a
//! frame by its checksums, which are bound to log, incarnation and place; a record by its frames. HISTORY, where it
//! can be read, tells what was dropped for good and must not come back, and what must be there. Nothing is changed.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::error::{DamageCause, Error, ErrorKind, Result, is_end_of_file};
use crate::base::types::Lsn;
use crate::disk::{DirHandle, LockHeld};
use crate::format::batch::{Batch, BatchBuilder, Op};
use crate::format::history::{FILE_NAME, History};
use crate::format::mark;
use crate::format::table::data::Interval;
use crate::format::table::manifest;
use crate::format::table::root::Range;
use crate::log::log_dir::LogDir;
use crate::log::mark::Slots;
use crate::log::open::unfinished::is_of_unfinished;
use crate::table::keyspaces::KeyspaceList;

mod cover;
mod files;
mod inventory;
mod layers;
mod tables;
mod walk;

use files::{Origin, TableFiles};
use inventory::{IncarnationParts, Inventory};
use tables::Tables;
use walk::{Taker, Walk};

/// Why something could not be salvaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LossCause {
    /// It is damaged or gone.
    Damaged(DamageCause),
    /// The operating system could not read it, so that nothing is known about it: once it can be read, another salvage
    /// may save it.
    Unreadable {
        /// The number of the operating system's error, where it has one.
        os_error: Option<i32>,
    },
    /// It did not land whole, and nothing proves that it was ever durable: a crash may have taken it, legally.
    Torn,
    /// The file is of another log, or of another branch of a copied directory.
    Foreign,
    /// The record is whole, and is no transaction: another program used this log.
    NotATransaction,
    /// The directory is an unfinished copy of a database: what is not in it was never written to it.
    Unfinished,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossCause::Damaged(cause) => cause.fmt(f),
            LossCause::Unreadable { os_error: None } => f.write_str("could not be read"),
            LossCause::Unreadable { os_error: Some(code) } => {
                write!(f, "could not be read: {}", io::Error::from_raw_os_error(*code))
            }
            LossCause::Torn => f.write_str("not written whole, and never proven durable"),
            LossCause::Foreign => f.write_str("of another log, or of another branch of a copied directory"),
            LossCause::Unfinished => f.write_str("this is an unfinished copy, which holds only a part of its database"),
            LossCause::NotATransaction => f.write_str("a record that is no transaction"),
        }
    }
}

impl LossCause {
    /// Why a read failed.
    fn of_io(error: &io::Error) -> Self {
        if is_end_of_file(error) {
            return LossCause::Damaged(DamageCause::WrongLength);
        }
        LossCause::Unreadable { os_error: error.raw_os_error() }
    }

    /// Why a file was refused: `cause`, unless it could not be read.
    fn of(error: &Error, cause: DamageCause) -> Self {
        match (error.kind(), error.io_error()) {
            (ErrorKind::Io, Some(source)) => LossCause::of_io(source),
            (ErrorKind::Io, None) => LossCause::Unreadable { os_error: None },
            _ => LossCause::Damaged(cause),
        }
    }
}

/// A part of the log that could not be salvaged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Gap {
    /// Where it is, or should be.
    pub file: PathBuf,
    /// Commits whose records lie above this position are missing...
    pub from: Lsn,
    /// ...up to and including the one that ends here; `None` if how much there was is not known.
    pub to: Option<Lsn>,
    /// What is wrong.
    pub cause: LossCause,
}

impl Gap {
    /// The part of it above `begin`.
    fn above(self, begin: Lsn) -> Option<Gap> {
        let is_there = self.to.is_none_or(|to| to > begin);
        is_there.then(|| Gap { from: self.from.max(begin), ..self })
    }
}

/// A file that could not be used, or not as what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BadFile {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub cause: LossCause,
}

/// How the commits that were salvaged relate to the order in which they were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Completeness {
    /// All commits up to one, without a hole.
    Prefix,
    /// Commits are missing below the last one that was salvaged.
    Holes,
    /// No hole was found. Without HISTORY, MANIFEST or a list of the keyspaces it cannot be proven that there is none.
    Unproven,
}

/// Keys of which writes are missing, as far as runs know it.
#[derive(Clone, Debug)]
pub(crate) struct LostKeys {
    /// Of full keys.
    pub(crate) range: Range,
    /// What was written in it is missing.
    pub(crate) interval: Interval,
    pub(crate) file: PathBuf,
    pub(crate) cause: LossCause,
}

/// The keyspaces that there were at the end of the newest layer, as far as a list tells.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) list: KeyspaceList,
    /// That end.
    pub(crate) at: Lsn,
    /// Ids below this that are not listed were dropped.
    pub(crate) settled_below: u32,
    /// Others that were dropped.
    pub(crate) dropped: BTreeSet<u32>,
}

/// What is made of what was found. First the keyspaces, if there are tables; then the entries, by key; then the records.
pub(crate) trait Save {
    /// The keyspaces, before anything that is in them.
    fn keyspaces(&mut self, listed: Listed) -> Result<()>;
    /// What a key had at the end of the newest layer.
    fn entry(&mut self, keyspace: u32, key: &[u8], value: &[u8]) -> Result<()>;
    /// A record, in LSN order; says whether it is one that can be used. Those up to the end of the newest layer bring
    /// writes alone: what they did to keyspaces is in the list.
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<bool>;
}

/// What was found besides the records.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) lost: Vec<Gap>,
    pub(crate) bad_files: Vec<BadFile>,
    /// In the order of their keys.
    pub(crate) lost_keys: Vec<LostKeys>,
    /// HISTORY could be read, and is not older than the log.
    pub(crate) history: bool,
    /// Something proves which files of the tables there must be: MANIFEST, or a log that needs none.
    pub(crate) are_tables_proven: bool,
    /// The interval in which keyspaces came or went that no list tells of; `None` if a list is proven to have all that there
    /// were at the end of the newest layer.
    pub(crate) unknown_keyspaces: Option<LostKeys>,
    /// How the directory was held meanwhile.
    pub(crate) lock: LockHeld,
}

impl Found {
    /// How the commits relate, of which the last one salvaged is at `last`.
    pub(crate) fn completeness(&self, last: Lsn) -> Completeness {
        match () {
            () if !self.lost_keys.is_empty() => Completeness::Holes,
            () if self.lost.iter().any(|lost| lost.from < last) => Completeness::Holes,
            () if self.history && self.are_tables_proven && self.unknown_keyspaces.is_none() => Completeness::Prefix,
            () => Completeness::Unproven,
        }
    }
}

/// Shows everything that can be proven whole to `save`.
pub(crate) fn salvage(dir: Arc<DirHandle>, save: &mut dyn Save) -> Result<Found> {
    let place = LogDir::new(dir);
    place.handle().lock_for_reading()?;
    let names = place.handle().list()?;
    let mut bad_tables = Vec::new();
    let files = TableFiles::look(&place, &mut bad_tables)?;
    let inventory = Inventory::take(&place, &names, &files)?;
    let Inventory { history, incarnations, bad_files, lost, log_id, says_tables } = inventory;
    let marks = Slots::read(&place);
    let mut found =
        Found { bad_files, history: history.is_some(), lock: place.handle().lock_held(), ..Found::default() };
    let unfinished = names.iter().filter(|name| is_of_unfinished(name));
    let unfinished = unfinished.map(|name| BadFile { file: place.dir().join(name), cause: LossCause::Unfinished });
    found.bad_files.extend(unfinished);
    let marks = marks.unwrap_or_else(|error| {
        let cause = LossCause::of(&error, DamageCause::Unlanded);
        found.bad_files.push(BadFile { file: place.path(mark::FILE_NAME), cause });
        Slots::default()
    });
    let (history, incarnations) = (history.as_ref(), incarnations.as_slice());
    let log = LogParts { place: &place, history, incarnations, marks: &marks, lost: &lost, says_tables };
    // Without the bit, a directory of that name that has no MANIFEST is another program's.
    let may_have_tables =
        history.is_none_or(|history| history.tables.is_some()) || files.has_our_manifest || says_tables;
    let begin = if may_have_tables {
        found.bad_files.append(&mut bad_tables);
        let segments = incarnations.iter().map(|parts| (parts.incarnation.number, parts.incarnation.nonce)).collect();
        let origin = Origin { history, log_id, segments, files: Default::default() };
        let has_manifest = files.manifest.is_some();
        let tables = Tables::choose(files, origin, &mut found.bad_files, &|interval| log.has_all(interval))?;
        log.save_tables(&tables, has_manifest, save, &mut found)?
    } else {
        found.are_tables_proven = true;
        log.floor()
    };
    let mut found = log.walk(begin, &mut |lsn, payload| save.record(lsn, payload), found)?;
    found.lost.extend(lost.into_iter().filter_map(|gap| gap.above(begin)));
    found.lost.sort_by_key(|lost| lost.from);
    Ok(found)
}

/// The log, as far as it is here.
struct LogParts<'p> {
    place: &'p LogDir,
    history: Option<&'p History>,
    incarnations: &'p [IncarnationParts],
    marks: &'p Slots,
    /// What is missing of no incarnation that is known.
    lost: &'p [Gap],
    /// As the inventory found.
    says_tables: bool,
}

/// What the records up to an LSN did to keyspaces.
type Keyspaces = Vec<(Lsn, BatchBuilder)>;

impl LogParts<'_> {
    /// Shows every record above `begin` to `take`.
    fn walk(&self, begin: Lsn, take: &mut Taker<'_>, found: Found) -> Result<Found> {
        let mut walk = Walk::new(self.place, begin, take, found);
        for parts in self.incarnations {
            walk.incarnation(parts, self.marks.proven(parts.incarnation))?;
        }
        Ok(walk.found)
    }

    /// Nothing below this is in the log, or counts.
    fn floor(&self) -> Lsn {
        let Some(history) = self.history else { return Lsn::ZERO };
        let first = history.entries.first().filter(|_| history.first_number > 1);
        first.map_or(history.oldest, |first| history.oldest.max(first.begin))
    }

    /// Saves what the tables have, and returns from where on the log goes on.
    fn save_tables(&self, tables: &Tables, has_manifest: bool, save: &mut dyn Save, found: &mut Found) -> Result<Lsn> {
        if (tables.is_history_old || self.says_tables) && std::mem::replace(&mut found.history, false) {
            let cause = LossCause::Damaged(DamageCause::BadHistory);
            found.bad_files.push(BadFile { file: self.place.path(FILE_NAME), cause });
        }
        let Whole { from: whole_from, changes, ends_at } = match layers::miss_nothing(tables) {
            // Then nobody needs what the log still has of it.
            true => Whole { from: tables.to, changes: Keyspaces::new(), ends_at: None },
            false => self.whole_from(tables, found.history)?,
        };
        // Without layers what lies below a hole counts as well: nothing else has it.
        let begin = if tables.to == Lsn::ZERO { self.floor() } else { whole_from };
        let is_named = self.history.and_then(|history| history.tables).is_some_and(|tables| tables.names.is_some());
        let is_log_whole = whole_from == Lsn::ZERO && found.history;
        found.are_tables_proven = tables.is_decided || is_log_whole;
        let manifest = tables.files.path.join(manifest::FILE_NAME);
        let told = found.bad_files.iter().find(|bad| bad.file == tables.files.path || bad.file == manifest);
        let (is_told, cause) = (told.is_some(), told.map_or(MISSING_TABLE, |bad| bad.cause));
        let has_tables = tables.evidence() > Lsn::ZERO || self.says_tables;
        // If the directory could not be read, nobody knows whether MANIFEST is there.
        if !has_manifest && !is_told && (is_named || (!is_log_whole && has_tables)) {
            found.bad_files.push(BadFile { file: manifest.clone(), cause });
        }
        if !tables.is_decided && is_log_whole {
            // What a checkpoint has left that was cut off is nobody's.
            let is_in_tables = |file: &PathBuf| file.starts_with(&tables.files.path) && *file != tables.files.path;
            found.bad_files.retain(|bad| !is_in_tables(&bad.file) || bad.file == manifest);
            return Ok(begin);
        }
        if tables.to == Lsn::ZERO {
            // What the tables had of the log is gone with them, up to the first segment at least.
            let first = self.bases().min().map(Lsn::new);
            let gap = self.says_tables.then_some(Gap { file: manifest, from: Lsn::ZERO, to: first, cause });
            // A list of keyspaces was written behind a record that was durable, and the log ends before it.
            let unlanded = ends_at.map(|from| {
                let cause = LossCause::Damaged(DamageCause::Unlanded);
                Gap { file: self.last_file(), from, to: Some(tables.evidence()), cause }
            });
            found.lost.extend(gap.into_iter().chain(unlanded).filter_map(|gap| gap.above(begin)));
            return Ok(begin);
        }
        let listed_at = tables.keyspaces.as_ref().map_or(Lsn::ZERO, |keyspaces| keyspaces.to);
        let joins = found.history && begin <= listed_at;
        let are_known = joins || (tables.is_decided && tables.keyspaces.is_some());
        found.unknown_keyspaces = (!are_known).then(|| unknown_keyspaces(tables, listed_at, begin, &found.bad_files));
        save.keyspaces(listed(tables, &changes, begin.max(listed_at), are_known))?;
        found.lost_keys = layers::save(tables, begin, save)?;
        Ok(begin)
    }

    /// Where the log ends, as far as it is here.
    fn last_file(&self) -> PathBuf {
        let segments = self.incarnations.iter().flat_map(|parts| parts.segments.values().flatten());
        segments.last().map_or_else(|| self.place.dir().to_owned(), |info| info.path.clone())
    }

    /// Whether the log has all records of an interval.
    fn has_all(&self, Interval { from, to }: Interval) -> Result<bool> {
        let mut has_end = false;
        let mut note = |lsn: Lsn, _: &[u8]| {
            has_end |= lsn == to;
            Ok(true)
        };
        let history = self.history.is_some();
        let found = self.walk(from, &mut note, Found { history, ..Found::default() })?;
        let begins = history || self.bases().any(|base| base <= from.get());
        let is_lost = |lost: &Gap| lost.from < to && lost.to.is_none_or(|end| end > from);
        Ok(has_end && begins && !found.lost.iter().chain(self.lost).any(is_lost))
    }

    /// Where the first segment of each incarnation begins.
    fn bases(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.incarnations.iter().filter_map(|parts| parts.segments.keys().next().copied())
    }

    /// From where on the log is whole up to the end of the layers, or up to its own if there are none.
    fn whole_from(&self, tables: &Tables, history: bool) -> Result<Whole> {
        let to = if tables.to == Lsn::ZERO { Lsn::new(u64::MAX) } else { tables.to };
        let evidence = tables.evidence();
        let mut changes = Keyspaces::new();
        let (mut last, mut has_end) = (self.floor(), evidence == Lsn::ZERO);
        let mut note = |lsn: Lsn, payload: &[u8]| {
            has_end |= lsn == evidence;
            last = last.max(lsn);
            let Ok(batch) = Batch::parse(payload) else { return Ok(false) };
            if lsn <= tables.to && !batch.only_writes() {
                changes.push((lsn, changes_of(&batch)));
            }
            Ok(true)
        };
        let floor = self.floor();
        let found = self.walk(floor, &mut note, Found { history, ..Found::default() })?;
        let lost = || found.lost.iter().chain(self.lost);
        let holes = lost().filter(|lost| lost.from < to);
        let behind_holes = holes.map(|lost| lost.to.unwrap_or(to).min(to)).max().unwrap_or(floor);
        let is_told = lost().any(|lost| lost.from < evidence && lost.to.is_none_or(|end| end >= evidence));
        let ends_at = (!has_end && !is_told && last < evidence).then_some(last);
        // A layer ends where a record did that was durable. A log without that record is older than the layer, or misses it:
        // its last records must not stand above what the layers have.
        let behind_holes = if has_end { behind_holes } else { evidence };
        if found.history {
            return Ok(Whole { from: behind_holes.max(floor).min(to), changes, ends_at });
        }
        let nearest = self.bases().rfind(|base| *base < to.get()).or_else(|| self.bases().next());
        let nearest = nearest.map_or(to, Lsn::new);
        let nearest = if tables.is_decided { nearest.min(to) } else { nearest };
        Ok(Whole { from: nearest.max(behind_holes), changes, ends_at })
    }
}

/// How whole the log is.
struct Whole {
    from: Lsn,
    /// What it did to keyspaces up to the end of the layers.
    changes: Keyspaces,
    /// It ends here, before a record that was durable, and nothing else tells that.
    ends_at: Option<Lsn>,
}

const MISSING_TABLE: LossCause = LossCause::Damaged(DamageCause::MissingTable);

/// Between the newest list and the begin of the log nothing tells of keyspaces.
fn unknown_keyspaces(tables: &Tables, listed_at: Lsn, begin: Lsn, bad_files: &[BadFile]) -> LostKeys {
    let is_list = |bad: &&BadFile| tables.files.keyspaces_at(&bad.file);
    let bad = bad_files.iter().find(is_list);
    let (file, cause) = bad.map_or((&tables.files.path, MISSING_TABLE), |bad| (&bad.file, bad.cause));
    let interval = Interval { from: listed_at, to: begin };
    LostKeys { range: Range::default(), interval, file: file.clone(), cause }
}

/// What a batch does to keyspaces.
fn changes_of(batch: &Batch<'_>) -> BatchBuilder {
    let mut changes = BatchBuilder::new();
    for op in batch {
        let may_be_one = op.keyspace() < u32::MAX;
        if may_be_one && matches!(op, Op::CreateKeyspace { .. } | Op::DropKeyspace { .. }) {
            changes.push(&op).expect("it was encoded once");
        }
    }
    changes
}

/// The keyspaces at the end of the layers, by the list that there is, and what the log did behind `since`.
fn listed(tables: &Tables, changes: &Keyspaces, since: Lsn, is_known: bool) -> Listed {
    let mut list = tables.keyspaces.as_ref().map_or_else(KeyspaceList::default, KeyspaceList::of);
    let (before, mut dropped) = (list.next_id(), BTreeSet::new());
    for (lsn, change) in changes.iter().filter(|(lsn, _)| *lsn > since) {
        list.add(*lsn, &change.batch());
        let drops = change.batch().iter().filter(|op| matches!(op, Op::DropKeyspace { .. }));
        dropped.extend(drops.map(|op| op.keyspace()));
    }
    let settled_below = if is_known { list.next_id() } else { before };
    Listed { list, at: tables.to, settled_below, dropped }
}
