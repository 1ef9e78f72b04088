//! How events come to a ledger: told by whoever commits, to one that is shared, or to another process.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forelog::{CommitMode, Error, ErrorKind, Lsn, Receipt, Result};

use crate::event::{Event, Name};
use crate::ledger::Ledger;

/// Where a client says what it does and is told. It is taken down when `say` returns.
pub trait Reporter<W>: Send + Sync {
    /// Takes it down.
    fn say(&self, event: Event<W>);
}

/// The name of an error's kind.
pub fn kind_name(error: &Error) -> String {
    format!("{:?}", error.kind())
}

/// Commits through `call`, and says what is about to be done and what became of it.
///
/// # Errors
/// Those of `call`.
pub fn commit<W>(
    to: &(impl Reporter<W> + ?Sized),
    name: Name,
    mode: CommitMode,
    work: W,
    call: impl FnOnce() -> Result<Receipt>,
) -> Result<Receipt> {
    to.say(Event::Submit(name, mode, work));
    let result = call();
    match &result {
        Ok(receipt) => to.say(Event::Ack(name, Some(receipt.lsn()), Some(receipt.token()))),
        Err(error) => failed(to, name, error),
    }
    result
}

/// The same for the creation of a keyspace, which has no receipt: `place` says where it lies, if that is known.
///
/// # Errors
/// Those of `call`.
pub fn create<W, T>(
    to: &(impl Reporter<W> + ?Sized),
    name: Name,
    mode: CommitMode,
    work: W,
    call: impl FnOnce() -> Result<T>,
    place: impl FnOnce() -> Option<Lsn>,
) -> Result<T> {
    to.say(Event::Submit(name, mode, work));
    let result = call();
    match &result {
        Ok(_) => to.say(Event::Ack(name, place(), None)),
        Err(error) => failed(to, name, error),
    }
    result
}

fn failed<W>(to: &(impl Reporter<W> + ?Sized), name: Name, error: &Error) {
    to.say(Event::Fail(name, kind_name(error), error.token()));
    if error.kind() == ErrorKind::Poisoned {
        to.say(Event::Poisoned);
    }
}

/// A ledger that the clients of one life share, with every event in order: what was known at a moment is what the
/// ledger was before, and the events up to there.
#[derive(Debug)]
pub struct Journal<W> {
    pages: Arc<Mutex<Pages<W>>>,
    clock: fn() -> Duration,
}

impl<W> Clone for Journal<W> {
    fn clone(&self) -> Self {
        Journal { pages: Arc::clone(&self.pages), clock: self.clock }
    }
}

#[derive(Debug)]
struct Pages<W> {
    ledger: Ledger<W>,
    events: Vec<(Duration, Event<W>)>,
    attempts: u32,
    callbacks: usize,
    wrong: Vec<String>,
}

impl<W: Clone + Send> Journal<W> {
    /// Goes on with `ledger`; each event gets its time from `clock`.
    pub fn new(ledger: Ledger<W>, clock: fn() -> Duration) -> Self {
        let pages = Pages { ledger, events: Vec::new(), attempts: 0, callbacks: 0, wrong: Vec::new() };
        Journal { pages: Arc::new(Mutex::new(pages)), clock }
    }

    /// Never held while another simulated thread may run.
    fn pages(&self) -> MutexGuard<'_, Pages<W>> {
        self.pages.lock().expect("nobody panics with the journal in hand")
    }

    /// The name of the next attempt of a client.
    pub fn next_name(&self, client: usize) -> Name {
        let mut pages = self.pages();
        pages.attempts += 1;
        Name {
            life: pages.ledger.lives_begun(),
            client: u32::try_from(client).expect("few clients"),
            number: pages.attempts,
        }
    }

    /// What was taken down, as one ledger.
    pub fn ledger(&self) -> Ledger<W> {
        self.pages().ledger.clone()
    }

    /// Changes the ledger without an event: between two lives.
    pub fn with_ledger<T>(&self, change: impl FnOnce(&mut Ledger<W>) -> T) -> T {
        change(&mut self.pages().ledger)
    }

    /// How many events there are: a moment.
    pub fn now(&self) -> usize {
        self.pages().events.len()
    }

    /// Every event with its time.
    pub fn events(&self) -> Vec<(Duration, Event<W>)> {
        self.pages().events.clone()
    }

    /// Something that must not be.
    pub fn wrong(&self, what: impl Into<String>) {
        self.pages().wrong.push(what.into());
    }

    /// The first thing that must not be.
    pub fn first_wrong(&self) -> Option<String> {
        self.pages().wrong.first().cloned()
    }

    /// Callbacks that were asked for and have not come.
    pub fn missing_callbacks(&self) -> usize {
        self.pages().callbacks
    }

    /// Has the receipt call back, once.
    ///
    /// # Errors
    /// It will not.
    pub fn call_back(&self, receipt: &Receipt, told: impl FnOnce(Result<()>) + Send + 'static) -> Result<()>
    where
        W: 'static,
    {
        self.pages().callbacks += 1;
        let journal = self.clone();
        let asked = receipt.on_durable(move |verdict| {
            journal.pages().callbacks -= 1;
            told(verdict);
        });
        if asked.is_err() {
            self.pages().callbacks -= 1;
        }
        asked
    }
}

impl<W: Clone + Send> Reporter<W> for Journal<W> {
    fn say(&self, event: Event<W>) {
        let now = (self.clock)();
        let mut pages = self.pages();
        pages.events.push((now, event.clone()));
        if let Err(wrong) = pages.ledger.hear(event) {
            pages.wrong.push(wrong);
        }
    }
}
