//! Small standard workloads, each of which tells the ledger what it did and what it was told.

use std::sync::Arc;
use std::time::Duration;

use forelog::sim::{self, CrashPoint, Granularity, Loss, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Lsn, Outcome, Receipt, Token};

use super::ledger::{Call, Ledger};
use super::verdict::Expected;
use super::{MODES, open_with, options};
use crashkit::model::{History, Placed, State, Write};

/// What was known when a crash may have come.
pub struct Cut {
    pub crash: CrashPoint,
    pub when: &'static str,
    pub history: History,
    pub tokens: Vec<Token>,
    pub durable: Lsn,
    pub durable_before: Lsn,
    pub written: Lsn,
    pub exists: bool,
}

/// The disk and the books of one run.
#[derive(Clone)]
pub struct Session {
    pub disk: SimDisk,
    pub ledger: Ledger,
    pub cuts: Arc<std::sync::Mutex<Vec<Cut>>>,
    /// The disk is full, and in a second it will not be.
    pub patient: bool,
    /// A flush is one submission.
    pub io_uring: bool,
}

impl Session {
    pub fn new(start: &Start, patient: bool) -> Self {
        let disk = start.crash.process_kill();
        let ledger = Ledger::new(&disk);
        let session = Session { disk, ledger, cuts: Default::default(), patient, io_uring: false };
        for Placed { lsn, writes } in &start.history.commits {
            session.ledger.known(*lsn, writes);
        }
        session.ledger.book().tokens.clone_from(&start.tokens);
        session.ledger.durable(start.durable);
        session.ledger.book().opened = start.durable > Lsn::ZERO;
        session
    }

    pub fn cut(&self, when: &'static str) {
        let crash = self.disk.crash_point();
        let history = self.ledger.history();
        let book = self.ledger.book();
        let cut = Cut {
            crash,
            when,
            history,
            tokens: book.tokens.clone(),
            durable: book.durable,
            durable_before: book.durable_before,
            written: book.written,
            exists: book.opened,
        };
        drop(book);
        self.cuts.lock().expect("one thread").push(cut);
    }

    /// Calls again while the disk is full, if somebody is about to make room; that it is full for longer is wrong.
    fn with_room<T>(&self, call: impl Fn() -> forelog::Result<T>) -> forelog::Result<T> {
        for _ in 0..30 {
            match call() {
                Err(error) if self.patient && error.kind() == ErrorKind::DiskFull => {
                    sim::sleep(Duration::from_millis(100));
                }
                result => return result,
            }
        }
        let result = call();
        if result.is_err() {
            self.ledger.wrong("the disk has room again, and the call still fails");
        }
        result
    }

    pub fn open(&self) -> Option<Engine> {
        match self.with_room(|| open_with(options().io_uring(self.io_uring), &self.disk)) {
            Ok(engine) => {
                let history = self.ledger.history();
                let floor = self.ledger.book().durable;
                let tokens = self.ledger.book().tokens.clone();
                let ceiling = history.last();
                let expected = Expected { floor, ceiling, ..Expected::of(&history, &tokens) };
                match expected.compare(&engine) {
                    // What an open reports is durable from then on, and what it has dropped does not come back.
                    Ok(recovered) => {
                        self.ledger.durable(recovered);
                        self.ledger.forget_above(recovered);
                    }
                    Err(violation) => self.ledger.wrong(violation.to_string()),
                }
                self.ledger.opened();
                Some(engine)
            }
            Err(error) => {
                self.ledger.failed(Call::Open, &error);
                None
            }
        }
    }

    pub fn keyspace(&self, engine: &Engine, name: &'static str) -> Option<Keyspace> {
        let create = || self.with_room(|| engine.create_keyspace(name));
        self.ledger.create(name, create, || engine.visible_lsn()).ok()
    }

