//! Small standard workloads, and what they note of what they did and were told.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forelog::sim::{self, CrashPoint, Granularity, Loss, SimDisk};
use forelog::{BackupOptions, CommitMode, Engine, ErrorKind, Keyspace, Outcome, Receipt};

use super::notes::{Call, Notes};
use super::verdict::Expected;
use super::{MODES, open_with, options};
use crate::crash::backups;
use crashkit::event::Event;
use crashkit::fill;
use crashkit::journal::Reporter;
use crashkit::ledger::{Ending, Ledger};
use crashkit::model::{BANK, History, State, Write};
use crashkit::workload::{Change, Op, writes};

/// What was known when a crash may have come.
pub struct Cut {
    pub crash: CrashPoint,
    pub when: &'static str,
    pub ledger: Ledger<Arc<[Write]>>,
}

/// The disk and the notes of one run.
#[derive(Clone)]
pub struct Session {
    pub disk: SimDisk,
    pub notes: Notes,
    pub cuts: Arc<std::sync::Mutex<Vec<Cut>>>,
    /// The disk is full, and in a second it will not be.
    pub patient: bool,
    /// What a process leaves in the cache is there for the next one.
    pub keeps_cache: bool,
    /// A flush is one submission.
    pub io_uring: bool,
    /// Each checkpoint has all memory forgotten.
    pub forgetful: bool,
}

impl Session {
    pub fn new(start: &Start, patient: bool) -> Self {
        let disk = start.crash.process_kill();
        let notes = Notes::new(&disk, start.ledger.clone());
        let cuts = Default::default();
        Session { disk, notes, cuts, patient, keeps_cache: true, io_uring: false, forgetful: false }
    }

