//! What became of a commit: the answer to a token, for ever.

use super::reader::FrameReader;
use super::shared::{Lives, Shared};
use crate::disk::Access;
use crate::format::history::History;
use crate::format::verdict::FrameState;
use crate::words::error::{DamageCause, Error, ErrorKind, Result};
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
        if lsn <= begin {
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
        for info in &gone {
            if planted!("race-recycled-under-a-reader") {
                let _ = self.place.open(&info.path, Access::Write).and_then(|file| file.set_len(0));
            }
            self.place.remove(&info.path)?;
        }
        if gone.is_empty() { Ok(()) } else { self.place.sync_dir().map_err(|error| self.note_failure(error)) }
    }

    /// Whether a record ends at `lsn`, which is durable. Recovery skips what is left of a retired record only if it
    /// ends at or below `oldest`: a position inside of one would make the log one that is refused.
    fn ends_record(&self, lsn: u64) -> Result<bool> {
        let holder = self.lives.lock().catalogue.iter().find(|info| info.base() < lsn && lsn <= info.end).cloned();
        let Some(info) = holder else { return Ok(false) };
        let damaged = |position, cause| Error::damaged(&info.path, Lsn::new(position), cause);
        let mut reader = FrameReader::open(&self.place, &info)
            .map_err(|error| Error::unreadable(&info.path, Lsn::new(info.base()), error))?;
        let mut position = info.first_frame();
        while position < lsn
            && let Some(start) = info.place(position)
        {
            let examined = reader.examine(start);
            position = match (examined.state, examined.header, examined.error) {
                (FrameState::Valid, Some(header), _) if header.lsn == lsn => return Ok(header.kind.ends()),
                (FrameState::Valid, Some(header), _) => header.lsn,
                (_, _, Some(error)) => return Err(Error::unreadable(&info.path, Lsn::new(start), error)),
                _ => return Err(damaged(start, DamageCause::Rotten)),
            };
        }
        Ok(false)
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.positions.durable())
    }
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
            Some(end) if planted!("lost-called-durable") && token.lsn <= end.prepared => Outcome::Durable,
            Some(end) if token.lsn > life.begin && token.lsn <= end.lsn => Outcome::Durable,
            Some(end) if token.lsn > end.lsn && token.lsn <= end.prepared => Outcome::Lost,
            _ => Outcome::Invalid,
        },
        // A life that this directory never had: it was copied before, or is another branch.
        _ => Outcome::Foreign,
    }
}