    /// Commits one value that nobody else writes.
    pub fn put(&self, engine: &Engine, keyspace: &Keyspace, key: u64, length: usize, mode: CommitMode) -> bool {
        let name: &'static str = if keyspace.name() == "other" { "other" } else { "keys" };
        let key = key.to_be_bytes().to_vec();
        let value: Vec<u8> = (0..length).map(|at| key[at % 8] ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let writes = [Write::Put(name.into(), key.clone().into(), value.clone().into())];
        let commit = || {
            let mut batch = engine.batch()?;
            batch.put(keyspace, &key, &value)?;
            batch.commit_with(mode)
        };
        let committed = self.ledger.commit(mode, &writes, || self.with_room(commit)).is_ok();
        if committed && mode == CommitMode::Async {
            self.ledger.ask_for_a_callback();
        }
        self.look_at_receipts(engine);
        committed
    }

    /// What receipts and the engine say without being waited for is a promise, too.
    fn look_at_receipts(&self, engine: &Engine) {
        let receipts = self.ledger.book().receipts.clone();
        let durable = receipts.iter().filter(|receipt| receipt.is_durable()).map(Receipt::lsn);
        self.ledger.durable(durable.max().unwrap_or_default().max(engine.durable_lsn()));
    }

    pub fn flush(&self, engine: &Engine) {
        match engine.flush() {
            Ok(lsn) => self.ledger.durable(lsn),
            Err(error) => self.ledger.failed(Call::Flush, &error),
        }
    }

    /// Waits for every receipt there is.
    pub fn wait(&self) {
        let receipts = self.ledger.book().receipts.clone();
        for receipt in receipts {
            match receipt.wait() {
                Ok(()) => self.ledger.durable(receipt.lsn()),
                Err(error) => self.ledger.failed(Call::Wait, &error),
            }
        }
    }

    /// The end of an engine: the process may be killed here or the power cut, then it is closed, and once more.
    pub fn finish(&self, engine: &Engine) {
        self.look_at_receipts(engine);
        self.cut("at rest");
        if engine.poisoned().is_some() {
            check_poisoned(self, engine);
        }
        let last = engine.visible_lsn();
        match engine.close() {
            Ok(()) if engine.poisoned().is_some() => self.ledger.wrong("a poisoned engine closed as if nothing was"),
            Ok(()) => self.ledger.durable(last),
            Err(error) => self.ledger.failed(Call::Close, &error),
        }
        self.ledger.book().receipts.clear();
    }
}

/// I11, I18: nothing more is acknowledged, everybody gets a verdict, and reads go on.
fn check_poisoned(session: &Session, engine: &Engine) {
    let ledger = &session.ledger;
    let Some(poison) = engine.poisoned() else { return };
    let durable = ledger.book().durable;
    let receipts = ledger.book().receipts.clone();
    if durable > poison.durable || engine.durable_lsn() != poison.durable {
        ledger.wrong(format!("I11: {durable} was said to be durable: {poison:?}"));
    }
    for receipt in receipts {
        let expected = if receipt.lsn() <= poison.durable { Outcome::Durable } else { Outcome::Indeterminate };
        let waited = receipt.wait().map_err(|error| error.kind());
        let verdict = if expected == Outcome::Durable { Ok(()) } else { Err(ErrorKind::Indeterminate) };
        if waited != verdict || engine.outcome(&receipt.token()).ok() != Some(expected) {
            ledger.wrong(format!("I18: {} after {poison:?} was told {waited:?}", receipt.lsn()));
        }
    }
    for mode in MODES {
        let refused = engine.create_keyspace("too late").map(drop).map_err(|error| error.kind());
        let batch = engine.batch().and_then(|mut batch| match engine.open_keyspace("keys") {
            Ok(keyspace) => batch.put(&keyspace, "late", "late").and_then(|()| batch.commit_with(mode).map(drop)),
            Err(_) => engine.create_keyspace("keys").map(drop),
        });
        if refused != Err(ErrorKind::Poisoned) || batch.map_err(|error| error.kind()) != Err(ErrorKind::Poisoned) {
            ledger.wrong(format!("I11: a commit in mode {mode:?} after {poison:?}"));
        }
    }
    let seen = State::of(engine).ok();
    if seen.as_ref() != Some(ledger.history().state_at(engine.visible_lsn())) {
        ledger.wrong("I11: reads do not go on");
    }
}

/// What a workload begins with.
#[derive(Clone)]
pub struct Start {
    pub crash: CrashPoint,
    pub history: History,
    pub tokens: Vec<Token>,
    pub durable: Lsn,
}

impl Start {
    pub fn nothing() -> Self {
        let crash = SimDisk::new().crash_point();
        Start { crash, history: History::default(), tokens: Vec::new(), durable: Lsn::ZERO }
    }

