//! What the clients of one life do: drawn from the seed, in every commit mode, and everything that they are told goes
//! into the ledger.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forelog::{CommitMode, Engine, ErrorKind, Keyspace, LossBudget, Options, Receipt, Result, Transaction, sim};

use super::case::Keep;
use super::ledger::{Event, Ledger};
use crashkit::Random;
use crashkit::model::{ACCOUNTS, BANK, Bytes, State, Write, account, account_value, balance, first_balance, value};

/// Keyspaces that are always there. A run with churn creates and drops [`EXTRA`].
const KEYSPACES: [&str; 3] = [BANK, "left", "right"];
const EXTRA: &str = "extra";
/// The client number of the thread that opens, sets up, and closes.
const MAIN: usize = 99;

/// One life of a database, from open to close.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Unique among the lives of a database.
    pub life: u64,
    /// What the clients do follows from it.
    pub seed: u64,
    /// What one client does, instead of what is drawn.
    pub script: Arc<[(Step, CommitMode)]>,
    pub keep: Keep,
    pub clients: usize,
    pub steps: usize,
    pub modes: Vec<CommitMode>,
    pub default_mode: CommitMode,
    pub segment_bytes: u64,
    pub sync_latency: Duration,
    pub flush_interval: Duration,
    pub budget: LossBudget,
    /// Whether there are values that do not fit one segment.
    pub big_values: bool,
    /// Whether a keyspace comes and goes.
    pub churn: bool,
    /// Syncs that take this much longer, each after how many others.
    pub stalls: Vec<(u64, Duration)>,
    /// Crash points are taken at each so many-th operation.
    pub cut_every: u64,
    /// Whether a flush is one submission.
    pub io_uring: bool,
}

fn micros(count: usize) -> Duration {
    Duration::from_micros(count as u64)
}

fn stall(random: &mut Random) -> (u64, Duration) {
    (random.below(20) as u64, micros(random.between(1_000, 8_000)))
}

impl Plan {
    pub fn draw(random: &mut Random, life: u64) -> Self {
        let within = CommitMode::Within(micros(random.between(50, 500)));
        let all = vec![CommitMode::Sync, CommitMode::Written, CommitMode::Async, within];
        let modes = match random.below(10) {
            0 => vec![random.pick(&all)],
            1 => vec![CommitMode::Sync, CommitMode::Written],
            2 => vec![CommitMode::Sync, CommitMode::Async],
            _ => all.clone(),
        };
        let max_age = micros(random.between(2_000, 5_000));
        let budget = match random.below(3) {
            0 => LossBudget::default().max_commits(random.between(2, 6) as u64).max_age(max_age),
            1 => LossBudget::default().max_bytes(random.between(600, 4_000) as u64).max_age(max_age),
            _ => LossBudget::default(),
        };
        Plan {
            life,
            seed: random.next(),
            script: Arc::default(),
            keep: Keep::default(),
            clients: random.pick(&[1, 2, 3, 4, 4, 5, 5, 5]),
            steps: random.between(3, 6),
            modes,
            default_mode: random.pick(&all),
            segment_bytes: random.pick(&[4096, 4096, 4608, 8192, 16_384]),
            sync_latency: micros(random.between(50, 300)),
            flush_interval: micros(random.between(100, 2_000)),
            budget,
            big_values: random.one_in(4),
            churn: random.one_in(3),
            stalls: if random.one_in(4) { (0..4).map(|_| stall(random)).collect() } else { Vec::new() },
            cut_every: 1,
            io_uring: random.one_in(2),
        }
    }

    pub fn options(&self) -> Options {
        Options::new()
            .commit_mode(self.default_mode)
            .segment_bytes(self.segment_bytes)
            .flush_interval(self.flush_interval)
            .flush_bytes(self.budget.max_bytes.min(4_000))
            .loss_budget(self.budget)
            .io_uring(self.io_uring)
    }
}

