//! Opens what a fault left, through the engine's own front door, and says what became of it.

use crashkit::judge;
pub use crashkit::judge::{Violation, guarded};
use crashkit::ledger::Fate;
use crashkit::model::History;
use forelog::sim::{self, SimDisk};
use forelog::{Engine, Error, Incarnation, Lsn, Token};

use super::{open_with, options};

/// What must be found.
pub struct Expected<'a> {
    pub history: &'a History,
    /// Every commit up to here must be there, ...
    pub floor: Lsn,
    /// ... and none above.
    pub ceiling: Lsn,
    pub tokens: &'a [(Token, Fate)],
    /// As in the [judge's](judge::Expected::crashed).
    pub crashed: Option<Option<Incarnation>>,
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
    pub fn of(history: &'a History, tokens: &'a [(Token, Fate)]) -> Self {
        let all = history.last();
        Expected { history, floor: all, ceiling: all, tokens, crashed: None, exists: true, may_be_foreign: false }
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
        Ok(self.history.lsns[self.judged().compare(engine)?])
    }

    /// The same without the contents, of what a medium that fails does not let be read.
    pub fn compare_account(&self, engine: &Engine) -> Result<Lsn, Violation> {
        Ok(self.history.lsns[self.judged().compare_account(engine)?])
    }

    fn judged(&self) -> judge::Expected<'_> {
        judge::Expected {
            // A promise may be told with a position at which no commit ends.
            floor: self.history.newest_at(self.floor),
            ceiling: self.ceiling,
            crashed: self.crashed,
            may_be_foreign: self.may_be_foreign,
            ..judge::Expected::of(self.history, self.tokens)
        }
    }
}