    /// The disk after `workload` and a crash or a close.
    fn after(workload: fn(&Session), end: impl FnOnce(&Session) -> SimDisk) -> Self {
        let session = Session::new(&Start::nothing(), false);
        sim::run(SEED, || workload(&session));
        let disk = end(&session);
        let history = session.ledger.history();
        let book = session.ledger.book();
        assert!(book.errors.is_empty() && book.wrong.is_empty(), "{:?} {:?}", book.errors, book.wrong);
        Start { crash: disk.crash_point(), history, tokens: book.tokens.clone(), durable: book.durable }
    }
}

/// The same schedule for every fault, so that the n-th operation is the same one.
pub const SEED: u64 = 0xFA17;

/// A workload with what it begins with.
#[derive(Clone)]
pub struct Workload {
    pub name: &'static str,
    pub start: Start,
    pub run: fn(&Session),
}

/// A workload with each flush in one submission.
fn submitted(session: &Session, run: fn(&Session)) {
    run(&Session { io_uring: true, ..session.clone() });
}

pub fn all() -> Vec<Workload> {
    let nothing = Start::nothing();
    let closed = Start::after(one_thread, |session| session.disk.crash_point().process_kill());
    let torn = torn_tail();
    let killed = Start { crash: torn.0.process_kill().crash_point(), ..torn.1.clone() };
    let cut = torn.0.power_loss(&Loss::Seeded(5), Granularity::Sector);
    vec![
        Workload { name: "create", start: nothing.clone(), run: create },
        Workload { name: "one thread", start: nothing.clone(), run: one_thread },
        Workload { name: "three threads", start: nothing.clone(), run: three_threads },
        Workload { name: "rotation", start: nothing.clone(), run: rotation },
        Workload { name: "keyspaces", start: nothing.clone(), run: keyspaces },
        Workload { name: "one thread, submitted", start: nothing.clone(), run: |s| submitted(s, one_thread) },
        Workload { name: "three threads, submitted", start: nothing.clone(), run: |s| submitted(s, three_threads) },
        Workload { name: "rotation, submitted", start: nothing, run: |s| submitted(s, rotation) },
        Workload { name: "reopen", start: closed, run: reopen },
        Workload { name: "recovery after a kill", start: killed, run: reopen },
        Workload { name: "recovery of a torn tail", start: Start { crash: cut.crash_point(), ..torn.1 }, run: reopen },
    ]
}

/// Two segments, the last three groups of which were never synced.
pub fn torn_tail() -> (CrashPoint, Start) {
    let cut = Arc::new(std::sync::Mutex::new(None));
    let session = Session::new(&Start::nothing(), false);
    sim::run(SEED, || {
        let engine = session.open().expect("no fault");
        let keys = session.keyspace(&engine, "keys").expect("no fault");
        for (number, length) in (0..6).zip([700, 300, 2000, 40, 900, 100]) {
            session.put(&engine, &keys, number, length, CommitMode::Sync);
        }
        for (number, length) in (6..9).zip([600, 700, 30]) {
            session.put(&engine, &keys, number, length, CommitMode::Written);
        }
        let durable = session.ledger.book().durable;
        *cut.lock().expect("one thread") = Some((session.disk.crash_point(), durable));
    });
    let (crash, durable) = cut.lock().expect("one thread").take().expect("the end was reached");
    let tokens = session.ledger.book().tokens.clone();
    let start = Start { crash: crash.clone(), history: session.ledger.history(), tokens, durable };
    (crash, start)
}

pub fn create(session: &Session) {
    if let Some(engine) = session.open() {
        session.finish(&engine);
    }
}

pub fn one_thread(session: &Session) {
    let Some(engine) = session.open() else { return };
    if let Some(keys) = session.keyspace(&engine, "keys") {
        for (number, mode) in MODES.into_iter().enumerate() {
            session.put(&engine, &keys, number as u64, 100 + 200 * number, mode);
        }
        session.wait();
        session.put(&engine, &keys, 1, 8, CommitMode::Async);
        session.put(&engine, &keys, 9, 0, CommitMode::Written);
        session.flush(&engine);
        session.put(&engine, &keys, 10, 300, CommitMode::Async);
        session.put(&engine, &keys, 11, 30, CommitMode::Sync);
    }
    session.finish(&engine);
}

fn three_threads(session: &Session) {
    session.disk.set_sync_latency(Duration::from_micros(200));
    let Some(engine) = session.open() else { return };
    if session.keyspace(&engine, "keys").is_some() {
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (session, engine) = (session.clone(), engine.clone());
                sim::start("client", move || {
                    let Ok(keys) = engine.open_keyspace("keys") else { return };
                    for step in 0..4 {
                        let mode = MODES[(client + step) % MODES.len()];
                        session.put(&engine, &keys, (client * 100 + step) as u64, 150 * (client + 1), mode);
                        if step == 2 {
                            session.wait();
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(sim::Simulated::join);
    }
    session.finish(&engine);
}

pub fn rotation(session: &Session) {
    let Some(engine) = session.open() else { return };
    if let Some(keys) = session.keyspace(&engine, "keys") {
        for (number, length) in [900, 1200, 1500, 6000, 700, 2500].into_iter().enumerate() {
            session.put(&engine, &keys, number as u64, length, MODES[number % MODES.len()]);
        }
        session.flush(&engine);
    }
    session.finish(&engine);
}

pub fn keyspaces(session: &Session) {
    let Some(engine) = session.open() else { return };
    if let Some(other) = session.keyspace(&engine, "other") {
        session.put(&engine, &other, 1, 50, CommitMode::Async);
        let drop = || engine.drop_keyspace("other");
        let _ = session.ledger.commit(CommitMode::Sync, &[Write::Drop("other".into())], drop);
    }
    if let Some(keys) = session.keyspace(&engine, "keys") {
        session.put(&engine, &keys, 2, 50, CommitMode::Written);
    }
    // If the drop failed, the keyspace is there and this creates nothing.
    if let Some(other) = session.keyspace(&engine, "other") {
        session.put(&engine, &other, 3, 50, CommitMode::Sync);
    }
    session.finish(&engine);
}

fn reopen(session: &Session) {
    let Some(engine) = session.open() else { return };
    if let Some(keys) = session.keyspace(&engine, "keys") {
        session.put(&engine, &keys, 50, 200, CommitMode::Sync);
        session.put(&engine, &keys, 51, 20, CommitMode::Async);
    }
    session.finish(&engine);
    drop(engine);
    let Some(engine) = session.open() else { return };
    if let Some(keys) = session.keyspace(&engine, "keys") {
        session.put(&engine, &keys, 52, 20, CommitMode::Written);
    }
    session.finish(&engine);
}
