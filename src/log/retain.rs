//! Retention: how old records are given up, and how old incarnations are forgotten.
//!
//! A retirement is HISTORY with its new `oldest` first, durably (O6), then the list of segments, then the files. What a
//! crash leaves of those the next open removes. The list changes under a lock without I/O; HISTORY is replaced, files are
//! removed and the directory is synced with no lock held that a commit of a begun incarnation needs.

use super::failure::Refused;
use super::incarnations::Replacing;
use super::inner::LogInner;
use super::pins::{Pin, Retiring};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
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
        let retired = self.retire_alone(&self.retention.retire(), lsn);
        retired.map_err(|refused| refused.raise(self))
    }

    fn retire_alone(&self, right: &Retiring<'_>, up_to: Lsn) -> std::result::Result<(), Refused> {
        let up_to = right.announce(up_to);
        let gone = self.note_retired(up_to).inspect_err(|_| right.withdraw(self.incarnations().oldest()))?;
        let mut removed = Ok(());
        for info in &gone {
            // HISTORY says that they are retired: what cannot be removed now goes with the next open.
            removed = removed.and(self.place.remove(&info.path));
        }
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
    /// the directory as far as they can be removed; the next open removes the rest.
    pub(crate) fn retire_into<T, E: From<Error>>(
        &self,
        up_to: Lsn,
        install: impl FnOnce(Lsn) -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Result<()>), E> {
        let right = self.retention.retire();
        // The directory must still be the one that this log is in: someone may have restored a copy over it.
        let ours = self.refuse_if_over(&self.incarnations().replace());
        ours.map_err(|refused| refused.raise(self)).map_err(E::from)?;
        let oldest = right.announce(up_to);
        let installed = install(oldest).inspect_err(|_| right.withdraw(self.incarnations().oldest()))?;
        let still = self.check_segments().and_then(|()| self.place.handle().check_lock());
        if let Err(error) = still {
            // Memory has forgotten nothing of it: all is in the log, wherever that is now.
            return Ok((installed, Err(self.note_failure(error).raise(self))));
        }
        let gone = self.incarnations().retired_by_tables(oldest);
        // The directory is not synced for that: what comes back is removed by the next open.
        let mut removed = Ok(());
        for segment in &gone {
            removed = removed.and(self.place.remove(&segment.path));
        }
        Ok((installed, removed))
    }

    /// Sets the bit of tables in HISTORY, durably, before the first MANIFEST (F1), once for each open.
    pub(crate) fn announce_tables(&self) -> Result<()> {
        self.begin()?;
        let announced = {
            let mut replacing = self.incarnations().replace();
            let mut history = replacing.history();
            history.tables.get_or_insert_default();
            self.refuse_if_over(&replacing)
                .and_then(|()| replacing.save(&self.place, history, |_| ()).map_err(|error| self.note_failure(error)))
        };
        announced.map_err(|refused| refused.raise(self))
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
