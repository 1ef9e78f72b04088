//! What there is to salvage from: the segments by incarnation and place, whatever their files are called, and what
//! HISTORY says of them if it can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::files::TableFiles;
use super::{BadFile, Gap, LossCause};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::options::MAX_SEGMENT_BYTES;
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::Access;
use crate::format::features::TABLES;
use crate::format::history::{Entry, FILE_NAME, History};
use crate::format::identity::Identity;
use crate::format::segment::{SEGMENT_HEADER, SegmentHeader, base_of, file_name};
use crate::log::log_dir::LogDir;
use crate::log::open::directory::{read_history, read_info};
use crate::log::read::reader::SegmentInfo;
use crate::log::read::walk::Frames;

/// One incarnation: its segments by base, each with its copies.
#[derive(Debug)]
pub(super) struct IncarnationParts {
    pub(super) incarnation: Incarnation,
    /// HISTORY lists it.
    pub(super) listed: bool,
    /// As HISTORY says.
    pub(super) begin: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) segments: BTreeMap<u64, Vec<SegmentInfo>>,
}

#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) history: Option<History>,
    /// In order.
    pub(super) incarnations: Vec<IncarnationParts>,
    pub(super) bad_files: Vec<BadFile>,
    /// What no incarnation is known to miss.
    pub(super) lost: Vec<Gap>,
    /// Of the log that is meant, if anything tells.
    pub(super) log_id: Option<LogId>,
    /// Segments say that there are tables, and HISTORY does not: it is gone, or older than they are.
    pub(super) says_tables: bool,
}

/// The part of an identity that all segments of an incarnation share.
type Writer = (LogId, u64, u64, u64);

fn writer_of(identity: &Identity) -> Writer {
    (identity.log_id, identity.incarnation.number, identity.incarnation.nonce, identity.key)
}

impl Inventory {
    pub(super) fn take(place: &LogDir, names: &[OsString], tables: &TableFiles) -> Result<Self> {
        let (history, incarnations, bad_files, lost, log_id) = Default::default();
        let mut inventory = Inventory { history, incarnations, bad_files, lost, log_id, says_tables: false };
        let unread = inventory.read_history(place)?;
        let mut segments = Vec::new();
        let mut headless = Vec::new();
        let bases: Vec<u64> = names.iter().filter_map(|name| base_of(name.to_str()?)).collect();
        if bases.is_empty() && inventory.history.is_none() && tables.is_empty() {
            if let Some(error) = unread {
                return Err(error);
            }
            let message = format!("there is nothing of a forelog database in {}", place.dir().display());
            return Err(Error::new(ErrorKind::NotADatabase, message));
        }
        for base in bases {
            match read_info(place, base) {
                Ok(info) => segments.push((base, info)),
                // What a newer build wrote would be saved in part, and read as something else.
                Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                Err(error) => headless.push((base, LossCause::of(&error, DamageCause::BadHeader))),
            }
        }
        // Found before any is added: a segment that was rebuilt is no evidence for the identity of another.
        let rebuilt: Vec<_> = headless.iter().map(|(base, _)| inventory.rebuild(place, *base, &segments)).collect();
        for ((base, cause), rebuilt) in headless.into_iter().zip(rebuilt) {
            match rebuilt {
                Some(info) => {
                    inventory.note(&info.path, cause);
                    segments.push((base, info));
                }
                None => inventory.give_up(place, base, cause),
            }
        }
        inventory.sort(segments);
        inventory.says_tables = inventory.proves_tables(place);
        Ok(inventory)
    }

    /// Whether segments of this log alone say that there are tables. A HISTORY with the bit decides by itself: before the
    /// first MANIFEST it has the bit, and nothing is missing. A segment without a record, of an incarnation that HISTORY does
    /// not list, was made for a HISTORY that a power loss took.
    fn proves_tables(&self, place: &LogDir) -> bool {
        if self.history.as_ref().is_some_and(|history| history.tables.is_some()) {
            return false;
        }
        let is_used = |info: &SegmentInfo| {
            Frames::open(place, info).is_ok_and(|mut frames| frames.next_whole(info.first_frame()).is_some())
        };
        let says = |parts: &IncarnationParts, info: &SegmentInfo| {
            info.header.features & TABLES != 0 && (self.history.is_none() || parts.listed || is_used(info))
        };
        self.incarnations.iter().any(|parts| parts.segments.values().flatten().any(|info| says(parts, info)))
    }