    pub fn cut(&self, when: &'static str) {
        let cut = Cut { crash: self.disk.crash_point(), when, ledger: self.notes.journal.ledger() };
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
            self.notes.journal.wrong("the disk has room again, and the call still fails");
        }
        result
    }

    pub fn open(&self) -> Option<Engine> {
        let ending = if self.keeps_cache { Ending::Process } else { Ending::Power };
        let crashed = self.notes.journal.with_ledger(|ledger| {
            let crashed = ledger.crashed();
            ledger.end(ending, false);
            ledger.begin();
            crashed
        });
        let hits = self.disk.fault_hits();
        let options = || {
            let options = options().io_uring(self.io_uring);
            if self.forgetful { options.records_bytes(0) } else { options }
        };
        match self.with_room(|| open_with(options(), &self.disk)) {
            Ok(engine) => {
                let (history, ledger) = (self.notes.history(), self.notes.journal.ledger());
                let (floor, ceiling) = (ledger.floor(ending), history.last());
                // An open that fails after it has replaced HISTORY has told no one of the crash.
                let crashed = crashed.filter(|_| self.disk.fault_hits() == hits);
                let expected = Expected { floor, ceiling, crashed, ..Expected::of(&history, &ledger.tokens) };
                // What an open has left in tables is read here, and the fault may be there.
                let compared = expected.compare(&engine).or_else(|violation| {
                    let is_read = violation.what().contains("cannot be read") && self.disk.fault_hits() > 0;
                    if is_read { expected.compare_account(&engine) } else { Err(violation) }
                });
                match compared {
                    // What an open reports is durable from then on, and what it has dropped does not come back.
                    Ok(recovered) => self.notes.say(Event::Opened(recovered)),
                    Err(violation) => self.notes.journal.wrong(violation.to_string()),
                }
                Some(engine)
            }
            Err(error) => {
                self.notes.failed(Call::Open, &error);
                None
            }
        }
    }

    pub fn keyspace(&self, engine: &Engine, name: &'static str) -> Option<Keyspace> {
        self.notes.create(engine, name, || self.with_room(|| engine.create_keyspace(name))).ok()
    }

    /// Commits one value that nobody else writes.
    pub fn put(&self, engine: &Engine, keyspace: &Keyspace, key: u64, length: usize, mode: CommitMode) -> bool {
        let keyspace = if keyspace.name() == OTHER { OTHER } else { KEYS };
        self.commit(engine, &[Change::Put { keyspace, key: key.to_be_bytes().to_vec(), length }], mode)
    }

    fn commit(&self, engine: &Engine, changes: &[Change], mode: CommitMode) -> bool {
        let name = self.notes.journal.next_name(0);
        let Ok(writes) = writes(changes, 0, name, |_| Ok::<_, Infallible>(None));
        let commit = || {
            let mut batch = engine.batch()?;
            fill!(batch, |name: &str| engine.open_keyspace(name), writes)?;
            batch.commit_with(mode)
        };
        let committed = self.notes.commit(name, mode, writes[..].into(), || self.with_room(commit)).is_ok();
        if committed && mode == CommitMode::Async {
            self.notes.ask_for_a_callback();
        }
        self.look_at_receipts(engine);
        committed
    }

    /// Ends an engine that may not have been closed: receipts hold its threads.
    fn let_go(&self, engine: Option<Engine>) {
        self.notes.told().receipts.clear();
        drop(engine);
    }

    /// Does what one client does alone or beside others.
    pub fn step(&self, engine: &Engine, op: &Op) {
        match op {
            Op::Commit(changes, mode) => {
                let names = changes.iter().map(|change| match change {
                    Change::Put { keyspace, .. }
                    | Change::Delete { keyspace, .. }
                    | Change::DeleteRange { keyspace, .. } => *keyspace,
                    Change::Transfer { .. } => BANK,
                });
                if names.into_iter().all(|name| engine.open_keyspace(name).is_ok()) {
                    self.commit(engine, changes, *mode);
                }
            }
            Op::Drop(name) => {
                let attempt = self.notes.journal.next_name(0);
                let drop = || engine.drop_keyspace(name);
                let _ = self.notes.commit(attempt, CommitMode::Sync, [Write::Drop((*name).into())].into(), drop);
            }
            Op::Flush => self.flush(engine),
            Op::Wait => self.wait(),
            Op::Checkpoint => self.checkpoint(engine),
            Op::Backup => self.back_up(engine),
            Op::Open | Op::Create(_) | Op::Close => unreachable!("done by one client alone"),
        }
    }

    /// What receipts and the engine say without being waited for is a promise, too.
    fn look_at_receipts(&self, engine: &Engine) {
        let receipts = self.notes.told().receipts.clone();
        let durable = receipts.iter().filter(|receipt| receipt.is_durable()).map(Receipt::lsn);
        self.notes.durable(durable.max().unwrap_or_default().max(engine.durable_lsn()));
    }

    fn flush(&self, engine: &Engine) {
        match engine.flush() {
            Ok(lsn) => self.notes.durable(lsn),
            Err(error) => self.notes.failed(Call::Flush, &error),
        }
    }

    fn checkpoint(&self, engine: &Engine) {
        let durable = engine.durable_lsn();
        self.notes.say(Event::Checkpoint);
        match self.with_room(|| engine.checkpoint()) {
            Ok(()) => self.notes.durable(durable),
            Err(error) => self.notes.failed(Call::Checkpoint, &error),
        }
    }

    /// In full, or against the one before.
    fn back_up(&self, engine: &Engine) {
        let made = self.notes.journal.ledger().backups;
        // One that only its last sync has failed is whole, and has its name.
        let is_taken = |name: &String| self.disk.read_file(Path::new(&backups::path(name)).join("HISTORY")).is_ok();
        let name = (0..).map(|number: u32| number.to_string()).find(|name| !is_taken(name)).expect("a free one");
        let earlier = made.last().map(|(_, name)| backups::path(name));
        let options = earlier.map_or_else(BackupOptions::new, |earlier| BackupOptions::new().against(earlier));
        self.notes.say(Event::Checkpoint);
        match engine.backup_on(Arc::new(self.disk.clone()), backups::path(&name), options) {
            Ok(report) => self.notes.say(Event::BackedUp(report.lsn, name)),
            Err(error) => self.notes.failed(Call::Backup, &error),
        }
    }

    /// Waits for every receipt there is.
    fn wait(&self) {
        let receipts = self.notes.told().receipts.clone();
        for receipt in receipts {
            match receipt.wait() {
                Ok(()) => self.notes.durable(receipt.lsn()),
                Err(error) => self.notes.failed(Call::Wait, &error),
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
        self.notes.say(Event::Closing);
        match engine.close() {
            Ok(()) if engine.poisoned().is_some() => {
                self.notes.journal.wrong("a poisoned engine closed as if nothing was");
            }
            Ok(()) => self.notes.say(Event::Closed),
            Err(error) => self.notes.failed(Call::Close, &error),
        }
        self.notes.told().receipts.clear();
    }
}

/// I11, I18: nothing more is acknowledged, everybody gets a verdict, and reads go on.
fn check_poisoned(session: &Session, engine: &Engine) {
    let notes = &session.notes;
    let Some(poison) = engine.poisoned() else { return };
    let durable = notes.journal.ledger().durable();
    let receipts = notes.told().receipts.clone();
    if durable > poison.durable || engine.durable_lsn() != poison.durable {
        notes.journal.wrong(format!("I11: {durable} was said to be durable: {poison:?}"));
    }
    for receipt in receipts {
        let expected = if receipt.lsn() <= poison.durable { Outcome::Durable } else { Outcome::Indeterminate };
        let waited = receipt.wait().map_err(|error| error.kind());
        let verdict = if expected == Outcome::Durable { Ok(()) } else { Err(ErrorKind::Indeterminate) };
        if waited != verdict || engine.outcome(&receipt.token()).ok() != Some(expected) {
            notes.journal.wrong(format!("I18: {} after {poison:?} was told {waited:?}", receipt.lsn()));
        }
    }
    for mode in MODES {
        let refused = engine.create_keyspace("too late").map(drop).map_err(|error| error.kind());
        let batch = engine.batch().and_then(|mut batch| match engine.open_keyspace("keys") {
            Ok(keyspace) => batch.put(&keyspace, "late", "late").and_then(|()| batch.commit_with(mode).map(drop)),
            Err(_) => engine.create_keyspace("keys").map(drop),
        });
        if refused != Err(ErrorKind::Poisoned) || batch.map_err(|error| error.kind()) != Err(ErrorKind::Poisoned) {
            notes.journal.wrong(format!("I11: a commit in mode {mode:?} after {poison:?}"));
        }
    }
    match State::of(engine) {
        Ok(seen) if seen == *notes.history().state_at(engine.visible_lsn()) => {}
        // What an open has left in tables, where the fault may be.
        Err(error) if error.damage().is_some() || error.kind() == ErrorKind::Io => {}
        _ => notes.journal.wrong("I11: reads do not go on"),
    }
}

/// What a workload begins with.
#[derive(Clone)]
pub struct Start {
    pub crash: CrashPoint,
    pub ledger: Ledger<Arc<[Write]>>,
}

impl Start {
    pub fn nothing() -> Self {
        Start { crash: SimDisk::new().crash_point(), ledger: Ledger::default() }
    }

    pub fn history(&self) -> History {
        History::of(self.ledger.placed())
    }

    /// After an ending that leaves this disk.
    fn after(&self, ending: Ending, disk: &SimDisk) -> Self {
        let mut ledger = self.ledger.clone();
        ledger.end(ending, false);
        Start { crash: disk.crash_point(), ledger }
    }
}

/// The same schedule for every fault, so that the n-th operation is the same one.
pub const SEED: u64 = 0xFA17;
/// Of what came before and of what comes after: no two lives of a database draw the same nonce.
const BEFORE: u64 = SEED - 1;
pub const AFTER: u64 = SEED + 1;

/// An operation and the client that does it. What number 0 does it does alone; the others run side by side.
pub type Step = (u8, Op);

/// A workload with what it begins with.
#[derive(Clone)]
pub struct Workload {
    pub name: &'static str,
    pub start: Start,
    pub steps: Vec<Step>,
    /// With each flush in one submission.
    pub io_uring: bool,
    /// With memory that each checkpoint has forgotten.
    pub forgetful: bool,
}

/// A new database, after a life in which nothing fails.
fn after(steps: &[Step]) -> Start {
    let session = Session::new(&Start::nothing(), false);
    sim::run(BEFORE, || run(&session, steps));
    let wrong = session.notes.journal.first_wrong();
    assert!(session.notes.told().errors.is_empty() && wrong.is_none(), "{wrong:?}");
    Start { crash: session.disk.crash_point(), ledger: session.notes.journal.ledger() }
}

pub fn all() -> Vec<Workload> {
    let nothing = Start::nothing();
    let closed = after(&one_thread());
    let torn = torn_tail();
    let killed = torn.after(Ending::Process, &torn.crash.process_kill());
    let cut = torn.after(Ending::Power, &torn.crash.power_loss(&Loss::Seeded(5), Granularity::Sector));
    let new = |name, steps| Workload { name, start: nothing.clone(), steps, io_uring: false, forgetful: false };
    let submitted = |name, steps| Workload { io_uring: true, ..new(name, steps) };
    let again = |name, start| Workload { start, ..new(name, reopen()) };
    vec![
        new("create", create()),
        new("one thread", one_thread()),
        new("three threads", three_threads()),
        new("rotation", rotation()),
        new("keyspaces", keyspaces()),
        Workload { start: after(&with_tables()), ..new("checkpoints", checkpoints()) },
        Workload { start: after(&with_tables()), forgetful: true, ..new("ranges and backups", ranges_and_backups()) },
        submitted("one thread, submitted", one_thread()),
        submitted("three threads, submitted", three_threads()),
        submitted("rotation, submitted", rotation()),
        again("reopen", closed),
        again("recovery after a kill", killed),
        again("recovery of a torn tail", cut),
    ]
}

/// Two segments, the last three groups of which were never synced.
pub fn torn_tail() -> Start {
    let session = Session::new(&Start::nothing(), false);
    sim::run(BEFORE, || {
        let engine = session.open().expect("no fault");
        let keys = session.keyspace(&engine, "keys").expect("no fault");
        for (number, length) in (0..6).zip([700, 300, 2000, 40, 900, 100]) {
            session.put(&engine, &keys, number, length, CommitMode::Sync);
        }
        for (number, length) in (6..9).zip([600, 700, 30]) {
            session.put(&engine, &keys, number, length, CommitMode::Written);
        }
        session.cut("before the end");
    });
    let Cut { crash, ledger, .. } = session.cuts.lock().expect("one thread").remove(0);
    Start { crash, ledger }
}

/// Does all steps.
pub fn run(session: &Session, steps: &[Step]) {
    let (mut engine, mut rest) = (None, steps);
    // What is to be done in a keyspace that could not be created is left out.
    let mut in_place = true;
    while let Some((client, op)) = rest.first() {
        match (op, &engine) {
            (Op::Open, _) => {
                session.let_go(engine);
                engine = session.open();
                if engine.is_none() {
                    return;
                }
            }
            (_, None) => {}
            (Op::Create(name), Some(engine)) => in_place = session.keyspace(engine, name).is_some(),
            (Op::Close, Some(engine)) => session.finish(engine),
            (_, Some(engine)) if *client > 0 => {
                let side_by_side = rest.iter().take_while(|(client, _)| *client > 0).count();
                let (group, behind) = rest.split_at(side_by_side);
                if in_place {
                    run_side_by_side(session, engine, group);
                }
                rest = behind;
                continue;
            }
            (op, Some(engine)) if in_place => session.step(engine, op),
            _ => {}
        }
        rest = &rest[1..];
    }
    session.let_go(engine);
}

fn run_side_by_side(session: &Session, engine: &Engine, steps: &[Step]) {
    session.disk.set_sync_latency(Duration::from_micros(200));
    let ids: BTreeSet<u8> = steps.iter().map(|(client, _)| *client).collect();
    let clients: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let (session, engine) = (session.clone(), engine.clone());
            let own: Vec<Op> = steps.iter().filter(|(client, _)| *client == id).map(|(_, op)| op.clone()).collect();
            sim::start("client", move || own.iter().for_each(|op| session.step(&engine, op)))
        })
        .collect();
    clients.into_iter().for_each(sim::Simulated::join);
}

