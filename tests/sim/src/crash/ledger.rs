//! What the clients were told, in the order in which they were told it: kept outside the engine, as a list of events.
//! What anybody knew at the moment of a crash is the list up to there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forelog::{CommitMode, Error, ErrorKind, Lsn, Receipt, Result, Token, sim};

use crashkit::model::{Placed, State, Write};

/// One attempt to commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub client: usize,
    pub mode: CommitMode,
    pub writes: Arc<[Write]>,
    /// Known when the call returns; of the creation of a keyspace when the log is read at the end.
    pub lsn: Option<Lsn>,
    pub token: Option<Token>,
    /// In simulated time.
    pub acknowledged: Duration,
}

#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The engine's open returned.
    Opened,
    /// A client is about to call commit.
    Submitted(usize),
    /// Commit returned an error that says that nothing was done.
    Refused(usize),
    Acknowledged(usize),
    /// Commit returned an error with a token: the commit has its place, and nothing was promised.
    Named(usize),
    /// A client was told, in one of the ways there are, that everything up to here is durable.
    Durable(Lsn),
    Closing,
    Closed,
}

#[derive(Default)]
struct Book {
    commits: Vec<Commit>,
    events: Vec<Event>,
    /// What snapshots showed.
    seen: Vec<(Lsn, State)>,
    /// Callbacks that were promised and have not come.
    callbacks: usize,
    wrong: Option<String>,
}

fn now() -> Duration {
    sim::now().map_or(Duration::ZERO, |now| now.since_start())
}

/// Shared by the clients of one life.
#[derive(Clone)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    /// Whether a failing disk is part of the plan.
    may_fail: bool,
}

impl Ledger {
    pub fn new(may_fail: bool) -> Self {
        Ledger { book: Arc::default(), may_fail }
    }

    /// Never held while another simulated thread may run.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics with the ledger in hand")
    }

    pub fn note(&self, event: Event) {
        self.book().events.push(event);
    }

    pub fn has_opened(&self) -> bool {
        matches!(self.book().events.first(), Some(Event::Opened))
    }

    /// How many events there are: a moment.
    pub fn now(&self) -> usize {
        self.book().events.len()
    }

    /// Something that must not be; the first of them is kept.
    pub fn wrong(&self, what: impl FnOnce() -> String) {
        self.book().wrong.get_or_insert_with(what);
    }

    /// A snapshot at `lsn` showed this.
    pub fn saw(&self, lsn: Lsn, state: State) {
        self.book().seen.push((lsn, state));
    }

    pub fn await_callback(&self) {
        self.book().callbacks += 1;
    }

    pub fn called_back(&self) {
        self.book().callbacks -= 1;
    }

    /// Callbacks that never came.
    pub fn missing_callbacks(&self) -> usize {
        self.book().callbacks
    }

    pub fn take_seen(&self) -> Vec<(Lsn, State)> {
        std::mem::take(&mut self.book().seen)
    }

    pub fn take_wrong(&self) -> Option<String> {
        self.book().wrong.take()
    }

    fn submit(&self, client: usize, mode: CommitMode, writes: Vec<Write>) -> usize {
        let mut book = self.book();
        let index = book.commits.len();
        let writes = writes.into();
        book.commits.push(Commit { client, mode, writes, lsn: None, token: None, acknowledged: Duration::ZERO });
        book.events.push(Event::Submitted(index));
        index
    }

    fn name(&self, index: usize, token: Token, event: Event) {
        let now = now();
        let mut book = self.book();
        let commit = &mut book.commits[index];
        (commit.lsn, commit.token, commit.acknowledged) = (Some(token.lsn), Some(token), now);
        book.events.push(event);
    }

    /// Commits through `call`, and writes down what became of it.
    pub fn commit(
        &self,
        client: usize,
        mode: CommitMode,
        writes: Vec<Write>,
        call: impl FnOnce() -> Result<Receipt>,
    ) -> Result<Receipt> {
        let index = self.submit(client, mode, writes);
        let result = call();
        match &result {
            Ok(receipt) => self.name(index, receipt.token(), Event::Acknowledged(index)),
            Err(error) => match error.token() {
                Some(token) => self.name(index, token, Event::Named(index)),
                None => self.note(Event::Refused(index)),
            },
        }
        result
    }

    /// The creation of a keyspace, a commit without a receipt.
    pub fn create<T>(
        &self,
        client: usize,
        mode: CommitMode,
        name: &str,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let index = self.submit(client, mode, vec![Write::Create(name.into())]);
        let result = call();
        let now = now();
        let mut book = self.book();
        book.commits[index].acknowledged = now;
        book.events.push(if result.is_ok() { Event::Acknowledged(index) } else { Event::Refused(index) });
        drop(book);
        result
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
            self.wrong(|| format!("a client got {error:?}"));
        }
    }

    pub fn pages(&self) -> Pages {
        let book = self.book();
        Pages { commits: book.commits.clone(), events: book.events.clone() }
    }
}