/// Opens or creates the keyspaces, and gives the accounts their money. `None` if the disk failed meanwhile.
fn set_up(engine: &Engine, ledger: &Ledger, plan: &Plan) -> Option<Vec<Keyspace>> {
    let mut keyspaces = Vec::new();
    for name in KEYSPACES {
        let opened = match engine.open_keyspace(name) {
            Err(error) if error.kind() == ErrorKind::NoSuchKeyspace => {
                ledger.create(MAIN, plan.default_mode, name, || engine.create_keyspace(name))
            }
            opened => opened,
        };
        keyspaces.push(opened.map_err(|error| ledger.expect(&error, &[])).ok()?);
    }
    let bank = &keyspaces[0];
    let snapshot = engine.snapshot().map_err(|error| ledger.expect(&error, &[])).ok()?;
    if snapshot.iter(bank).is_ok_and(|mut accounts| accounts.next().is_none()) {
        let mut batch = Batch::new(engine).ok()?;
        for number in 0..ACCOUNTS {
            let key = account(number);
            let value = account_value(plan.life, MAIN, number, &key, first_balance());
            batch.put(bank, &key, &value).ok()?;
        }
        batch.commit(ledger, MAIN, plan.modes[0], Way::Plain).map_err(|error| ledger.expect(&error, &[])).ok()?;
    }
    Some(keyspaces)
}

/// Runs the clients, waits for them, and has everything flushed.
pub fn run_clients(engine: &Engine, ledger: &Ledger, plan: &Plan) {
    let Some(keyspaces) = set_up(engine, ledger, plan) else { return };
    let clients: Vec<_> = (0..plan.clients)
        .map(|id| {
            let (engine, ledger, plan) = (engine.clone(), ledger.clone(), plan.clone());
            let (keyspaces, random) = (keyspaces.clone(), Random::new(0));
            let mut client = Client { id, number: 0, engine, ledger, keyspaces, random, plan, mode: None };
            sim::start(&format!("client {id}"), move || client.run())
        })
        .collect();
    clients.into_iter().for_each(sim::Simulated::join);
    if !plan.script.is_empty() {
        return;
    }
    let mut random = Random::new(plan.seed);
    if random.one_in(3) {
        // Until the log has written its mark, with the last commits durable or not, and on from there.
        sim::sleep(Duration::from_millis(random.between(900, 2_500) as u64));
        let (engine, ledger, plan) = (engine.clone(), ledger.clone(), plan.clone());
        let mut late = Client { id: plan.clients, number: 0, engine, ledger, keyspaces, random, plan, mode: None };
        let step = late.draw_step();
        late.step(step);
    }
    match engine.flush() {
        Ok(lsn) => ledger.note(Event::Durable(lsn)),
        Err(error) => ledger.expect(&error, &[]),
    }
}

/// How a client asks for its commit.
#[derive(Clone, Copy)]
enum Way {
    Plain,
    Try,
    Timeout(Duration),
}

/// A batch, and what the ledger is told of it.
struct Batch {
    batch: forelog::WriteBatch,
    writes: Vec<Write>,
}

impl Batch {
    fn new(engine: &Engine) -> Result<Self> {
        Ok(Batch { batch: engine.batch()?, writes: Vec::new() })
    }

    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put(keyspace, key, value)?;
        self.writes.push(Write::Put(keyspace.name().into(), key.into(), value.into()));
        Ok(())
    }

    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.batch.delete(keyspace, key)?;
        self.writes.push(Write::Delete(keyspace.name().into(), key.into()));
        Ok(())
    }

    fn commit(self, ledger: &Ledger, client: usize, mode: CommitMode, way: Way) -> Result<Receipt> {
        ledger.commit(client, mode, self.writes, || match way {
            Way::Try if mode != CommitMode::Sync => self.batch.try_commit_with(mode),
            Way::Timeout(time) => self.batch.commit_timeout(mode, time),
            _ => self.batch.commit_with(mode),
        })
    }
}