const KEYS: &str = "keys";
const OTHER: &str = "other";

fn put(key: u64, length: usize, mode: CommitMode) -> Op {
    put_in(KEYS, key, length, mode)
}

/// Both or none must be there.
fn put_two(first: u64, second: u64, length: usize, mode: CommitMode) -> Op {
    let change = |key: u64| Change::Put { keyspace: KEYS, key: key.to_be_bytes().to_vec(), length };
    Op::Commit(vec![change(first), change(second)], mode)
}

fn put_in(keyspace: &'static str, key: u64, length: usize, mode: CommitMode) -> Op {
    Op::Commit(vec![Change::Put { keyspace, key: key.to_be_bytes().to_vec(), length }], mode)
}

/// One life of one client, on a database with its keyspace.
fn life(steps: impl IntoIterator<Item = Op>) -> Vec<Step> {
    [Op::Open, Op::Create(KEYS)].into_iter().chain(steps).chain([Op::Close]).map(|op| (0, op)).collect()
}

pub fn create() -> Vec<Step> {
    vec![(0, Op::Open), (0, Op::Close)]
}

pub fn one_thread() -> Vec<Step> {
    let first = MODES.into_iter().enumerate().map(|(number, mode)| put(number as u64, 100 + 200 * number, mode));
    let mut steps: Vec<Op> = first.collect();
    steps.extend([Op::Wait, put(1, 8, CommitMode::Async), put(9, 0, CommitMode::Written), Op::Flush]);
    steps.extend([put(10, 300, CommitMode::Async), put_two(11, 12, 30, CommitMode::Sync)]);
    life(steps)
}

