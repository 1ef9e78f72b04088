//! Opens the disk that a crash left, through the engine's own front door, and compares everything that it says with
//! the ledger.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use forelog::sim::{self, CrashPoint, Granularity, Loss, SimDisk};
use forelog::{Engine, Incarnation, Lsn, Options, Outcome, Token};

use super::ledger::View;
use super::life::{Cut, DIR, Life, Past};
use super::model::History;

/// What a crash does.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process dies, the machine goes on.
    Kill,
    Power(Loss, Granularity),
}

impl Crash {
    pub(crate) fn image(&self, cut: &Cut) -> SimDisk {
        self.image_of(&cut.crash)
    }

    pub(crate) fn image_of(&self, point: &CrashPoint) -> SimDisk {
        match self {
            Crash::Kill => point.process_kill(),
            Crash::Power(loss, granularity) => point.power_loss(loss, *granularity),
        }
    }

    /// The state must reach up to here (invariants I2 to I4). After a failed fsync the kernel may have thrown away what
    /// was written, so that `Written` promises nothing more than `Async` does.
    pub(crate) fn floor(&self, past: &Past, view: &View, failed: bool) -> Lsn {
        let killed = *self == Crash::Kill;
        let before = if killed || view.opened { past.readable() } else { past.base_lsn };
        before.max(view.durable).max(if killed && !failed { view.written } else { Lsn::ZERO })
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crash::Kill => f.write_str("process kill"),
            Crash::Power(Loss::AllBut(landed), granularity) => {
                let atoms: String = landed.iter().map(|landed| if *landed { '1' } else { '0' }).collect();
                write!(f, "power loss by {granularity:?}, landed {atoms}")
            }
            Crash::Power(loss, granularity) => write!(f, "power loss by {granularity:?}, {loss:?}"),
        }
    }
}

/// What the engine must say after a crash.
pub(crate) struct Expected<'a> {
    pub(crate) history: &'a History,
    pub(crate) floor: Lsn,
    pub(crate) ceiling: Lsn,
    /// Handed out before the crash: durable if and only if their commits are in the state.
    pub(crate) tokens: [&'a [Token]; 2],
    /// Lost in earlier crashes, for ever.
    pub(crate) lost: &'a [Token],
    /// The database must be there.
    pub(crate) exists: bool,
    /// The incarnation that the account must name as ended by the crash; `None` in `Some` for no crash at all.
    pub(crate) crashed: Option<Option<Incarnation>>,
}

impl<'a> Expected<'a> {
    pub(crate) fn after(life: &'a Life, past: &'a Past, cut: &Cut, view: &'a View, crash: &Crash) -> Self {
        let crashed = match view.tokens.last() {
            Some(token) if !view.closing => Some(Some(token.incarnation)),
            Some(_) if view.closed => Some(None),
            _ => None,
        };
        Expected {
            history: &life.history,
            floor: crash.floor(past, view, cut.failed),
            ceiling: view.ceiling.max(past.readable()),
            tokens: [&past.tokens, &view.tokens],
            lost: &past.lost,
            exists: past.exists || view.opened,
            crashed,
        }
    }

    pub(crate) fn open(&self, disk: &SimDisk) -> Result<Engine, String> {
        let open = || Options::new().create(!self.exists).open_on(Arc::new(disk.clone()), DIR);
        // A simulation makes the random identity of a database that has to be created follow from a seed.
        let opened = if self.exists { open() } else { sim::run(0, open) };
        opened.map_err(|error| format!("REFUSED, a legal state: {error:?}"))
    }

    /// Opens `disk` and compares. Returns how many commits of the history are in the state.
    pub(crate) fn check(&self, disk: &SimDisk) -> Result<(Engine, usize), String> {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let engine = self.open(disk)?;
            let index = self.compare(&engine)?;
            Ok((engine, index))
        }));
        checked.unwrap_or_else(|_| Err("open, or a read after it, panicked".to_owned()))
    }

    /// Compares an engine that was just opened.
    pub(crate) fn compare(&self, engine: &Engine) -> Result<usize, String> {
        let reported = engine.recovery().recovered_to;
        let index = self.history.index_of(reported);
        self.history.states[index].compare(engine).map_err(|difference| match self.history.find(engine) {
            Some(other) => format!(
                "I17: the state is that of LSN {}, and the account says {reported}: {difference}",
                self.history.lsns[other]
            ),
            None => format!("I1: the state is that of no prefix; against LSN {reported}: {difference}"),
        })?;
        if self.history.lsns[index] != reported {
            return Err(format!("I17: recovered to {reported}, where no commit ends"));
        }
        self.check_bound(reported)?;
        if engine.visible_lsn() != reported || engine.durable_lsn() < reported || engine.at_risk().commits > 0 {
            return Err(format!(
                "I17: recovered to {reported}, visible {}, durable {}, at risk {:?}",
                engine.visible_lsn(),
                engine.durable_lsn(),
                engine.at_risk()
            ));
        }
        if self.crashed.is_some_and(|crashed| crashed != engine.recovery().crashed) {
            return Err(format!("I17: {:?} instead of {:?}", engine.recovery(), self.crashed));
        }
        for token in self.tokens.into_iter().flatten() {
            let right = if token.lsn <= reported { Outcome::Durable } else { Outcome::Lost };
            ask(engine, token, right)?;
        }
        for token in self.lost {
            ask(engine, token, Outcome::Lost)?;
        }
        Ok(index)
    }

    /// Whether a state up to `lsn` loses nothing that it must not, and has nothing that nobody had asked for.
    pub(crate) fn check_bound(&self, lsn: Lsn) -> Result<(), String> {
        if lsn < self.floor {
            return Err(format!("I2-I4: recovered to {lsn}, and {} was promised", self.floor));
        }
        if lsn > self.ceiling {
            return Err(format!("I7: recovered to {lsn}, and nothing above {} had been submitted", self.ceiling));
        }
        Ok(())
    }

    /// How many tokens there are to ask about.
    pub(crate) fn asked(&self) -> usize {
        self.tokens[0].len() + self.tokens[1].len() + self.lost.len()
    }
}

pub(crate) fn ask(engine: &Engine, token: &Token, right: Outcome) -> Result<(), String> {
    match engine.outcome(token) {
        Ok(outcome) if outcome == right => Ok(()),
        other => Err(format!("I16: {token} is {other:?} and should be {right:?}")),
    }
}
