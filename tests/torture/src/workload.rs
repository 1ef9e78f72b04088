//! What runs in the child: opens the database, commits as its script says, reports each thing when it is told, closes.
//!
//! It goes on after an error as a program would that hopes for the best: what the engine then does is under test, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crashkit::event::Name;
use crashkit::fill;
use crashkit::journal::{self, kind_name};
use crashkit::model::{BANK, account};
use forelog::{Engine, Error, ErrorKind, Receipt, Transaction};

use super::backups;
use super::books::{Event, Reporter};
use super::model::{self, Action, BASE, LAST, ORDER};
use super::retire;
use super::script::Script;

/// Much longer than it takes: what is forgotten never is not forgotten later either.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);
/// A thread gives up after so many errors in a row.
const ERRORS: u32 = 3;

/// How a child ends itself in the middle of its work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// `abort` inside a callback that tells of a durable commit.
    AbortInCallback,
    /// A panic inside such a callback, which is nobody's end.
    PanicInCallback,
    /// A panic of a thread that holds a transaction; the others go on.
    PanicInTransaction,
    /// Whatever the function does, between two commits.
    Call(fn()),
}

/// One child's work.
pub(crate) struct Work {
    pub(crate) seed: u64,
    /// As the ledger numbers it.
    pub(crate) life: u32,
    pub(crate) script: Script,
    /// What happens when the first thread is about to submit its n-th commit.
    pub(crate) death: Option<(u32, Death)>,
}

/// Runs a child's work on the database in `dir`.
pub(crate) fn run(dir: &Path, work: &Work, reporter: &Arc<Reporter>) {
    if work.script.retiring {
        return retire::run(dir, work, reporter);
    }
    let engine = match work.script.options().open(dir) {
        Ok(engine) => engine,
        Err(error) => return reporter.say(Event::NotOpened(kind_name(&error))),
    };
    reporter.say(Event::Opened(engine.recovery().recovered_to));
    if work.script.commits != Some(0) {
        write(&engine, dir, work, reporter);
    }
    if work.script.forgetful && !forgets(&engine) {
        reporter.say(Event::Wrong(format!(
            "a checkpoint has left everything in memory: {:?} {:?}",
            engine.table_stats(),
            engine.memory_stats()
        )));
    }
    reporter.say(Event::Closing);
    match engine.close() {
        Ok(()) => reporter.say(Event::Closed),
        Err(error) => reporter.say(Event::NotClosed(kind_name(&error))),
    }
}

/// Whether something leaves memory once a checkpoint has all that is there. A thread of the engine does it, which may be far behind on a busy
/// machine; on an engine that has failed it does nothing any more.
fn forgets(engine: &Engine) -> bool {
    let has_forgotten = || {
        let stats = engine.table_stats();
        stats.checkpoints == 0 || !stats.all_in_memory || engine.poisoned().is_some()
    };
    // What was committed since may be in every leaf, and keeps it.
    if has_forgotten() || engine.checkpoint().is_err() {
        return true;
    }
    let deadline = Instant::now() + FORGOTTEN_WITHIN;
    while !has_forgotten() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn write(engine: &Engine, dir: &Path, work: &Work, reporter: &Arc<Reporter>) {
    let client = |client| Client {
        engine,
        dir,
        work,
        reporter,
        client,
        number: 0,
        errors: 0,
        pending: Vec::new(),
        scratch: None,
        last_backup: None,
    };
    let mut first = client(0);
    if first.prepare().is_err() {
        return;
    }
    let prepared = first.number;
    std::thread::scope(|scope| {
        for number in 1..work.script.clients {
            let mut client = Client { number: prepared, ..client(number) };
            scope.spawn(move || client.commit_all());
        }
        // A thread's own panic is part of the plan, and the engine's are not: those are told as lines.
        let _ = catch_unwind(AssertUnwindSafe(|| first.commit_all()));
    });
}

/// A thread that commits.
struct Client<'a> {
    engine: &'a Engine,
    dir: &'a Path,
    work: &'a Work,
    reporter: &'a Arc<Reporter>,
    client: u32,
    /// Of its next commit.
    number: u32,
    errors: u32,
    pending: Vec<Receipt>,
    scratch: Option<String>,
    /// The name of the one that this client has made.
    last_backup: Option<String>,
}

/// The error was reported.
struct Failed;

