//! What became of a commit: the answer to a token, for ever.

use super::record_end::first_end;
use super::shared::{Lives, Shared};
use crate::disk::Access;
use crate::format::WORD;
use crate::format::history::History;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::plant::planted;
use crate::words::types::{Lsn, Outcome, Token};

impl Shared {
    /// What became of the commit that `token` names (promise 4).
    pub(crate) fn outcome(&self, token: &Token) -> Result<Outcome> {
        self.check_process()?;
        if token.log_id != self.log_id {
            return Ok(Outcome::Foreign);
        }
        if token.lsn == Lsn::ZERO {
            // What a transaction that read an empty log, and wrote nothing, was given.
            return Ok(if token.incarnation.number == 0 { Outcome::Durable } else { Outcome::Invalid });
        }
        if let Some(&(incarnation, begin)) = self.incarnation.get()
            && incarnation == token.incarnation
        {
            return Ok(self.outcome_in_this_life(token.lsn.get(), begin));
        }
        Ok(outcome_in_history(&self.lives.lock().history, token))
    }

    fn outcome_in_this_life(&self, lsn: u64, begin: u64) -> Outcome {
        // In this order: what is not appended when asked may be durable a moment later.
        let durable = self.positions.durable();
        let poisoned = self.poisoned().is_some();
        if !may_end_there(lsn, begin) {
            Outcome::Invalid
        } else if lsn <= durable {
            Outcome::Durable
        } else if lsn > self.positions.appended() {
            Outcome::Invalid
        } else if poisoned {
            Outcome::Indeterminate
        } else {
            Outcome::Pending
        }
    }

    /// Forgets how incarnations below `number` ended; tokens of theirs are answered `Pruned` from then on.
    pub(crate) fn prune_history(&self, number: u64) -> Result<()> {
        self.check_process()?;
        let pruned = self.prune_holding(&mut self.lives.lock(), number);
        self.tell_if_poisoned();
        pruned
    }

    fn prune_holding(&self, lives: &mut Lives, number: u64) -> Result<()> {
        let history = &lives.history;
        let prunable = history
            .lives
            .iter()
            .take_while(|life| {
                life.incarnation.number < number && life.end.is_some_and(|end| end.prepared <= history.oldest)
            })
            .count();
        if prunable == 0 {
            return Ok(());
        }
        let mut pruned = history.clone();
        pruned.lives.drain(..prunable);
        pruned.first_number += prunable as u64;
        self.save_history(&pruned)?;
        lives.history = pruned;
        Ok(())
    }

    /// Replaces HISTORY outside the begin and end of an incarnation.
    fn save_history(&self, history: &History) -> Result<()> {
        if self.core.lock().stopped {
            return Err(self.refusal());
        }
        self.check_segments().and_then(|()| self.place.save(history)).map_err(|error| self.note_failure(error))
    }

    /// Removes segments whose records all lie at or below `up_to`, which must be the LSN of a durable record (O6).
    pub(crate) fn retire(&self, up_to: Lsn) -> Result<()> {
        self.check_process()?;
        if up_to.get() > self.positions.durable() {
            let message = format!("cannot retire up to {up_to}: the log is durable up to {} only", self.durable());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if up_to <= self.lives.lock().history.oldest {
            return Ok(());
        }
        // If `oldest` fell inside a record, recovery would find its remaining frames without their beginning, and would
        // refuse the log.
        let ends_record = self.ends_record(up_to.get());
        if up_to <= self.lives.lock().history.oldest {
            // Retired by another call meanwhile, which may have removed what this one read.
            return Ok(());
        }
        if !ends_record? {
            let message = format!("cannot retire up to {up_to}: no record ends there");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let retired = self.retire_holding(&mut self.lives.lock(), up_to);
        self.tell_if_poisoned();
        retired
    }

    fn retire_holding(&self, lives: &mut Lives, up_to: Lsn) -> Result<()> {
        if up_to <= lives.history.oldest {
            return Ok(());
        }
        let mut history = lives.history.clone();
        history.oldest = up_to;
        self.save_history(&history)?;
        lives.history = history;
        let retired = |info: &super::reader::SegmentInfo| {
            let last = if planted!("retire-what-is-needed") { info.base() } else { info.end };
            last <= up_to.get()
        };
        let gone: Vec<_> = lives.catalogue.extract_if(.., |info| retired(info)).collect();
        let mut removed = Ok(());
        for info in &gone {
            if planted!("race-recycled-under-a-reader") {
                let _ = self.place.open(&info.path, Access::Write).and_then(|file| file.set_len(0));
            }
            // HISTORY says that they are retired: what cannot be removed now goes with the next open.
            removed = removed.and(self.place.remove(&info.path));
        }
        if !gone.is_empty() {
            self.place.sync_dir().map_err(|error| self.note_failure(error))?;
        }
        removed
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.positions.durable())
    }
}

/// Whether a record of an incarnation that began at `begin` can end at `lsn`, as far as arithmetic tells. More would need
/// the segments, which may be retired, and an answer never changes.
fn may_end_there(lsn: u64, begin: u64) -> bool {
    lsn.is_multiple_of(WORD) && lsn >= first_end(begin)
}

fn outcome_in_history(history: &History, token: &Token) -> Outcome {
    let number = token.incarnation.number;
    if number == 0 {
        return Outcome::Invalid;
    }
    if number < history.first_number {
        return Outcome::Pruned;
    }
    let index = usize::try_from(number - history.first_number).unwrap_or(usize::MAX);
    match history.lives.get(index) {
        Some(life) if life.incarnation == token.incarnation => match life.end {
            _ if !may_end_there(token.lsn.get(), life.begin.get()) => Outcome::Invalid,
            Some(end) if planted!("lost-called-durable") && token.lsn <= end.prepared => Outcome::Durable,
            Some(end) if token.lsn <= end.lsn => Outcome::Durable,
            Some(end) if token.lsn <= end.prepared => Outcome::Lost,
            _ => Outcome::Invalid,
        },
        // A life that this directory never had: it was copied before, or is another branch.
        _ => Outcome::Foreign,
    }
}