/// The same for a transaction.
fn commit(tx: Transaction, mode: CommitMode, way: Way) -> Result<Receipt> {
    match way {
        Way::Try if mode != CommitMode::Sync => Ok(tx.try_commit_with(mode)?),
        Way::Timeout(time) => Ok(tx.commit_timeout(mode, time)?),
        _ => tx.commit_with(mode),
    }
}

/// What a client does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    PutOne,
    PutMany,
    PutBig,
    Delete,
    /// A keyspace, key by key, in one transaction.
    Clear,
    Transfer,
    Churn,
    Flush,
    Observe,
}

struct Client {
    id: usize,
    /// Counts this client's values.
    number: usize,
    engine: Engine,
    ledger: Ledger,
    keyspaces: Vec<Keyspace>,
    random: Random,
    plan: Plan,
    /// Instead of one that is drawn.
    mode: Option<CommitMode>,
}

impl Client {
    /// What a step does follows from its place alone, so that others can be left out without changing it.
    fn run(&mut self) {
        let scripted = Arc::clone(&self.plan.script);
        let steps = if scripted.is_empty() { self.plan.steps } else { scripted.len() };
        for place in 0..steps {
            if !self.plan.keep.has((self.plan.life, self.id, place)) {
                continue;
            }
            self.random = Random::new(self.plan.seed ^ (self.id << 40 | place << 20) as u64);
            self.number = place * 100;
            let step = match scripted.get(place) {
                Some((step, mode)) => {
                    self.mode = Some(*mode);
                    *step
                }
                None => self.draw_step(),
            };
            self.step(step);
        }
    }

    fn draw_step(&mut self) -> Step {
        match self.random.below(31) {
            0..=5 => Step::PutOne,
            6..=11 => Step::PutMany,
            12..=17 => Step::Transfer,
            18..=19 => Step::Delete,
            20 => Step::Clear,
            21..=26 => Step::Observe,
            27..=28 if self.plan.big_values => Step::PutBig,
            _ if self.plan.churn => Step::Churn,
            _ => Step::PutOne,
        }
    }

    fn step(&mut self, step: Step) {
        let done = match step {
            Step::PutOne => self.put_one(),
            Step::PutMany => self.put_many(),
            Step::PutBig => self.put_big(),
            Step::Delete => self.delete_one(),
            Step::Clear => self.clear(),
            Step::Transfer => self.transfer(),
            Step::Churn => self.churn(),
            Step::Flush => self.flush(),
            Step::Observe => self.observe(),
        };
        match done {
            Ok(Some(receipt)) => self.follow_up(receipt),
            Ok(None) => {}
            Err(error) => self.ledger.expect(
                &error,
                &[ErrorKind::Conflict, ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::KeyspaceDropped],
            ),
        }
        if self.plan.script.is_empty() && self.random.one_in(3) {
            sim::sleep(micros(self.random.below(300)));
        }
    }

    /// The mode that is next.
    fn next_mode(&mut self) -> CommitMode {
        self.mode.unwrap_or_else(|| self.random.pick(&self.plan.modes))
    }

    fn flush(&mut self) -> Result<Option<Receipt>> {
        let lsn = self.engine.flush()?;
        self.ledger.note(Event::Durable(lsn));
        Ok(None)
    }

    /// I15: what a snapshot shows is written down, and compared with the commit order when that is known.
    fn observe(&mut self) -> Result<Option<Receipt>> {
        let durable = self.random.one_in(2);
        let snapshot = if durable { self.engine.durable_snapshot()? } else { self.engine.snapshot()? };
        if durable {
            self.ledger.note(Event::Durable(snapshot.lsn()));
        }
        let state = State::read(&snapshot)?;
        self.ledger.saw(snapshot.lsn(), state);
        Ok(None)
    }

