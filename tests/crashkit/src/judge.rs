//! Whether an engine that was just opened holds what was promised: its contents, its account of the recovery, and its
//! answer to each token.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use forelog::log::{Log, Record};
use forelog::{Engine, Incarnation, Lsn, Outcome, Token};

use crate::ledger::{Ending, Fate, Ledger};
use crate::model::History;

/// What must never be. The text begins with the invariant (`I1` to `I20`) that is broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Fewer commits than were promised, and no word about it.
    Silent(String),
    /// Other contents, another answer, or an error that says something else than what happened.
    Wrong(String),
    /// A panic.
    Panic(String),
    /// A call that does not return.
    Hang(String),
}

impl Violation {
    /// The text, which begins with the invariant that is broken.
    pub fn what(&self) -> &str {
        match self {
            Violation::Silent(what) | Violation::Wrong(what) | Violation::Panic(what) | Violation::Hang(what) => what,
        }
    }

    /// The same, with the place where it was seen.
    pub fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Violation::Silent(what) => Violation::Silent(format!("{place}: {what}")),
            Violation::Wrong(what) => Violation::Wrong(format!("{place}: {what}")),
            Violation::Panic(what) => Violation::Panic(format!("{place}: {what}")),
            Violation::Hang(what) => Violation::Hang(format!("{place}: {what}")),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Silent(what) => write!(f, "SILENT LOSS: {what}"),
            Violation::Wrong(what) => write!(f, "WRONG: {what}"),
            Violation::Panic(what) => write!(f, "PANIC: {what}"),
            Violation::Hang(what) => write!(f, "HANG: {what}"),
        }
    }
}

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Violation::Wrong(what)
    }
}

/// Runs `body`; a panic is a violation.
///
/// # Errors
/// What `body` returns, or its panic.
pub fn guarded<T>(body: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::Panic(text.unwrap_or_default()))
    })
}

/// What must be found.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The commits that may be there, in order.
    pub history: &'a History,
    /// Every commit up to here must be there (I2 to I4), ...
    pub floor: Lsn,
    /// ... and none above (I7).
    pub ceiling: Lsn,
    /// Handed out before: lost for ever if their commits are gone, otherwise durable if and only if their commits are in
    /// the state (I16).
    pub tokens: &'a [(Token, Fate)],
    /// The incarnation that the account must name as ended by the crash; `None` in `Some` for no crash at all (I17).
    pub crashed: Option<Option<Incarnation>>,
    /// The medium broke its assumptions: a prefix will do, wherever it ends.
    pub lenient: bool,
    /// The token of a lost commit may be answered as one of another branch (residue R5).
    pub may_be_foreign: bool,
}

impl<'a> Expected<'a> {
    /// What the ledger promises after such an ending.
    pub fn after<W>(ledger: &'a Ledger<W>, history: &'a History, ending: Ending) -> Self {
        Expected {
            floor: ledger.floor(ending),
            ceiling: ledger.ceiling(),
            crashed: ledger.crashed(),
            ..Expected::of(history, &ledger.tokens)
        }
    }

    /// All of it.
    pub fn of(history: &'a History, tokens: &'a [(Token, Fate)]) -> Self {
        Expected {
            history,
            floor: history.last(),
            ceiling: history.last(),
            tokens,
            crashed: None,
            lenient: false,
            may_be_foreign: false,
        }
    }

    /// Compares an engine that was just opened; returns how many commits of the history are in its state.
    ///
    /// # Errors
    /// What is not as it was promised.
    pub fn compare(&self, engine: &Engine) -> Result<usize, Violation> {
        let reported = engine.recovery().recovered_to;
        self.check_bound(reported)?;
        self.history.states[self.history.index_of(reported)].compare(engine).map_err(|difference| {
            match self.history.find(engine) {
                Some(other) => format!(
                    "I17: the state is that of LSN {}, and the account says {reported}: {difference}",
                    self.history.lsns[other]
                ),
                None => format!("I1: the state is that of no prefix; against LSN {reported}: {difference}"),
            }
        })?;
        self.compare_account(engine)
    }

    /// [`Expected::compare`] without the contents: of what a medium that fails does not let be read.
    ///
    /// # Errors
    /// What is not as it was promised.
    pub fn compare_account(&self, engine: &Engine) -> Result<usize, Violation> {
        let reported = engine.recovery().recovered_to;
        let index = self.history.index_of(reported);
        self.check_bound(reported)?;
        if self.history.lsns[index] != reported {
            return Err(format!("I17: recovered to {reported}, where no commit ends").into());
        }
        check_account(engine, self.crashed.filter(|_| !self.lenient))?;
        self.ask_all(engine, reported)?;
        Ok(index)
    }

    fn ask_all(&self, engine: &Engine, reported: Lsn) -> Result<(), Violation> {
        for (token, fate) in self.tokens {
            let held = token.lsn <= self.history.lsns[0] || self.history.contains(token.lsn);
            if *fate != Fate::Gone && token.lsn <= reported && held {
                ask(|token| engine.outcome(token), token, Outcome::Durable)?;
            } else if self.lenient && *fate != Fate::Gone {
                // The medium may have taken its incarnation back with it, too.
                if engine.outcome(token).is_ok_and(|outcome| outcome == Outcome::Durable) {
                    return Err(format!("I16: {token} is Durable above {reported}").into());
                }
            } else if !(self.may_be_foreign && matches!(engine.outcome(token), Ok(Outcome::Foreign | Outcome::Invalid)))
            {
                ask(|token| engine.outcome(token), token, Outcome::Lost)?;
            }
        }
        Ok(())
    }

