//! Opens what a fault left, through the engine's own front door, and says what became of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use forelog::sim::{self, SimDisk};
use forelog::{Engine, Error, Lsn, Outcome, Token};

use super::model::{Contents, History};
use super::{open_with, options};

/// What must never be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Fewer commits than were promised, and no word about it.
    Silent(String),
    /// Other contents, another answer, or an error that says something else than what happened.
    Wrong(String),
    Panic(String),
    Hang(String),
}

impl Violation {
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
pub fn guarded<T>(body: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::Panic(text.unwrap_or_default()))
    })
}

/// What must be found.
pub struct Expected<'a> {
    pub history: &'a History,
    /// Every commit up to here must be there, ...
    pub floor: Lsn,
    /// ... and none above.
    pub ceiling: Lsn,
    pub tokens: &'a [Token],
    /// Open has returned before: the database must be there.
    pub exists: bool,
    /// The token of a lost commit may be answered as one of another branch (residue R5).
    pub may_be_foreign: bool,
}

/// How an open without faults ended.
pub enum Opened {
    Holds(Engine, Lsn),
    Refused(Error),
}

impl<'a> Expected<'a> {
    /// All of it, of a database that is there.
    pub fn of(history: &'a History, tokens: &'a [Token]) -> Self {
        let all = history.last();
        Expected { history, floor: all, ceiling: all, tokens, exists: true, may_be_foreign: false }
    }

    /// Opens, and compares everything that it says. What it refuses is for the caller to judge.
    pub fn open(&self, disk: &SimDisk) -> Result<Opened, Violation> {
        let open = || open_with(options().create(!self.exists), disk);
        // In a simulation the identity of a database that has to be created follows from a seed.
        match if self.exists { open() } else { sim::run(0, open) } {
            Ok(engine) => {
                let lsn = self.compare(&engine)?;
                Ok(Opened::Holds(engine, lsn))
            }
            Err(error) => Ok(Opened::Refused(error)),
        }
    }

    /// What has just been opened must hold the commits up to some position, which it names.
    pub fn compare(&self, engine: &Engine) -> Result<Lsn, Violation> {
        let recovered = engine.recovery().recovered_to;
        if recovered < self.history.newest_at(self.floor) {
            return Err(Violation::Silent(format!("recovered up to {recovered} of {}", self.floor)));
        }
        if recovered > self.ceiling {
            return Err(Violation::Wrong(format!("recovered up to {recovered}, above {}", self.ceiling)));
        }
        let contents = Contents::of(engine).map_err(|error| format!("it opens and cannot be read: {error}"))?;
        let expected = self.history.state_at(recovered);
        if contents != expected {
            return Err(Violation::Wrong(format!(
                "other contents than those of the commits up to {recovered}: {} instead of {}",
                summary(&contents),
                summary(&expected)
            )));
        }
        for token in self.tokens {
            // A position that an earlier open has dropped is in the history no more.
            let there = token.lsn <= recovered && self.history.contains(token.lsn);
            let right = if there { Outcome::Durable } else { Outcome::Lost };
            match engine.outcome(token) {
                Ok(answer) if answer == right => {}
                Ok(Outcome::Foreign | Outcome::Invalid) if self.may_be_foreign && !there => {}
                answer => return Err(Violation::Wrong(format!("{token} is {right:?}, and answered {answer:?}"))),
            }
        }
        Ok(recovered)
    }
}

fn summary(contents: &Contents) -> String {
    let parts: Vec<_> = contents.0.iter().map(|(name, entries)| format!("{name}: {}", entries.len())).collect();
    format!("{{{}}}", parts.join(", "))
}