    /// Deletes every key that a snapshot shows.
    fn clear(&mut self) -> Result<Option<Receipt>> {
        let keyspace = self.data();
        let state = State::read(&self.engine.snapshot()?)?;
        let mut batch = Batch::new(&self.engine)?;
        for key in state.keys(keyspace.name()).filter(|key| !key.starts_with(b"marker")) {
            batch.delete(&keyspace, key)?;
        }
        let value = self.value(b"marker", 0);
        batch.put(&keyspace, b"marker", &value)?;
        self.commit(batch)
    }

    fn way(&mut self) -> Way {
        match self.random.below(12) {
            _ if self.mode.is_some() => Way::Plain,
            0 => Way::Try,
            1 => Way::Timeout(micros(self.random.between(10, 500))),
            _ => Way::Plain,
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<Option<Receipt>> {
        let (mode, way) = (self.next_mode(), self.way());
        batch.commit(&self.ledger, self.id, mode, way).map(Some)
    }

    /// One of few keys, so that values are overwritten.
    fn key(&mut self) -> Vec<u8> {
        format!("key {}", self.random.below(8)).into_bytes()
    }

    fn data(&mut self) -> Keyspace {
        self.random.pick(&self.keyspaces[1..])
    }

    fn value(&mut self, key: &[u8], length: usize) -> Vec<u8> {
        self.number += 1;
        value(self.plan.life, self.id, self.number, key, length)
    }

    fn put_one(&mut self) -> Result<Option<Receipt>> {
        let (keyspace, key) = (self.data(), self.key());
        let length = self.random.pick(&[0, 40, 40, 100, 300, 511, 512, 513, 1_000, 1_000, 4_095, 4_096, 4_097]);
        let value = self.value(&key, length);
        let mut batch = Batch::new(&self.engine)?;
        batch.put(&keyspace, &key, &value)?;
        self.commit(batch)
    }

    /// Several keys in several keyspaces, values without a byte and of one byte among them.
    fn put_many(&mut self) -> Result<Option<Receipt>> {
        let mut batch = Batch::new(&self.engine)?;
        for at in 1..self.keyspaces.len() {
            let key = self.key();
            let value = self.value(&key, 60);
            batch.put(&self.keyspaces[at], &key, &value)?;
        }
        let keyspace = self.data();
        let tiny = vec![b'x'; self.random.below(2)];
        batch.put(&keyspace, b"tiny", &tiny)?;
        self.commit(batch)
    }

    /// The marker makes the state after it unlike any other, also where the key was not there.
    fn delete_one(&mut self) -> Result<Option<Receipt>> {
        let mut batch = Batch::new(&self.engine)?;
        let (keyspace, key) = (self.data(), self.key());
        batch.delete(&keyspace, &key)?;
        let value = self.value(b"marker", 0);
        batch.put(&keyspace, b"marker", &value)?;
        self.commit(batch)
    }

    fn put_big(&mut self) -> Result<Option<Receipt>> {
        let segment = usize::try_from(self.plan.segment_bytes.min(4_608)).expect("small");
        let length = self.random.pick(&[segment - 1, segment, segment * 3]);
        let (keyspace, key) = (self.data(), self.key());
        let value = self.value(&key, length);
        let mut batch = Batch::new(&self.engine)?;
        batch.put(&keyspace, &key, &value)?;
        self.commit(batch)
    }

    /// Moves money between two accounts, again if somebody else moved theirs meanwhile.
    fn transfer(&mut self) -> Result<Option<Receipt>> {
        let bank = self.keyspaces[0].clone();
        let from = self.random.below(ACCOUNTS);
        let to = (from + self.random.between(1, ACCOUNTS - 1)) % ACCOUNTS;
        let amount = i64::try_from(self.random.between(1, 50)).expect("small");
        loop {
            let mut tx = self.engine.begin()?;
            let mut writes = Vec::new();
            for (number, change) in [(from, -amount), (to, amount)] {
                let key = account(number);
                let Some(old) = tx.get(&bank, &key)? else { return Ok(None) };
                self.number += 1;
                let new = account_value(
                    self.plan.life,
                    self.id,
                    self.number,
                    &key,
                    balance(&old).expect("an account") + change,
                );
                tx.put(&bank, &key, &new)?;
                writes.push(Write::Put(BANK.into(), key.into(), new.into()));
            }
            let (mode, way) = (self.next_mode(), self.way());
            let committed = self.ledger.commit(self.id, mode, writes, || commit(tx, mode, way));
            match committed {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other.map(Some),
            }
        }
    }

    /// Client 0 alone creates and drops the keyspace, the others write to it while it is there.
    fn churn(&mut self) -> Result<Option<Receipt>> {
        let mode = self.plan.default_mode;
        match self.engine.open_keyspace(EXTRA) {
            Ok(_) if self.id == 0 && self.random.one_in(2) => {
                let writes = vec![Write::Drop(EXTRA.into())];
                self.ledger.commit(self.id, mode, writes, || self.engine.drop_keyspace(EXTRA)).map(Some)
            }
            Ok(extra) => {
                let key: Bytes = self.key().into();
                let value = self.value(&key, 50);
                let mut batch = Batch::new(&self.engine)?;
                batch.put(&extra, &key, &value)?;
                self.commit(batch)
            }
            Err(_) if self.id == 0 => {
                self.ledger.create(self.id, mode, EXTRA, || self.engine.create_keyspace(EXTRA))?;
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    /// Asks, in one of the ways there are, whether the commit is durable.
    fn follow_up(&mut self, receipt: Receipt) {
        let (ledger, lsn) = (self.ledger.clone(), receipt.lsn());
        if self.engine.visible_lsn() < lsn {
            ledger.wrong(|| format!("I15: {lsn} was acknowledged and cannot be read"));
        }
        if self.mode.is_some() {
            if receipt.is_durable() {
                ledger.note(Event::Durable(lsn));
            }
            return;
        }
        match self.random.below(14) {
            0 => ledger.durable(lsn, &receipt.wait()),
            1 => ledger.durable(lsn, &wait_as_a_task(receipt)),
            2 => ledger.durable(lsn, &receipt.wait_timeout(micros(self.random.between(10, 1_000)))),
            3..=5 => {
                let told = ledger.clone();
                ledger.await_callback();
                let asked = receipt.on_durable(move |verdict| {
                    told.called_back();
                    told.durable(lsn, &verdict);
                });
                asked.unwrap_or_else(|error| {
                    ledger.called_back();
                    ledger.expect(&error, &[]);
                });
            }
            6 => match self.engine.flush() {
                Ok(lsn) => ledger.note(Event::Durable(lsn)),
                Err(error) => ledger.expect(&error, &[]),
            },
            7 => match self.engine.snapshot() {
                Ok(snapshot) => ledger.durable(snapshot.lsn(), &snapshot.wait_durable()),
                Err(error) => ledger.expect(&error, &[]),
            },
            8 => ledger.note(Event::Durable(self.engine.durable_lsn())),
            9 if receipt.is_durable() => ledger.note(Event::Durable(lsn)),
            10 => match self.engine.outcome(&receipt.token()) {
                Ok(forelog::Outcome::Durable) => ledger.note(Event::Durable(lsn)),
                Ok(forelog::Outcome::Pending | forelog::Outcome::Indeterminate) => {}
                other => ledger.wrong(|| format!("the outcome of a commit of this life is {other:?}")),
            },
            _ => {}
        }
    }
}

/// `.await`, on the smallest executor there is.
fn wait_as_a_task(receipt: Receipt) -> Result<()> {
    let mut receipt = pin!(receipt);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(verdict) = receipt.as_mut().poll(&mut context) {
            return verdict;
        }
        sim::sleep(micros(20));
    }
}