    /// Whether a state up to `lsn` loses nothing that it must not, and has nothing that nobody had asked for.
    ///
    /// # Errors
    /// It does, or it has.
    pub fn check_bound(&self, lsn: Lsn) -> Result<(), Violation> {
        if lsn < self.floor && !self.lenient {
            return Err(Violation::Silent(format!("I2-I4: recovered to {lsn}, and {} was promised", self.floor)));
        }
        if lsn > self.ceiling {
            let ceiling = self.ceiling;
            return Err(format!("I7: recovered to {lsn}, and nothing above {ceiling} had been submitted").into());
        }
        Ok(())
    }
}

/// I17: what an engine that was just opened says of itself agrees with what it has recovered, and it names the incarnation
/// that a crash has ended, if that is known.
///
/// # Errors
/// It does not.
pub fn check_account(engine: &Engine, crashed: Option<Option<Incarnation>>) -> Result<(), Violation> {
    let reported = engine.recovery().recovered_to;
    let (visible, durable, at_risk) = (engine.visible_lsn(), engine.durable_lsn(), engine.at_risk());
    if visible != reported || durable < reported || at_risk.commits > 0 {
        return Err(
            format!("I17: recovered to {reported}, visible {visible}, durable {durable}, at risk {at_risk:?}").into()
        );
    }
    match crashed {
        Some(crashed) if crashed != engine.recovery().crashed => {
            Err(format!("I17: {:?} instead of {crashed:?}", engine.recovery()).into())
        }
        _ => Ok(()),
    }
}

/// Asks an engine or a log about one token (I16).
///
/// # Errors
/// The answer is not `right`.
pub fn ask(
    answer: impl Fn(&Token) -> forelog::Result<Outcome>,
    token: &Token,
    right: Outcome,
) -> Result<(), Violation> {
    match answer(token) {
        Ok(outcome) if outcome == right => Ok(()),
        other => Err(format!("I16: {token} is {other:?} and should be {right:?}").into()),
    }
}

/// Compares a log that was just opened with what was told of it: it holds the records up to where it recovered, but for
/// what was retired, and answers each token by that. Everything up to `floor` must be there; on a medium that `lies` more
/// may have been retired, and less be known, than was told. Returns where it recovered.
///
/// # Errors
/// What is not as it was promised.
pub fn compare_log(log: &Log, ledger: &Ledger<Vec<u8>>, floor: Lsn, lies: bool) -> Result<Lsn, Violation> {
    let recovered = log.recovery().recovered_to;
    let commits = || ledger.lives.iter().flat_map(|life| life.commits.values()).filter(|c| c.fate != Fate::Gone);
    let placed: BTreeMap<Lsn, &[u8]> = commits().filter_map(|c| Some((c.lsn?, &c.work[..]))).collect();
    let promised = placed.range(..=floor).next_back().map(|(lsn, _)| *lsn).unwrap_or_default();
    if recovered < promised {
        return Err(Violation::Silent(format!("I2-I4: recovered to {recovered}, and {promised} was promised")));
    }
    let in_flight: Vec<&[u8]> = commits().filter(|c| c.lsn.is_none()).map(|c| &c.work[..]).collect();
    let all_above = |oldest: Lsn, found: &[Record]| {
        let above = placed.iter().filter(|(lsn, _)| **lsn > oldest && **lsn <= recovered);
        let mut found = found.iter().map(|record| (record.lsn, &record.payload[..]));
        // An append that had not returned may be there, whole, behind the others.
        above.into_iter().all(|(lsn, work)| found.next() == Some((*lsn, *work)))
            && found.next().is_none_or(|(_, work)| in_flight.contains(&work))
            && found.next().is_none()
    };
    let scan = |after| log.scan(after).and_then(Iterator::collect::<forelog::Result<Vec<Record>>>);
    let unreadable = |error: forelog::Error| format!("I1: it opens and cannot be scanned: {error:?}");
    let found = scan(Lsn::ZERO).map_err(unreadable)?;
    // A retirement that failed, or was cut off, may have happened.
    let may_be_oldest = |lsn: &&Lsn| **lsn >= ledger.retired || lies;
    let asked = ledger.retiring.iter().chain([&Lsn::ZERO]).filter(may_be_oldest).copied();
    if !asked.into_iter().any(|oldest| all_above(oldest, &found)) {
        let (found, placed): (Vec<Lsn>, Vec<_>) =
            (found.iter().map(|record| record.lsn).collect(), placed.keys().collect());
        let retired = ledger.retired;
        return Err(format!("I1: scanned {found:?} of {placed:?} up to {recovered}, retired to {retired}").into());
    }
    // The highest: one that a crash cut off may have happened, and then a later, lower one did nothing.
    let retiring = ledger.retiring.iter().max().copied().unwrap_or_default();
    if !lies && retiring <= recovered && !all_above(retiring, &scan(retiring).map_err(unreadable)?) {
        return Err(format!("I1: not all that lies above {retiring} is there").into());
    }
    for (token, fate) in ledger.tokens.iter().filter(|_| !lies) {
        let there = *fate != Fate::Gone && token.lsn <= recovered;
        if ledger.pruned && token.lsn <= retiring && log.outcome(token).is_ok_and(|it| it == Outcome::Pruned) {
            continue;
        }
        ask(|token| log.outcome(token), token, if there { Outcome::Durable } else { Outcome::Lost })?;
    }
    Ok(recovered)
}
