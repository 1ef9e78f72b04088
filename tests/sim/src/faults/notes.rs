//! What the clients of a faulty disk write down: the journal, their receipts, and the errors that a fault must explain.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Error, ErrorKind, Lsn, Receipt, Result};

use crashkit::event::{self, Name};
use crashkit::journal::{self, Journal, Reporter};
use crashkit::ledger::Ledger;
use crashkit::model::{History, Write};

/// Which call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Open,
    Commit,
    Flush,
    Wait,
    Close,
    Retire,
    Checkpoint,
    Backup,
}

#[derive(Default)]
pub struct Told {
    pub receipts: Vec<Receipt>,
    pub errors: Vec<(Call, Error)>,
}

/// Shared by the clients of one run. `W` is what a commit does.
pub struct Notes<W = Arc<[Write]>> {
    pub journal: Journal<W>,
    told: Arc<Mutex<Told>>,
    /// Tells whether a fault has struck.
    disk: SimDisk,
}

impl<W> Clone for Notes<W> {
    fn clone(&self) -> Self {
        Notes { journal: self.journal.clone(), told: Arc::clone(&self.told), disk: self.disk.clone() }
    }
}

impl<W: Clone + Send> Reporter<W> for Notes<W> {
    fn say(&self, event: event::Event<W>) {
        if self.disk.fault_hits() > 0 {
            self.journal.say(event::Event::Struck);
        }
        self.journal.say(event);
    }
}

impl<W: Clone + Send + 'static> Notes<W> {
    pub fn new(disk: &SimDisk, before: Ledger<W>) -> Self {
        Notes { journal: Journal::new(before, || Duration::ZERO), told: Arc::default(), disk: disk.clone() }
    }

    /// Never held while another simulated thread may run.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics with it in hand")
    }

    pub fn failed(&self, call: Call, error: &Error) {
        self.told().errors.push((call, error.clone()));
    }

    /// A client was told that everything up to `lsn` is durable.
    pub fn durable(&self, lsn: Lsn) {
        self.say(event::Event::Durable(lsn));
    }

    /// Commits through `call`, and writes down what became of it.
    pub fn commit(&self, name: Name, mode: CommitMode, work: W, call: impl FnOnce() -> Result<Receipt>) -> Result<()> {
        match journal::commit(self, name, mode, work, call) {
            Ok(receipt) => {
                self.told().receipts.push(receipt);
                Ok(())
            }
            Err(error) => {
                if (error.kind() == ErrorKind::Indeterminate) != error.token().is_some() {
                    self.journal.wrong(format!("a token and its error do not agree: {error:?}"));
                }
                self.failed(Call::Commit, &error);
                Err(error)
            }
        }
    }

    /// Has the last receipt call back.
    pub fn ask_for_a_callback(&self) {
        let Some(receipt) = self.told().receipts.last().cloned() else { return };
        let (lsn, notes) = (receipt.lsn(), self.clone());
        let asked = self.journal.call_back(&receipt, move |verdict| match verdict {
            Ok(()) => notes.durable(lsn),
            Err(error) if error.kind() == ErrorKind::Indeterminate => notes.failed(Call::Wait, &error),
            Err(error) => notes.journal.wrong(format!("a callback was told {error:?}")),
        });
        if let Err(error) = asked {
            self.failed(Call::Wait, &error);
        }
    }
}

impl Notes {
    /// The creation of a keyspace, by the only thread that commits: it has no receipt.
    pub fn create<T>(&self, engine: &Engine, name: &'static str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = if engine.open_keyspace(name).is_ok() {
            call()
        } else {
            let writes = [Write::Create(name.into())].into();
            let place = || Some(engine.visible_lsn());
            journal::create(self, self.journal.next_name(0), engine.commit_mode(), writes, call, place)
        };
        if let Err(error) = &result {
            self.failed(Call::Commit, error);
        }
        result
    }

    /// The commit order, as far as the clients know it: all of it.
    pub fn history(&self) -> History {
        History::of(self.journal.ledger().placed())
    }
}
