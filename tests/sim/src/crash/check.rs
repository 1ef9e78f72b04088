//! Opens the disk that a crash left, through the engine's own front door, and compares everything that it says with
//! the ledger.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crashkit::judge;
use crashkit::ledger::Ending;
use crashkit::model::State;
use forelog::sim::{self, CrashPoint, Granularity, Loss, Persona, SimDisk};
use forelog::{Engine, Error, ErrorKind, Options};

use super::life::{Cut, DIR, Life};
use super::notes::View;

/// What a crash does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process dies, the machine goes on.
    Kill,
    Power(Power),
}

/// A power loss on a file system like this.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Power {
    pub persona: Persona,
    pub unit: Granularity,
    pub loss: Loss,
}

const UNITS: [Granularity; 4] = [Granularity::Byte, Granularity::Word, Granularity::Sector, Granularity::Page];

impl Crash {
    /// A power loss that takes all it can.
    pub fn everything_lost() -> Self {
        Crash::Power(Power { persona: Persona::ALL[0], unit: Granularity::Sector, loss: Loss::Everything })
    }

    pub fn image(&self, point: &CrashPoint) -> SimDisk {
        match self {
            Crash::Kill => point.process_kill(),
            Crash::Power(Power { persona, unit, loss }) => point.power_loss_on(persona, loss, *unit),
        }
    }

    /// What of the promises it leaves. What a failed fsync has thrown out of the kernel's cache is gone also for a process
    /// that dies.
    pub fn ending(&self, cache_lost: bool) -> Ending {
        if *self == Crash::Kill && !cache_lost { Ending::Process } else { Ending::Power }
    }

    /// The same crash with the atoms that landed, or did not, by number.
    pub fn by_atoms(&self, point: &CrashPoint) -> Self {
        match self {
            Crash::Kill => Crash::Kill,
            Crash::Power(power) => {
                let loss = Loss::AllBut(power.loss.landed(point.atoms(power.persona.unit(power.unit))));
                Crash::Power(Power { loss, ..*power })
            }
        }
    }

    /// In one word, which [`Crash::from_code`] reads: `kill`, or persona, unit and the atoms that landed (`+1,2`) or
    /// did not (`-0`), whichever are fewer.
    pub fn to_code(&self) -> String {
        let Crash::Power(Power { persona, unit, loss }) = self else { return "kill".to_owned() };
        let persona =
            Persona::ALL.iter().position(|known| known == persona).map_or("p".to_owned(), |at| at.to_string());
        let loss = match loss {
            Loss::Nothing => "-".to_owned(),
            Loss::Everything => "+".to_owned(),
            Loss::Seeded(seed) => format!("?{seed}"),
            Loss::AllBut(landed) => {
                let list = |of: bool| (0..landed.len()).filter(move |at| landed[*at] == of).map(|at| at.to_string());
                let (there, lost): (Vec<_>, Vec<_>) = (list(true).collect(), list(false).collect());
                let few = if there.len() < lost.len() { ('+', there) } else { ('-', lost) };
                format!("{}{}/{}", few.0, few.1.join(","), landed.len())
            }
        };
        format!("{persona}:{unit:?}:{loss}")
    }

    pub fn from_code(code: &str) -> Option<Self> {
        if code == "kill" {
            return Some(Crash::Kill);
        }
        let [persona, unit, loss] = code.splitn(3, ':').collect::<Vec<_>>()[..] else { return None };
        let persona = match persona {
            "p" => Persona::PARANOID,
            number => *Persona::ALL.get(number.parse::<usize>().ok()?)?,
        };
        let unit = UNITS.into_iter().find(|known| format!("{known:?}") == unit)?;
        let loss = match (loss.chars().next()?, loss.get(1..)?) {
            ('-', "") => Loss::Nothing,
            ('+', "") => Loss::Everything,
            ('?', seed) => Loss::Seeded(seed.parse().ok()?),
            (sign, list) => {
                let (list, atoms) = list.split_once('/')?;
                let mut landed = vec![sign == '-'; atoms.parse().ok()?];
                for at in list.split(',').filter(|at| !at.is_empty()) {
                    *landed.get_mut(at.parse::<usize>().ok()?)? = sign == '+';
                }
                Loss::AllBut(landed)
            }
        };
        Some(Crash::Power(Power { persona, unit, loss }))
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crash::Kill => f.write_str("process kill"),
            Crash::Power(power) => write!(f, "power loss on {}, {}", power.persona.name, self.to_code()),
        }
    }
}

/// What the engine must say after a crash.
pub struct Expected<'a> {
    /// What the judge is told.
    pub judged: judge::Expected<'a>,
    /// The database must be there.
    pub exists: bool,
}

/// What came of an open.
pub enum Opened {
    /// How many commits of the history are in the state.
    With(Engine, usize),
    /// The damage was detected, which only a medium that breaks its assumptions allows.
    Refused,
}

impl<'a> Expected<'a> {
    pub fn after(life: &'a Life, cut: &Cut, view: &'a View, crash: &Crash) -> Self {
        let judged = judge::Expected::after(view, &life.history, crash.ending(cut.cache_lost));
        Expected { judged, exists: view.exists }
    }

    /// Opens through the front door.
    pub fn open(&self, disk: &SimDisk) -> Result<Engine, Error> {
        let open = || Options::new().create(!self.exists).open_on(Arc::new(disk.clone()), DIR);
        // A simulation makes the random identity of a database that has to be created follow from a seed.
        if self.exists { open() } else { sim::run(0, open) }
    }

    /// Opens `disk` and compares, whatever may come of it.
    pub fn try_check(&self, disk: &SimDisk) -> Result<Opened, String> {
        let checked = catch_unwind(AssertUnwindSafe(|| match self.open(disk) {
            Ok(engine) => match self.judged.compare(&engine) {
                Ok(index) => Ok(Opened::With(engine, index)),
                // An open does not read what is in tables.
                Err(_) if self.judged.lenient && State::of(&engine).is_err_and(|error| is_detected(&error)) => {
                    Ok(Opened::Refused)
                }
                Err(violation) => Err(violation.to_string()),
            },
            Err(error) if self.judged.lenient && is_detected(&error) => Ok(Opened::Refused),
            Err(error) => Err(format!("REFUSED, a legal state: {error:?}")),
        }));
        checked.unwrap_or_else(|_| Err("I12: open, or a read after it, panicked".to_owned()))
    }

    /// The same where nothing may be refused.
    pub fn check(&self, disk: &SimDisk) -> Result<(Engine, usize), String> {
        match self.try_check(disk)? {
            Opened::With(engine, index) => Ok((engine, index)),
            Opened::Refused => Err("REFUSED".to_owned()),
        }
    }
}

/// Whether it tells of damage.
fn is_detected(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotADatabase)
}