fn three_threads() -> Vec<Step> {
    let mut steps = life([]);
    let close = steps.pop();
    for (client, number) in (0..3_u8).flat_map(|client| (0..4).map(move |number| (client, number))) {
        let (at, mode) = (usize::from(client), MODES[(usize::from(client) + number) % MODES.len()]);
        steps.push((client + 1, put((at * 100 + number) as u64, 150 * (at + 1), mode)));
        if number == 2 {
            steps.push((client + 1, Op::Wait));
        }
    }
    steps.extend(close);
    steps
}

pub fn rotation() -> Vec<Step> {
    let lengths = [900, 1200, 1500, 6000, 700, 2500].into_iter().enumerate();
    let puts = lengths.map(|(number, length)| put(number as u64, length, MODES[number % MODES.len()]));
    life(puts.chain([Op::Flush]))
}

pub fn keyspaces() -> Vec<Step> {
    let steps = [
        Op::Open,
        Op::Create(OTHER),
        put_in(OTHER, 1, 50, CommitMode::Async),
        Op::Drop(OTHER),
        Op::Create(KEYS),
        put(2, 50, CommitMode::Written),
        // If the drop failed, the keyspace is there and this creates nothing.
        Op::Create(OTHER),
        put_in(OTHER, 3, 50, CommitMode::Sync),
        Op::Close,
    ];
    steps.map(|op| (0, op)).into()
}