/// The ledger when the life is over.
#[derive(Clone, Default)]
pub struct Pages {
    pub commits: Vec<Commit>,
    events: Vec<Event>,
}

/// What was known at one moment.
#[derive(Default, Debug)]
pub struct View {
    pub opened: bool,
    pub closing: bool,
    pub closed: bool,
    /// A `Sync` commit, a receipt or a flush said that everything up to here is durable.
    pub durable: Lsn,
    /// A `Written` commit at this LSN was acknowledged.
    pub written: Lsn,
    /// No commit that was submitted has a higher LSN.
    pub ceiling: Lsn,
    /// Handed out so far, in this life.
    pub tokens: Vec<Token>,
    /// Inside a call to commit.
    pub in_call: BTreeSet<usize>,
    /// Acknowledged in a mode that does not wait for durability.
    pub at_risk: Vec<usize>,
}

impl Pages {
    pub fn at(&self, moment: usize) -> View {
        let mut view = View::default();
        for event in &self.events[..moment] {
            match *event {
                Event::Opened => view.opened = true,
                Event::Closing => view.closing = true,
                Event::Closed => view.closed = true,
                Event::Durable(lsn) => view.durable = view.durable.max(lsn),
                Event::Submitted(index) => {
                    view.in_call.insert(index);
                    view.ceiling = view.ceiling.max(self.commits[index].lsn.unwrap_or_default());
                }
                Event::Refused(index) => drop(view.in_call.remove(&index)),
                Event::Named(index) => {
                    view.in_call.remove(&index);
                    view.tokens.extend(self.commits[index].token);
                }
                Event::Acknowledged(index) => {
                    let commit = &self.commits[index];
                    let lsn = commit.lsn.unwrap_or_default();
                    view.in_call.remove(&index);
                    view.tokens.extend(commit.token);
                    match commit.mode {
                        CommitMode::Sync => view.durable = view.durable.max(lsn),
                        CommitMode::Written => view.written = view.written.max(lsn),
                        _ => {}
                    }
                    if commit.mode != CommitMode::Sync {
                        view.at_risk.push(index);
                    }
                }
            }
        }
        view
    }

    pub fn end(&self) -> View {
        self.at(self.events.len())
    }

    /// Tells the first creation of this keyspace that has no LSN yet where the log has it: they come in order.
    pub fn place_creation(&mut self, writes: &[Write], lsn: Lsn) {
        let made = self.events.iter().filter_map(|event| match event {
            Event::Acknowledged(index) => Some(*index),
            _ => None,
        });
        let unplaced = |index: &usize| self.commits[*index].lsn.is_none() && *self.commits[*index].writes == *writes;
        if let Some(index) = made.into_iter().find(unplaced) {
            self.commits[index].lsn = Some(lsn);
        }
    }

    /// The commits that have their place, in LSN order.
    pub fn placed(&self) -> Vec<Placed> {
        let placed = |commit: &Commit| Some(Placed { lsn: commit.lsn?, writes: Arc::clone(&commit.writes) });
        let mut placed: Vec<_> = self.commits.iter().filter_map(placed).collect();
        placed.sort_by_key(|commit| commit.lsn);
        placed
    }

    /// Acknowledged before another was submitted means before it in the log, too; and no position is handed out twice.
    pub fn check_order(&self, above: Lsn) -> std::result::Result<(), String> {
        let mut highest = above;
        let mut bounds = vec![above; self.commits.len()];
        for event in &self.events {
            match *event {
                Event::Submitted(index) => bounds[index] = highest,
                Event::Acknowledged(index) => highest = highest.max(self.commits[index].lsn.unwrap_or_default()),
                _ => {}
            }
        }
        for (commit, bound) in self.commits.iter().zip(bounds) {
            if commit.lsn.is_some_and(|lsn| lsn <= bound) {
                return Err(format!("{commit:?} has its place below {bound}, which was given before it began"));
            }
        }
        let mut seen = BTreeSet::new();
        match self.commits.iter().filter_map(|commit| commit.lsn).find(|lsn| !seen.insert(*lsn)) {
            Some(twice) => Err(format!("LSN {twice} was handed out twice")),
            None => Ok(()),
        }
    }
}
