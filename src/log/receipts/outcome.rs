//! What became of a commit: the answer to a token, for ever.

use crate::base::error::Result;
use crate::base::types::{Incarnation, Lsn, Outcome, Token};
use crate::format::WORD;
use crate::format::history::History;
use crate::log::inner::LogInner;
use crate::log::read::record_end::first_end;

impl LogInner {
    /// What became of the commit that `token` names (promise 4).
    pub(crate) fn outcome(&self, token: &Token) -> Result<Outcome> {
        self.check_process()?;
        if token.log_id != self.incarnations().log_id() {
            return Ok(Outcome::Foreign);
        }
        if token.lsn == Lsn::ZERO {
            // The token of a transaction that wrote nothing and read an empty log.
            return Ok(if token.incarnation == Incarnation::NONE { Outcome::Durable } else { Outcome::Invalid });
        }
        if self.incarnations().current() == Some(token.incarnation) {
            return Ok(self.outcome_in_this_incarnation(token.lsn.get(), self.incarnations().begin()));
        }
        Ok(self.incarnations().look(|known| outcome_in_history(&known.history, token)))
    }

    fn outcome_in_this_incarnation(&self, lsn: u64, begin: u64) -> Outcome {
        // In this order: what is not appended when asked may be durable a moment later.
        let durable = self.positions().durable();
        let poisoned = self.poisoned().is_some();
        if !may_end_there(lsn, begin) {
            Outcome::Invalid
        } else if lsn <= durable {
            Outcome::Durable
        } else if lsn > self.positions().appended() {
            Outcome::Invalid
        } else if poisoned {
            Outcome::Indeterminate
        } else {
            Outcome::Pending
        }
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
    match history.entries.get(index) {
        Some(entry) if entry.incarnation == token.incarnation => match entry.end {
            _ if !may_end_there(token.lsn.get(), entry.begin.get()) => Outcome::Invalid,
            Some(end) if token.lsn <= end.lsn => Outcome::Durable,
            Some(end) if token.lsn <= end.prepared => Outcome::Lost,
            _ => Outcome::Invalid,
        },
        // An incarnation that this directory never had: it was copied before, or is another branch.
        _ => Outcome::Foreign,
    }
}