fn with_tables() -> Vec<Step> {
    life([put(30, 300, CommitMode::Sync), Op::Checkpoint])
}

/// On a database that has tables: two checkpoints, one of which merges; and two of the next life. The first of a database is
/// not among them: what is found of one that failed is taken over yet (step 2 of `table/FAULTS.md`).
fn checkpoints() -> Vec<Step> {
    let puts = |from: u64| (from..).zip(MODES).map(|(key, mode)| put(key, 900, mode));
    let first = puts(0).chain([Op::Flush, Op::Checkpoint]).chain(puts(2)).chain([Op::Flush, Op::Checkpoint]);
    let again = life([Op::Checkpoint, put(20, 40, CommitMode::Written), Op::Flush, Op::Checkpoint]);
    [life(first.chain([put(10, 40, CommitMode::Sync), Op::Checkpoint])), again].concat()
}

/// On such a database: memory is forgotten, what layers have is overwritten and deleted as a range, merged, and backed up twice.
fn ranges_and_backups() -> Vec<Step> {
    let range = |from: u64, to: u64| Change::DeleteRange {
        keyspace: KEYS,
        from: from.to_be_bytes().to_vec(),
        to: Some(to.to_be_bytes().to_vec()),
    };
    let deleted = |from, to, mode| {
        let mark = Change::Put { keyspace: KEYS, key: from_mark(from), length: 40 };
        Op::Commit(vec![range(from, to), mark], mode)
    };
    life([
        put(1, 700, CommitMode::Written),
        Op::Flush,
        Op::Checkpoint,
        deleted(0, 20, CommitMode::Async),
        put(30, 100, CommitMode::Async),
        Op::Backup,
        put(2, 1200, CommitMode::Sync),
        Op::Checkpoint,
        deleted(25, 40, CommitMode::Written),
        Op::Backup,
    ])
}

/// The key of what is put beside a deletion, so that the state behind it is like no other.
fn from_mark(from: u64) -> Vec<u8> {
    (1_000 + from).to_be_bytes().to_vec()
}

fn reopen() -> Vec<Step> {
    let first = life([put(50, 200, CommitMode::Sync), put(51, 20, CommitMode::Async)]);
    [first, life([put(52, 20, CommitMode::Written)])].concat()
}
