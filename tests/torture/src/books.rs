//! The ledger of a database under torture, and what its contents are compared by.
//!
//! How the events travel and what ended the child is no business of this file: a pipe and SIGKILL, or a journal of the
//! block device and a power cut.

use std::collections::BTreeMap;

use crashkit::event::Name;
use crashkit::ledger::{self, Ending};
use crashkit::model::State;
use crashkit::{event, journal};
use forelog::Lsn;

use super::model::Action;
use super::script::Script;

pub(crate) type Event = event::Event<Action>;
pub(crate) type Commit = ledger::Commit<Action>;
pub(crate) type Life = ledger::Life<Action>;
/// Where a child says what it learned. Saying it has reached the other side when it returns.
pub(crate) type Reporter = dyn journal::Reporter<Action>;

/// Everything that the children of one database were told.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    pub(crate) seed: u64,
    pub(crate) ledger: ledger::Ledger<Action>,
    /// The contents at the last check.
    pub(crate) base: State,
    /// Of a bare log: its records.
    pub(crate) records: BTreeMap<Lsn, Name>,
    /// What each life does, by its number.
    scripts: BTreeMap<u32, Script>,
    /// How the last life ends.
    pub(crate) ending: Ending,
    /// After a write in it that had not done what it said: what that took is nobody's fault.
    pub(crate) lied: bool,
    /// A system call failed in the last life. The child need not have been told: a removal that failed is left to a
    /// later open.
    pub(crate) failed: bool,
}

impl Books {
    pub(crate) fn new(seed: u64) -> Self {
        Books {
            seed,
            ledger: ledger::Ledger::default(),
            base: State::default(),
            records: BTreeMap::new(),
            scripts: BTreeMap::new(),
            ending: Ending::Process,
            lied: false,
            failed: false,
        }
    }

    /// A child is about to be started; returns the number of its life, which it must be told.
    pub(crate) fn begin(&mut self, script: &Script, ending: Ending, lies: bool) -> Result<u32, String> {
        self.finish();
        let life = self.ledger.begin();
        self.scripts.insert(life, script.clone());
        (self.ending, self.lied, self.failed) = (ending, lies, false);
        if lies {
            self.ledger.hear(Event::Struck)?;
        }
        Ok(life)
    }

    /// The last life has ended.
    pub(crate) fn finish(&mut self) {
        self.ledger.end(self.ending, self.lied);
    }

    pub(crate) fn script(&self, life: u32) -> &Script {
        &self.scripts[&life]
    }

    /// That of the last life.
    pub(crate) fn last_script(&self) -> Option<&Script> {
        self.scripts.values().next_back()
    }
}
