//! HISTORY and the list of segments as they are on disk now, and which incarnation this open has begun.
//!
//! Two locks, in this order. The *right to replace HISTORY* is held during that I/O, and no commit needs it once the
//! incarnation has begun. `known` is held for a few instructions and never during I/O: the thread that prepares segments
//! takes it, and commits wait for that thread.

use std::sync::Arc;

use super::log_dir::{LogDir, Saved};
use crate::base::error::Result;
use crate::base::types::{Incarnation, LogId, Lsn, Token};
use crate::format::history::{Entry, History};
use crate::log::read::reader::SegmentInfo;
use crate::log::write::segment::Segment;
use crate::rt::sync::{Guard, Mutex, OnceLock};

#[derive(Debug)]
pub(crate) struct Incarnations {
    log_id: LogId,
    /// The incarnations before this open: their tokens need no lock.
    past: Box<[Entry]>,
    /// The incarnation that this open has begun, and the base of its first segment.
    current: OnceLock<(Incarnation, u64)>,
    replacing: Mutex<Attempt>,
    known: Mutex<Known>,
}

/// What failed attempts to begin this open's incarnation have left.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// The incarnation, once it was drawn.
    pub(super) drawn: Option<Entry>,
    /// Its first segment, durable, from an attempt that HISTORY failed.
    pub(super) first_segment: Option<Arc<Segment>>,
    /// How often in a row HISTORY was gone and could not be written again.
    pub(super) refused_repairs: u32,
}

/// What is on disk.
#[derive(Debug)]
pub(crate) struct Known {
    pub(super) history: History,
    /// Everything at or below this is retired: by HISTORY, or by a MANIFEST that is durable.
    pub(crate) oldest: Lsn,
    /// HISTORY as this open has written it, if it has.
    pub(super) saved: Option<Saved>,
    /// It is being replaced.
    pub(super) is_saving: bool,
    /// It does not name the MANIFEST that is durable, as `history` does.
    is_behind: bool,
    /// All segments that hold or will hold log, in order.
    pub(crate) segments: Vec<SegmentInfo>,
}

impl Known {
    /// The incarnations that have log above `to`, the one that this open has begun among them.
    pub(crate) fn incarnations_above(&self, to: Lsn) -> usize {
        let above = self.segments.iter().filter(|info| info.end > to.get());
        let mut numbers: Vec<u64> = above.map(|info| info.header.identity.incarnation.number).collect();
        // The segments of each follow one another.
        numbers.dedup();
        numbers.len()
    }
}

impl SegmentInfo {
    pub(super) fn of(segment: &Segment) -> Self {
        SegmentInfo {
            header: *segment.header(),
            path: segment.path().clone(),
            length: segment.size(),
            end: segment.limit(),
        }
    }
}

impl Incarnations {
    /// `oldest` is at least HISTORY's.
    pub(super) fn new(history: History, oldest: Lsn, segments: Vec<SegmentInfo>) -> Self {
        Incarnations {
            log_id: history.log_id,
            past: history.entries.clone().into(),
            current: OnceLock::new(),
            replacing: Mutex::default(),
            known: Mutex::new(Known { history, oldest, saved: None, is_saving: false, is_behind: false, segments }),
        }
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The incarnation that this open has begun.
    pub(super) fn current(&self) -> Option<Incarnation> {
        self.current.get().map(|&(incarnation, _)| incarnation)
    }

    /// Base of its first segment; zero before it begins.
    pub(crate) fn begin(&self) -> u64 {
        self.current.get().map_or(0, |&(_, begin)| begin)
    }

    /// The name for ever of the commit at `lsn`.
    pub(super) fn token(&self, lsn: Lsn) -> Token {
        let incarnation = match self.current.get() {
            Some(&(incarnation, begin)) if lsn.get() > begin => incarnation,
            _ => {
                let entry = self.past.iter().rev().find(|entry| entry.begin < lsn);
                entry.map_or(Incarnation::NONE, |entry| entry.incarnation)
            }
        };
        Token { log_id: self.log_id, incarnation, lsn }
    }

    /// Everything at or below this is retired.
    pub(crate) fn oldest(&self) -> Lsn {
        self.known.lock().oldest
    }

    /// Looks at what is on disk. No I/O in `look`.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.lock())
    }

