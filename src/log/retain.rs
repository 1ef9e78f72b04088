//! Retention: how old records are given up, and how old incarnations are forgotten.
//!
//! A retirement is HISTORY with its new `oldest` first, durably (O6), then the list of segments, then the files. What a
//! crash leaves of those the next open removes. The list changes under a lock without I/O; HISTORY is replaced, files are
//! removed and the directory is synced with no lock held that a commit of a begun incarnation needs.

use super::failure::Refused;
use super::incarnations::Replacing;
use super::inner::LogInner;
use super::pins::{Pin, Retiring};
use super::room::Short;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::history::History;
use crate::log::read::reader::SegmentInfo;
use crate::log::read::record_end::{Position, no_record_end, retired};

impl LogInner {
    /// Keeps the records after `position` until the pin is dropped.
    pub(crate) fn pin(&self, position: Position) -> Result<Pin> {
        self.check_process()?;
        let lsn = self.resolve(position)?;
        self.retention.pin(lsn).map_err(|gone| retired(gone, lsn))
    }

    /// Removes segments whose records all lie at or below `up_to`, where a durable record ends, and at or below every pin.
    pub(crate) fn retire(&self, up_to: Position) -> Result<()> {
        self.check_process()?;
        let lsn = self.lsn_of(up_to)?;
        if lsn.get() > self.positions().durable() {
            let message = format!("cannot retire up to {lsn}: the log is durable up to {} only", self.durable());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if lsn <= self.incarnations().oldest() {
            return Ok(());
        }
        // If `oldest` fell inside a record, recovery would find its remaining frames without their beginning, and would
        // refuse the log.
        let ends_record = self.proves_end(up_to, lsn);
        if lsn <= self.incarnations().oldest() {
            // Retired by another call meanwhile, which may have removed what this one read.
            return Ok(());
        }
        if !ends_record? {
            return Err(no_record_end(lsn));
        }
        let retired = self.retire_alone(self.retention.retire(), lsn);
        retired.map_err(|refused| refused.raise(self))
    }

    fn retire_alone(&self, mut right: Retiring<'_>, up_to: Lsn) -> std::result::Result<(), Refused> {
        let up_to = right.announce(up_to);
        let gone = self.note_retired(up_to).inspect_err(|_| right.withdraw(self.incarnations().oldest()))?;
        // HISTORY says that they are retired: what cannot be removed goes with the next retirement, or open.
        let removed = right.remove(gone.iter().map(|info| info.path.clone()), &self.place);
        if !gone.is_empty() {
            self.place.sync_dir().map_err(|error| self.note_failure(error))?;
        }
        Ok(removed?)
    }

    /// Makes `up_to` the oldest position, durably; returns the segments that are no longer part of the log.
    fn note_retired(&self, up_to: Lsn) -> std::result::Result<Vec<SegmentInfo>, Refused> {
        let mut replacing = self.incarnations().replace();
        let mut history = replacing.history();
        if up_to <= history.oldest {
            return Ok(Vec::new());
        }
        history.oldest = up_to;
        self.refuse_if_over(&replacing)?;
        let is_gone = |info: &mut SegmentInfo| info.end <= up_to.get();
        let saved = replacing.save(&self.place, history, |segments| segments.extract_if(.., is_gone).collect());
        saved.map_err(|error| self.note_failure(error))
    }

    /// What a checkpoint does to the log (steps 8 to 12 of `table/FAULTS.md`): `install` makes a MANIFEST durable without
    /// which records up to `up_to` are needed, given how far the pins let go of them. Then their segments leave the list, and
    /// the directory as far as they can be removed; the next one, or the next open, removes the rest. If `is_there` says that
    /// the MANIFEST went elsewhere, or if the log has lost its files, nothing is removed, and the log stops.
    pub(crate) fn retire_into<T, E: From<Error>>(
        &self,
        up_to: Lsn,
        install: impl FnOnce(Lsn) -> std::result::Result<T, E>,
        is_there: impl Fn() -> Result<()>,
    ) -> std::result::Result<(T, Result<()>), E> {
        let mut right = self.retention.retire();
        self.check_ours(&is_there).map_err(E::from)?;
        let oldest = right.announce(self.not_retained(up_to));
        let installed = install(oldest).inspect_err(|_| right.withdraw(self.incarnations().oldest()))?;
        self.retention.retained().known = up_to;
        match self.check_ours(is_there) {
            // Memory has forgotten nothing of it: all is in the log, wherever that is now.
            Err(error) if self.poisoned().is_some() => return Err(E::from(error)),
            // The layer is installed, and nothing tells whose segments these are: they go another time.
            Err(error) => return Ok((installed, Err(error))),
            Ok(()) => {}
        }
        let gone = self.incarnations().retired_by_tables(oldest);
        // The directory is not synced for that: what comes back is removed by the next open.
        let removed = right.remove(gone.into_iter().map(|info| info.path), &self.place);
        Ok((installed, removed))
    }

    /// Refuses to change what is in the directory of the log, or of its tables, which `is_there` looks for, if it is not the one
    /// that the log was opened in: someone may have restored a copy over it. Then the log stops, also if it is closed or
    /// poisoned.
    pub(crate) fn check_ours(&self, is_there: impl FnOnce() -> Result<()>) -> Result<()> {
        let ours = self.refuse_if_over(&self.incarnations().replace());
        let looked = || self.place.handle().check_lock().and_then(|()| is_there());
        ours.and_then(|()| looked().map_err(|error| self.note_failure(error)))
            .map_err(|refused| self.raise_later(refused))
    }

    /// Stops the log if a segment is not there as it should be: commits would go into a file that no open finds.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`].
    pub(crate) fn stop_unless_whole(&self) -> Result<()> {
        // While HISTORY is replaced its length is not known.
        let _right = self.incarnations().replace();
        self.check_whole().map_err(|error| match error.kind() {
            ErrorKind::Removed => self.raise_later(self.note_failure(error)),
            _ => error,
        })
    }

    /// What to tell of a failed change to the directory. The log stops if it was final.
    pub(crate) fn note_change(&self, error: Error) -> Error {
        self.raise_later(self.note_failure(error))
    }

    /// Sets the bit of tables in HISTORY, durably, before the first MANIFEST (F1), once for each open.
    pub(crate) fn announce_tables(&self) -> Result<()> {
        self.announce(|history| {
            history.tables.get_or_insert_default();
        })
    }

    /// Sets the bit of range deletions in HISTORY, durably, before the first record that has one is appended (F1), once in the
    /// life of a database.
    pub(crate) fn announce_ranges(&self) -> Result<()> {
        if self.knows_ranges() { Ok(()) } else { self.announce(|history| history.has_ranges = true) }
    }

    /// Whether HISTORY has their bit, durably.
    pub(crate) fn knows_ranges(&self) -> bool {
        // What was found at the open may be in the cache alone, until an incarnation has begun.
        self.has_begun() && self.incarnations().look(|known| known.history.has_ranges)
    }

    fn announce(&self, set: impl FnOnce(&mut History)) -> Result<()> {
        let announce = || {
            self.try_begin(Short::Made)?;
            let mut replacing = self.incarnations().replace();
            let mut history = replacing.history();
            set(&mut history);
            self.refuse_if_over(&replacing)?;
            replacing.save(&self.place, history, |_| ()).map_err(|error| self.note_failure(error))
        };
        announce().map_err(|refused| self.raise_later(refused))
    }

    /// Forgets how incarnations below `number` ended; tokens of theirs are answered `Pruned` from then on.
    pub(crate) fn prune_history(&self, number: u64) -> Result<()> {
        self.check_process()?;
        self.prune(number).map_err(|refused| refused.raise(self))
    }

    fn prune(&self, number: u64) -> std::result::Result<(), Refused> {
        let mut replacing = self.incarnations().replace();
        let mut history = replacing.history();
        let oldest = self.incarnations().oldest();
        let prunable = history
            .entries
            .iter()
            .take_while(|entry| {
                entry.incarnation.number < number && entry.end.is_some_and(|end| end.prepared <= oldest)
            })
            .count();
        if prunable == 0 {
            return Ok(());
        }
        history.entries.drain(..prunable);
        history.first_number += prunable as u64;
        self.refuse_if_over(&replacing)?;
        replacing.save(&self.place, history, |_| ()).map_err(|error| self.note_failure(error))
    }

    /// Refuses to replace HISTORY if the log is closed or poisoned, or if its files were removed.
    fn refuse_if_over(&self, right: &Replacing<'_>) -> std::result::Result<(), Refused> {
        if self.appender().is_stopped() {
            return Err(self.refusal().into());
        }
        let are_ours = self.check_segments().and_then(|()| self.refuse_foreign_history(right));
        are_ours.map_err(|error| self.note_failure(error))
    }
}
