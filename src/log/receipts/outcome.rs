//! What became of a commit: the answer to a token, for ever.

use crate::base::error::Result;
use crate::base::types::{Incarnation, LogId, Lsn, Outcome, Token};
use crate::format::WORD;
use crate::format::history::{End, History};
use crate::log::inner::LogInner;
use crate::log::read::record_end::first_end;

impl LogInner {
    /// What became of the commit that `token` names (promise 4).
    pub(crate) fn outcome(&self, token: &Token) -> Result<Outcome> {
        self.check_process()?;
        if let Some(outcome) = without_history(self.incarnations().log_id(), token) {
            return Ok(outcome);
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

/// What the database of a token, or its lack of a position, says of it.
fn without_history(log_id: LogId, token: &Token) -> Option<Outcome> {
    if token.log_id != log_id {
        return Some(Outcome::Foreign);
    }
    // The token of a transaction that wrote nothing and read an empty log.
    let is_of_nothing = || if token.incarnation == Incarnation::NONE { Outcome::Durable } else { Outcome::Invalid };
    (token.lsn == Lsn::ZERO).then(is_of_nothing)
}

/// The answers to tokens of a database that was read and not opened.
#[derive(Debug)]
pub(crate) struct Fates {
    /// Its last incarnation ends as the next open will have it.
    history: History,
    /// The number of that incarnation if it has not ended, and what of it is proven durable.
    open: Option<(u64, Lsn)>,
    /// There is a writer: what is not durable may still become so.
    has_writer: bool,
}

impl Fates {
    /// `end` is how the next open will end the last incarnation, if that has not ended.
    pub(crate) fn new(mut history: History, end: Option<End>, proven: Lsn, has_writer: bool) -> Self {
        let mut open = None;
        if let (Some(last), Some(end)) = (history.entries.last_mut(), end) {
            last.end = Some(end);
            open = Some((last.incarnation.number, proven));
        }
        Fates { history, open, has_writer }
    }

    pub(crate) fn outcome(&self, token: &Token) -> Outcome {
        if let Some(outcome) = without_history(self.history.log_id, token) {
            return outcome;
        }
        let outcome = outcome_in_history(&self.history, token);
        match (outcome, self.open) {
            (Outcome::Durable, Some((number, proven))) if number == token.incarnation.number && token.lsn > proven => {
                Outcome::Pending
            }
            (Outcome::Lost, Some((number, _))) if number == token.incarnation.number && self.has_writer => {
                Outcome::Pending
            }
            _ => outcome,
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