    /// Everything up to `oldest` is retired, as a MANIFEST says that is durable. Returns the segments that are no longer part
    /// of the log.
    pub(super) fn retired_by_tables(&self, oldest: Lsn) -> Vec<SegmentInfo> {
        let mut known = self.known.lock();
        known.oldest = known.oldest.max(oldest);
        let oldest = known.oldest.get();
        known.segments.extract_if(.., |info| info.end <= oldest).collect()
    }

    /// HISTORY is to name this MANIFEST when it is replaced next.
    pub(crate) fn name_manifest(&self, generation: u64, crc: u32) {
        let known = &mut *self.known.lock();
        if let Some(tables) = &mut known.history.tables {
            tables.names = Some((generation, crc));
            known.is_behind = true;
        }
    }

    /// HISTORY is not replaced to name what it does not.
    pub(crate) fn keep_named(&self) {
        self.known.lock().is_behind = false;
    }

    /// Whether HISTORY does not name the MANIFEST that is durable.
    pub(super) fn is_behind(&self) -> bool {
        self.known.lock().is_behind
    }

    /// Enters a segment that was prepared.
    pub(super) fn add(&self, segment: &Segment) {
        self.known.lock().segments.push(SegmentInfo::of(segment));
    }

    /// HISTORY as it is on disk, and where the last segment ends; zero if there is none.
    pub(crate) fn on_disk(&self) -> (History, Lsn) {
        let known = self.known.lock();
        (known.history.clone(), Lsn::new(known.segments.last().map_or(0, |last| last.end)))
    }

    /// The right to replace HISTORY, for one thread at a time.
    pub(super) fn replace(&self) -> Replacing<'_> {
        Replacing { incarnations: self, attempt: self.replacing.lock() }
    }
}

/// HISTORY is being replaced, until this is dropped.
struct Saving<'a>(&'a Incarnations);

impl<'a> Saving<'a> {
    fn begin(incarnations: &'a Incarnations) -> Self {
        incarnations.known.lock().is_saving = true;
        Saving(incarnations)
    }
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.known.lock().is_saving = false;
    }
}

/// The right to replace HISTORY.
pub(crate) struct Replacing<'a> {
    incarnations: &'a Incarnations,
    pub(super) attempt: Guard<'a, Attempt>,
}

impl Replacing<'_> {
    /// HISTORY as it is on disk.
    pub(super) fn history(&self) -> History {
        self.incarnations.known.lock().history.clone()
    }

    /// Makes `history` the one on disk, durably; then it is known, together with the change that `then` makes to the list
    /// of segments. After an error nothing that is known has changed.
    pub(super) fn save<T>(
        &mut self,
        place: &LogDir,
        history: History,
        then: impl FnOnce(&mut Vec<SegmentInfo>) -> T,
    ) -> Result<T> {
        let _saving = Saving::begin(self.incarnations);
        let saved = place.save(&history)?;
        self.attempt.refused_repairs = 0;
        let mut known = self.incarnations.known.lock();
        known.oldest = known.oldest.max(history.oldest);
        // A MANIFEST may have become durable since this HISTORY was chosen.
        let names = known.history.tables.and_then(|tables| tables.names);
        (known.saved, known.history) = (Some(saved), history);
        known.is_behind = false;
        let known = &mut *known;
        if let Some(tables) = known.history.tables.as_mut().filter(|tables| tables.names < names) {
            tables.names = names;
            known.is_behind = true;
        }
        Ok(then(&mut known.segments))
    }

    /// The incarnation at the end of HISTORY is this open's, whose first segment has this base.
    pub(super) fn begun(&self, incarnation: Incarnation, begin: Lsn) {
        let _ = self.incarnations.current.set((incarnation, begin.get()));
    }
}
