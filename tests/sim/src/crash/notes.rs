//! What the clients of one life write down: the journal, what snapshots showed, and errors that none should get.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::{CommitMode, Error, ErrorKind, Lsn, Receipt, Result, sim};

use crashkit::event;
use crashkit::journal::{self, Journal, Reporter};
use crashkit::ledger::Ledger;
use crashkit::model::{State, Write};

/// What a commit does.
pub type Writes = Arc<[Write]>;
pub type Event = event::Event<Writes>;
/// What was known at one moment.
pub type View = Ledger<Writes>;

fn now() -> Duration {
    sim::now().map_or(Duration::ZERO, |now| now.since_start())
}

/// Shared by the clients of one life.
#[derive(Clone)]
pub struct Notes {
    pub journal: Journal<Writes>,
    seen: Arc<Mutex<Vec<(Lsn, State)>>>,
    /// Whether a failing disk is part of the plan.
    may_fail: bool,
}

impl Notes {
    pub fn new(before: View, may_fail: bool) -> Self {
        Notes { journal: Journal::new(before, now), seen: Arc::default(), may_fail }
    }

    pub fn note(&self, event: Event) {
        self.journal.say(event);
    }

    /// A snapshot at `lsn` showed this.
    pub fn saw(&self, lsn: Lsn, state: State) {
        self.seen.lock().expect("nobody panics with it in hand").push((lsn, state));
    }

    pub fn take_seen(&self) -> Vec<(Lsn, State)> {
        std::mem::take(&mut self.seen.lock().expect("nobody panics with it in hand"))
    }

    /// Commits through `call`, and writes down what became of it.
    pub fn commit(
        &self,
        client: usize,
        mode: CommitMode,
        writes: Vec<Write>,
        call: impl FnOnce() -> Result<Receipt>,
    ) -> Result<Receipt> {
        journal::commit(&self.journal, self.journal.next_name(client), mode, writes.into(), call)
    }

    /// The creation of a keyspace: where it lies the log says at the end of the life.
    pub fn create<T>(
        &self,
        client: usize,
        mode: CommitMode,
        name: &str,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let writes = [Write::Create(name.into())].into();
        journal::create(&self.journal, self.journal.next_name(client), mode, writes, call, || None)
    }

    /// A wait that ended: everything up to `lsn` is durable now.
    pub fn durable(&self, lsn: Lsn, verdict: &Result<()>) {
        match verdict {
            Ok(()) => self.note(Event::Durable(lsn)),
            Err(error) => self.expect(error, &[ErrorKind::TimedOut]),
        }
    }

    /// Notes an error that is none of those that may be.
    pub fn expect(&self, error: &Error, kinds: &[ErrorKind]) {
        const OF_A_FAILURE: [ErrorKind; 3] = [ErrorKind::Poisoned, ErrorKind::Indeterminate, ErrorKind::Io];
        let of_the_plan = self.may_fail && OF_A_FAILURE.contains(&error.kind());
        if !of_the_plan && !kinds.contains(&error.kind()) {
            self.journal.wrong(format!("a client got {error:?}"));
        }
    }
}