impl Client<'_> {
    fn next_name(&mut self) -> Name {
        self.number += 1;
        Name { life: self.work.life, client: self.client, number: self.number }
    }

    fn say(&self, event: Event) {
        self.reporter.say(event);
    }

    /// Creates and fills what is not there yet.
    fn prepare(&mut self) -> Result<(), Failed> {
        for keyspace in BASE {
            self.create(keyspace)?;
        }
        let empty = || Ok(self.engine.snapshot()?.get(&self.engine.open_keyspace(BANK)?, account(0))?.is_none());
        if empty().map_err(|error| self.wrong("reading the accounts", &error))? {
            self.transact(&Action::Fill)?;
        }
        Ok(())
    }

    fn wrong(&self, what: &str, error: &Error) -> Failed {
        self.say(Event::Wrong(format!("I12: {what} failed: {error:?}")));
        Failed
    }

    fn commit_all(&mut self) {
        let last = self.work.script.commits.map(|commits| self.number + commits);
        while last.is_none_or(|last| self.number < last) && self.errors < ERRORS {
            if let Some((at, death)) = self.work.death
                && self.client == 0
                && self.number == at
            {
                self.die(death);
            }
            let _ = self.transact(&Action::Write);
            if self.work.script.clients == 1 && self.number.is_multiple_of(5) {
                self.create_or_drop();
            }
            self.look_at_receipts();
            if self.work.script.checkpoints && self.number.is_multiple_of(3) {
                self.checkpoint();
            }
            if self.work.script.backups && self.number.is_multiple_of(4) {
                self.back_up();
            }
            if self.number.is_multiple_of(11)
                && let Ok(lsn) = self.engine.flush()
            {
                self.say(Event::Durable(lsn));
            }
        }
        for receipt in std::mem::take(&mut self.pending) {
            if receipt.wait().is_ok() {
                self.say(Event::Durable(receipt.lsn()));
            }
        }
    }

    fn checkpoint(&mut self) {
        let durable = self.engine.durable_lsn();
        self.say(Event::Checkpoint);
        match self.engine.checkpoint() {
            Ok(()) => self.say(Event::Durable(durable)),
            Err(error) => self.say(Event::NotCheckpointed(kind_name(&error))),
        }
    }

    /// In full, or against the last one, in turns.
    fn back_up(&mut self) {
        let name = format!("{}-{}-{}", self.work.life, self.client, self.number);
        let earlier = self.last_backup.take();
        self.say(Event::Checkpoint);
        match backups::make(self.engine, self.dir, &name, earlier.as_deref()) {
            Ok(report) => {
                self.say(Event::BackedUp(report.lsn, name.clone()));
                self.last_backup = if earlier.is_none() { Some(name) } else { None };
            }
            Err(error) => self.say(Event::NotBackedUp(kind_name(&error))),
        }
    }

    /// Tells which commits became durable meanwhile.
    fn look_at_receipts(&mut self) {
        let reporter = self.reporter;
        self.pending.retain(|receipt| {
            let durable = receipt.is_durable();
            if durable {
                reporter.say(Event::Durable(receipt.lsn()));
            }
            !durable
        });
    }

    fn create(&mut self, keyspace: &str) -> Result<(), Failed> {
        if self.engine.open_keyspace(keyspace).is_ok() {
            return Ok(());
        }
        let (name, action) = (self.next_name(), Action::Create(keyspace.to_owned()));
        // Nobody else commits meanwhile: the last visible commit is this one.
        let (create, place) = (|| self.engine.create_keyspace(keyspace), || Some(self.engine.visible_lsn()));
        let created = journal::create(&**self.reporter, name, self.engine.commit_mode(), action, create, place);
        created.map(drop).map_err(|_| self.failed())
    }

    fn create_or_drop(&mut self) {
        let Some(scratch) = self.scratch.take() else {
            let scratch = format!("scratch-{}-{}", self.work.life, self.number);
            if self.create(&scratch).is_ok() {
                self.scratch = Some(scratch);
            }
            return;
        };
        let (name, mode) = (self.next_name(), self.engine.commit_mode());
        let drop = || self.engine.drop_keyspace(&scratch);
        let dropped = journal::commit(&**self.reporter, name, mode, Action::Drop(scratch.clone()), drop);
        let _ = self.returned(dropped);
    }

    fn returned(&mut self, result: Result<Receipt, Error>) -> Result<(), Failed> {
        let receipt = result.map_err(|_| self.failed())?;
        self.errors = 0;
        self.pending.push(receipt);
        Ok(())
    }

    fn failed(&mut self) -> Failed {
        self.errors += 1;
        if self.engine.poisoned().is_some() {
            self.say(Event::Poisoned);
        }
        Failed
    }

    /// Commits a transaction, again and again until nobody comes in between.
    fn transact(&mut self, action: &Action) -> Result<(), Failed> {
        let name = self.next_name();
        let mode = self.work.script.mode(name.number);
        let commit = || {
            loop {
                let committed = self.fill_in(name, action).and_then(|transaction| transaction.commit_with(mode));
                match committed {
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    committed => return committed,
                }
            }
        };
        let committed = journal::commit(&**self.reporter, name, mode, action.clone(), commit);
        self.returned(committed)
    }

    fn fill_in(&self, name: Name, action: &Action) -> Result<Transaction, Error> {
        let keyspace = |name: &str| self.engine.open_keyspace(name);
        let (bank, order) = (keyspace(BANK)?, keyspace(ORDER)?);
        let mut transaction = self.engine.begin()?;
        let last = transaction.get(&order, LAST)?.and_then(|last| model::number(&last)).unwrap_or(0);
        let read = |key: &[u8]| Ok::<_, Error>(transaction.get(&bank, key)?.map(|value| (&*value).into()));
        let writes = model::effects(self.work.seed, name, action, last + 1, &self.work.script, read)?;
        fill!(transaction, keyspace, writes)?;
        Ok(transaction)
    }

    /// The planned death, or what must not be one.
    fn die(&mut self, death: Death) {
        static CALLED: AtomicU64 = AtomicU64::new(0);
        match death {
            Death::Call(call) => call(),
            Death::AbortInCallback | Death::PanicInCallback => {
                let _ = self.transact(&Action::Write);
                let Some(receipt) = self.pending.last() else { return };
                let callback = move |_| match death {
                    Death::AbortInCallback => std::process::abort(),
                    _ => panic!("a callback panics, call {}", CALLED.fetch_add(1, Ordering::Relaxed)),
                };
                if let Err(error) = receipt.on_durable(callback) {
                    self.wrong("watching a receipt", &error);
                }
            }
            Death::PanicInTransaction => {
                let name = Name { number: u32::MAX, ..self.next_name() };
                // Never submitted: a row of this name is one that must not be.
                let _transaction = self.fill_in(name, &Action::Write);
                panic!("a thread panics while it holds a transaction");
            }
        }
    }
}