    /// Without an identity no frame of it can be proven. HISTORY, if it is there, tells whether it is missed.
    fn give_up(&mut self, place: &LogDir, base: u64, cause: LossCause) {
        let file = place.path(&file_name(base));
        if self.history.is_none() {
            let length = place.open(&file, Access::Read).and_then(|file| file.len()).ok();
            let to = length.map(|length| Lsn::new(base.saturating_add(length.min(MAX_SEGMENT_BYTES))));
            self.lost.push(Gap { file: file.clone(), from: Lsn::new(base), to, cause });
        }
        self.note(&file, cause);
    }

    fn note(&mut self, file: &Path, cause: LossCause) {
        self.bad_files.push(BadFile { file: file.to_owned(), cause });
    }

    /// Returns the error if a HISTORY is there and the system does not let it be read.
    fn read_history(&mut self, place: &LogDir) -> Result<Option<Error>> {
        match read_history(place) {
            Ok(history) => self.history = Some(history),
            Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
            Err(error) => {
                self.note(&place.path(FILE_NAME), LossCause::of(&error, DamageCause::BadHistory));
                let is_there = |cause: &io::Error| cause.kind() != io::ErrorKind::NotFound;
                return Ok((error.kind() == ErrorKind::Io && error.io_error().is_some_and(is_there)).then_some(error));
            }
        }
        Ok(None)
    }

    /// A segment whose header is gone: its name tells the base, HISTORY or a neighbour the rest of its identity; that
    /// a frame checks by it proves it. No more of the file is read than a segment can hold.
    fn rebuild(&self, place: &LogDir, base: u64, others: &[(u64, SegmentInfo)]) -> Option<SegmentInfo> {
        let path = place.path(&file_name(base));
        let length = place.open(&path, Access::Read).and_then(|file| file.len()).ok()?;
        let size = length.min(MAX_SEGMENT_BYTES);
        if !base.is_multiple_of(SEGMENT_HEADER) || base > HIGHEST_BASE || size <= SEGMENT_HEADER {
            return None;
        }
        let previous = others.iter().map(|(_, info)| info).find(|info| info.header.limit() == base);
        let previous = previous.map_or(base, SegmentInfo::base);
        self.writers_near(base, others).into_iter().find_map(|(log_id, number, nonce, key)| {
            let identity = Identity { log_id, incarnation: Incarnation { number, nonce }, key, base };
            let header = SegmentHeader { identity, size, previous, features: 0 };
            let info = SegmentInfo { end: header.limit(), header, path: path.clone(), length };
            Frames::open(place, &info).ok()?.next_whole(info.first_frame())?;
            Some(info)
        })
    }

    /// Who may have written the segment at `base`. The file is read once for each, so that only those count that wrote
    /// around it: the incarnations in which HISTORY has the position, and the writers of the nearest segments on both
    /// sides, of each log whose segments are here.
    fn writers_near(&self, base: u64, others: &[(u64, SegmentInfo)]) -> BTreeSet<Writer> {
        let mut writers = BTreeSet::new();
        for entry in self.history.iter().flat_map(|history| &history.entries) {
            let prepared = entry.end.map_or(u64::MAX, |end| end.prepared.get());
            if (entry.begin.get()..prepared).contains(&base) {
                let log_id = self.history.as_ref().map_or(LogId([0; 16]), |history| history.log_id);
                writers.insert((log_id, entry.incarnation.number, entry.incarnation.nonce, entry.key));
            }
        }
        let mut near: BTreeMap<(LogId, bool), (u64, BTreeSet<Writer>)> = BTreeMap::new();
        for info in others.iter().map(|(_, info)| info) {
            let writer = writer_of(&info.header.identity);
            let distance = info.base().abs_diff(base);
            let (nearest, at) = near.entry((writer.0, info.base() < base)).or_insert((distance, BTreeSet::new()));
            if distance < *nearest {
                (*nearest, *at) = (distance, BTreeSet::new());
            }
            if distance == *nearest {
                at.insert(writer);
            }
        }
        writers.extend(near.into_values().flat_map(|(_, at)| at));
        writers
    }

