//! Runs of which a part cannot be read, and what merges take of them (`MERGING.md`, 8).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::keyspaces::KeyspaceList;
use super::merge::Retain;
use super::named::Place;
use super::run::rescue::{Bad, Remains, RemainsCursor, Survey};
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::format::WORD;
use crate::format::table::data::Interval;
use crate::format::table::manifest::NamedRun;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::root::Range;
use crate::format::table::run::RunHeader;
use crate::format::table::{FileKind, behind, file_name, full_range, number_of};
use crate::rt::sync::Mutex;

/// Those that were looked at again, by the numbers of their files. In memory alone: after an open they are found again.
#[derive(Debug, Default)]
pub(crate) struct DamagedRuns {
    by_number: Mutex<BTreeMap<u64, Arc<DamagedRun>>>,
}

/// What is left of a run.
#[derive(Debug)]
pub(crate) struct DamagedRun {
    remains: Arc<Remains>,
    /// The keys of blocks that cannot be read. A merge may miss these, and no others.
    unreadable: Vec<Bad>,
    range: Range,
    /// Of the layer.
    interval: Interval,
    /// How often more was wrong with it.
    looks: u32,
}

/// The next attempt follows at once so often. On a disk whose errors come and go there would be no end.
const AT_ONCE: u32 = 4;

impl DamagedRuns {
    pub(super) fn get(&self, number: u64) -> Option<Arc<DamagedRun>> {
        self.by_number.lock().get(&number).cloned()
    }

    /// Reads a run of a layer with this interval once more, in full. Returns whether something else is wrong with it than was known.
    ///
    /// # Errors
    /// Its file is not there in its length, or nothing tells that it is this run; an error of the system that says nothing of it.
    pub(super) fn look_again(&self, place: Place<'_>, named: &NamedRun, interval: Interval) -> Result<bool> {
        let name = file_name(named.file.number, FileKind::Run);
        let file = place.open_named(&name, &named.file)?;
        let remains = Arc::new(Remains::open(file, &place.path.join(&name), Some(named))?);
        let Survey { unreadable, fault, passing, .. } = remains.survey()?;
        passing.map_or(Ok(()), Err)?;
        if fault.is_none() {
            self.by_number.lock().remove(&named.file.number);
            return Ok(false);
        }
        let known = self.get(named.file.number);
        let looks = known.as_ref().map_or(0, |known| known.looks) + 1;
        let damaged = DamagedRun { remains, unreadable, range: named.range.clone(), interval, looks };
        let is_new = known.is_none_or(|known| !known.is_as(&damaged));
        if is_new {
            self.by_number.lock().insert(named.file.number, Arc::new(damaged));
        }
        Ok(is_new && looks <= AT_ONCE)
    }

    /// Forgets those that no layer has any more.
    pub(super) fn retain(&self, is_named: impl Fn(u64) -> bool) {
        self.by_number.lock().retain(|number, _| is_named(*number));
    }
}

impl DamagedRun {
    /// Whether a merge takes the same of both.
    fn is_as(&self, other: &DamagedRun) -> bool {
        let bad = |one: &DamagedRun| {
            one.unreadable.iter().map(|bad| (bad.range.clone(), bad.older.clone())).collect::<Vec<_>>()
        };
        self.range_tombstones() == other.range_tombstones()
            && self.remains.knows_range_tombstones() == other.remains.knows_range_tombstones()
            && bad(self) == bad(other)
    }

    /// The entries that are whole.
    pub(super) fn cursor(&self) -> RemainsCursor {
        RemainsCursor::new(Arc::clone(&self.remains), self.unreadable.clone())
    }

    pub(super) fn header(&self) -> &RunHeader {
        &self.remains.header
    }

    pub(super) fn range_tombstones(&self) -> &[RangeTombstone] {
        &self.remains.range_tombstones
    }

    /// Whether a merge misses something of it.
    pub(super) fn has_lost(&self) -> bool {
        !(self.unreadable.is_empty() && self.remains.knows_range_tombstones())
    }

    /// What a merge misses of it that a reader can ask for, in these keyspaces.
    pub(super) fn lost(&self, keyspaces: &KeyspaceList, retain: &Retain) -> Vec<RangeTombstone> {
        let Interval { from, to } = self.interval;
        let mut lost = Vec::new();
        let mut add = |range: &Range, to: Lsn| {
            // It has nothing of a keyspace that came later.
            for keyspace in keyspaces.within(range.ids()).filter(|one| one.created <= self.interval.to) {
                let (low, high) = full_range(keyspace.id, &[], None);
                if let Some(Range { low: start, high: end }) = range.part_in(&Range { low, high }) {
                    lost.push(RangeTombstone { start, end, lsn: to, says: Says::LostAbove(from) });
                }
            }
        };
        if !self.remains.knows_range_tombstones() {
            add(&self.range, to);
            return lost;
        }
        for bad in &self.unreadable {
            if let Some(part) = bad.range.part_in(&self.range) {
                add(&part, to);
            }
            if let Some((key, lsn)) = &bad.older {
                let first = Lsn::new(from.get() + WORD);
                if first < *lsn && retain.needs(first, Some(*lsn)) {
                    add(&Range { low: key.clone(), high: behind(key.clone()) }, Lsn::new(lsn.get() - WORD));
                }
            }
        }
        lost
    }
}

/// The run that an error is about, if it is about one.
pub(super) fn run_of(error: &Error) -> Option<u64> {
    let name = error.file().and_then(Path::file_name)?.to_str()?;
    number_of(name).filter(|(_, kind)| *kind == FileKind::Run).map(|(number, _)| number)
}