    /// Sorts the segments by incarnation, and out what is not of this log.
    fn sort(&mut self, segments: Vec<(u64, SegmentInfo)>) {
        let log_id = self.history.as_ref().map(|history| history.log_id).or_else(|| most_common(&segments));
        self.log_id = log_id;
        let mut numbers: BTreeMap<u64, Vec<(Writer, Vec<SegmentInfo>)>> = BTreeMap::new();
        for (named, info) in segments {
            let writer = writer_of(&info.header.identity);
            if Some(writer.0) != log_id || self.is_of_another_branch(&writer) {
                self.note(&info.path, LossCause::Foreign);
                continue;
            }
            if named != info.base() {
                self.note(&info.path, BAD_HEADER);
            }
            let writers = numbers.entry(writer.1).or_default();
            match writers.iter_mut().find(|(known, _)| *known == writer) {
                Some((_, segments)) => segments.push(info),
                None => writers.push((writer, vec![info])),
            }
        }
        for (number, mut writers) in numbers {
            // Two branches without a HISTORY that says which is this one's: the one with more to save.
            writers.sort_by_key(|(_, segments)| segments.len());
            let Some((writer, segments)) = writers.pop() else { continue };
            for info in writers.into_iter().flat_map(|(_, segments)| segments) {
                self.note(&info.path, LossCause::Foreign);
            }
            self.add_incarnation(number, Incarnation { number, nonce: writer.2 }, segments);
        }
        self.add_lives_without_segments();
    }

    /// What HISTORY, if it is there, says of an incarnation.
    fn listed(&self, number: u64) -> Option<&Entry> {
        let history = self.history.as_ref()?;
        history.entries.get(usize::try_from(number.checked_sub(history.first_number)?).ok()?)
    }

    fn is_of_another_branch(&self, (_, number, nonce, key): &Writer) -> bool {
        self.listed(*number).is_some_and(|entry| (entry.incarnation.nonce, entry.key) != (*nonce, *key))
    }

    fn add_incarnation(&mut self, number: u64, incarnation: Incarnation, segments: Vec<SegmentInfo>) {
        let mut by_base: BTreeMap<u64, Vec<SegmentInfo>> = BTreeMap::new();
        for info in segments {
            by_base.entry(info.base()).or_default().push(info);
        }
        for copies in by_base.values_mut() {
            copies.sort_by_key(|info| std::cmp::Reverse(info.length));
        }
        if self.history.as_ref().is_some_and(|history| number < history.first_number) {
            return; // retired, and pruned
        }
        let entry = self.listed(number).copied();
        let (begin, end) =
            (entry.map(|entry| entry.begin.get()), entry.and_then(|entry| entry.end).map(|end| end.lsn.get()));
        let listed = entry.is_some();
        self.incarnations.push(IncarnationParts { incarnation, listed, begin, end, segments: by_base });
    }

    fn add_lives_without_segments(&mut self) {
        let Some(history) = &self.history else { return };
        for entry in &history.entries {
            let known = self.incarnations.iter().any(|parts| parts.incarnation.number == entry.incarnation.number);
            let end = entry.end.map(|end| end.lsn.get());
            let needed = end.is_none_or(|end| end > entry.begin.get().max(history.oldest.get()));
            if !known && needed {
                let (incarnation, begin) = (entry.incarnation, Some(entry.begin.get()));
                self.incarnations.push(IncarnationParts {
                    incarnation,
                    listed: true,
                    begin,
                    end,
                    segments: BTreeMap::new(),
                });
            }
        }
        self.incarnations.sort_by_key(|parts| parts.incarnation.number);
    }
}

/// Above this a segment of the largest size would not end within the positions that there are.
const HIGHEST_BASE: u64 = u64::MAX - MAX_SEGMENT_BYTES - SEGMENT_HEADER;

const BAD_HEADER: LossCause = LossCause::Damaged(DamageCause::BadHeader);

fn most_common(segments: &[(u64, SegmentInfo)]) -> Option<LogId> {
    let id = |info: &SegmentInfo| info.header.identity.log_id;
    let count = |wanted: LogId| segments.iter().filter(|(_, info)| id(info) == wanted).count();
    segments.iter().map(|(_, info)| id(info)).max_by_key(|log_id| count(*log_id))
}
