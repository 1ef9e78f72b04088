//! What the clients of one life do: drawn from the seed, in every commit mode, and everything that they are told goes
//! into the notes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forelog::sim::{self, SimDisk};
use forelog::{
    BackupOptions, Checkpoints, CommitMode, Engine, Error, ErrorKind, Keyspace, LossBudget, Options, Receipt, Result,
};

use super::backups;
use super::case::Keep;
use super::notes::{Event, Notes};
use crashkit::Random;
use crashkit::event::Name;
use crashkit::fill;
use crashkit::model::{BANK, State, Write, first_accounts};
use crashkit::workload::{Change, Kind, Shape, writes};

/// Keyspaces that are always there. A run with churn creates and drops [`EXTRA`].
const KEYSPACES: [&str; 3] = [BANK, DATA[0], DATA[1]];
const DATA: [&str; 2] = ["left", "right"];
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
    pub script: Arc<[(Kind, CommitMode)]>,
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
    /// Calls in `table/` fail, and nothing else; there are more checkpoints.
    pub tables_fail: bool,
    /// What records may take, if it is so little that they are forgotten; there are more checkpoints.
    pub records: Option<u64>,
    /// There are backups.
    pub backups: bool,
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
            tables_fail: false,
            records: None,
            backups: false,
        }
    }

    fn shape(&self) -> Shape {
        let segment = usize::try_from(self.segment_bytes.min(4_608)).expect("small");
        Shape { keyspaces: &DATA, segment, big_values: self.big_values, churn: self.churn }
    }

    pub fn options(&self) -> Options {
        // In some runs merges take several steps, and checkpoints and merges come of their own accord, too.
        let (checkpoint_bytes, checkpoints) = match self.seed % 16 {
            0 => (4096, Checkpoints::Automatic),
            1 => (16 << 10, Checkpoints::Automatic),
            // A request does the merges, so that the failing call is come to before a close.
            _ if self.tables_fail => (64 << 20, Checkpoints::OnRequest),
            _ => (64 << 20, Checkpoints::Automatic),
        };
        let options = self.records.map_or(Options::new(), |records| Options::new().records_bytes(records));
        options
            .checkpoint_bytes(checkpoint_bytes)
            .checkpoints(checkpoints)
            .commit_mode(self.default_mode)
            .segment_bytes(self.segment_bytes)
            .flush_interval(self.flush_interval)
            .flush_bytes(self.budget.max_bytes.min(4_000))
            .loss_budget(self.budget)
            .io_uring(self.io_uring)
    }
}

/// Opens or creates the keyspaces, and gives the accounts their money. `None` if the disk failed meanwhile.
fn set_up(engine: &Engine, notes: &Notes, plan: &Plan) -> Option<Vec<Keyspace>> {
    let mut keyspaces = Vec::new();
    for name in KEYSPACES {
        let opened = match engine.open_keyspace(name) {
            Err(error) if error.kind() == ErrorKind::NoSuchKeyspace => {
                notes.create(MAIN, plan.default_mode, name, || engine.create_keyspace(name))
            }
            opened => opened,
        };
        keyspaces.push(opened.map_err(|error| notes.expect(&error, &[])).ok()?);
    }
    let bank = &keyspaces[0];
    let snapshot = engine.snapshot().map_err(|error| notes.expect(&error, &[])).ok()?;
    if snapshot.iter(bank).is_ok_and(|mut accounts| accounts.next().is_none()) {
        let main = u32::try_from(MAIN).expect("small");
        let name = Name { life: u32::try_from(plan.life).expect("few lives"), client: main, number: 0 };
        let writes = first_accounts(plan.seed, name);
        let mut batch = engine.batch().ok()?;
        fill!(batch, |_: &str| Ok::<_, Error>(bank.clone()), writes).ok()?;
        let mode = plan.modes[0];
        let filled = notes.commit(MAIN, mode, writes, || batch.commit_with(mode));
        filled.map_err(|error| notes.expect(&error, &[])).ok()?;
    }
    Some(keyspaces)
}

/// Runs the clients, waits for them, and has everything flushed.
pub fn run_clients(engine: &Engine, disk: &SimDisk, notes: &Notes, plan: &Plan) {
    let Some(keyspaces) = set_up(engine, notes, plan) else { return };
    let client = |id, random| Client {
        id,
        number: 0,
        engine: engine.clone(),
        disk: disk.clone(),
        notes: notes.clone(),
        keyspaces: keyspaces.clone(),
        extra: None,
        random,
        plan: plan.clone(),
        mode: None,
        last_backup: None,
    };
    let clients: Vec<_> = (0..plan.clients)
        .map(|id| {
            let mut client = client(id, Random::new(0));
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
        let mut late = client(plan.clients, random);
        let step = late.plan.shape().kind(&mut late.random);
        late.step(step);
    }
    match engine.flush() {
        Ok(lsn) => notes.note(Event::Durable(lsn)),
        Err(error) => notes.expect(&error, &[]),
    }
}

/// How a client asks for its commit.
#[derive(Clone, Copy)]
enum Way {
    Plain,
    Try,
    Timeout(Duration),
}

/// Commits in one of the ways there are.
macro_rules! commit {
    ($unit:expr, $mode:expr, $way:expr) => {
        match $way {
            Way::Try if $mode != CommitMode::Sync => $unit.try_commit_with($mode).map_err(forelog::Error::from),
            Way::Timeout(time) => $unit.commit_timeout($mode, time).map_err(forelog::Error::from),
            _ => $unit.commit_with($mode),
        }
    };
}

struct Client {
    id: usize,
    /// Counts this client's values.
    number: usize,
    engine: Engine,
    disk: SimDisk,
    notes: Notes,
    keyspaces: Vec<Keyspace>,
    /// The one that comes and goes, as it was found last.
    extra: Option<Keyspace>,
    random: Random,
    plan: Plan,
    /// Instead of one that is drawn.
    mode: Option<CommitMode>,
    /// The name of the one that this client has made.
    last_backup: Option<String>,
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
                None if self.plan.tables_fail && self.random.one_in(3) => Kind::Checkpoint,
                None if self.plan.records.is_some() && self.random.one_in(4) => Kind::Checkpoint,
                None if self.plan.backups && self.random.one_in(4) => Kind::Backup,
                None => self.plan.shape().kind(&mut self.random),
            };
            self.step(step);
        }
    }

    fn step(&mut self, step: Kind) {
        let done = match step {
            Kind::Clear => self.clear(),
            Kind::Churn => self.churn(),
            Kind::Flush => self.flush(),
            Kind::Observe => self.observe(),
            Kind::Checkpoint => self.checkpoint(),
            Kind::Backup => self.back_up(),
            _ => {
                let changes = self.plan.shape().changes(step, &mut self.random);
                self.commit(&changes)
            }
        };
        match done {
            Ok(Some(receipt)) => self.follow_up(receipt),
            Ok(None) => {}
            Err(error) => self.notes.expect(
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
        self.notes.note(Event::Durable(lsn));
        Ok(None)
    }

    /// Now and then several in a row, so that layers are merged.
    fn checkpoint(&mut self) -> Result<Option<Receipt>> {
        for _ in 0..=self.random.below(4) / 2 {
            let durable = self.engine.durable_lsn();
            self.notes.note(Event::Checkpoint);
            match self.engine.checkpoint() {
                Ok(()) => self.notes.note(Event::Durable(durable)),
                // P4: typed, with the file.
                Err(error) if self.plan.tables_fail && error.to_string().contains("table") => {
                    self.notes.expect(&error, &[ErrorKind::Io, ErrorKind::DiskFull]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// In full, or against the one before.
    fn back_up(&mut self) -> Result<Option<Receipt>> {
        let name = format!("{}-{}-{}", self.plan.life, self.id, self.number);
        let earlier = self.last_backup.take().filter(|_| self.random.one_in(2));
        let options =
            earlier.map_or_else(BackupOptions::new, |name| BackupOptions::new().against(backups::path(&name)));
        self.notes.note(Event::Checkpoint);
        let made = self.engine.backup_on(Arc::new(self.disk.clone()), backups::path(&name), options)?;
        self.notes.note(Event::BackedUp(made.lsn, name.clone()));
        self.last_backup = Some(name);
        Ok(None)
    }

    /// I15: what a snapshot shows is written down, and compared with the commit order when that is known.
    fn observe(&mut self) -> Result<Option<Receipt>> {
        let durable = self.random.one_in(2);
        let snapshot = if durable { self.engine.durable_snapshot()? } else { self.engine.snapshot()? };
        if durable {
            self.notes.note(Event::Durable(snapshot.lsn()));
        }
        let state = State::read(&snapshot)?;
        self.notes.saw(snapshot.lsn(), state);
        Ok(None)
    }

    /// Deletes every key that a snapshot shows.
    fn clear(&mut self) -> Result<Option<Receipt>> {
        let keyspace = self.random.pick(&DATA);
        let state = State::read(&self.engine.snapshot()?)?;
        let changes = self.plan.shape().clear(keyspace, state.keys(keyspace));
        self.commit(&changes)
    }

    fn way(&mut self) -> Way {
        match self.random.below(12) {
            _ if self.mode.is_some() => Way::Plain,
            0 => Way::Try,
            1 => Way::Timeout(micros(self.random.between(10, 500))),
            _ => Way::Plain,
        }
    }

    /// A batch, or a transaction if it reads: again if another one came in between.
    fn commit(&mut self, changes: &[Change]) -> Result<Option<Receipt>> {
        let seed = self.plan.seed;
        if !changes.iter().any(|change| matches!(change, Change::Transfer { .. })) {
            let name = self.next_value();
            let Ok(writes) = writes(changes, seed, name, |_| Ok::<_, Infallible>(None));
            let mut batch = self.engine.batch()?;
            fill!(batch, |name: &str| self.keyspace(name), writes)?;
            let (mode, way) = (self.next_mode(), self.way());
            return self.notes.commit(self.id, mode, writes, || commit!(batch, mode, way)).map(Some);
        }
        loop {
            let name = self.next_value();
            let mut tx = self.engine.begin()?;
            let read = |key: &[u8]| Ok::<_, Error>(tx.get(&self.keyspaces[0], key)?.map(|value| (&*value).into()));
            let writes = writes(changes, seed, name, read)?;
            if writes.is_empty() {
                return Ok(None);
            }
            fill!(tx, |name: &str| self.keyspace(name), writes)?;
            let (mode, way) = (self.next_mode(), self.way());
            match self.notes.commit(self.id, mode, writes, || commit!(tx, mode, way)) {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other.map(Some),
            }
        }
    }

    fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let known = self.keyspaces.iter().chain(&self.extra).find(|known| known.name() == name);
        Ok(known.expect("a keyspace of this workload").clone())
    }

    /// Names what is written next.
    fn next_value(&mut self) -> Name {
        self.number += 1;
        let small = |number: usize| u32::try_from(number).expect("small");
        let life = u32::try_from(self.plan.life).expect("few lives");
        Name { life, client: small(self.id), number: small(self.number) }
    }

    /// Client 0 alone creates and drops the keyspace, the others write to it while it is there.
    fn churn(&mut self) -> Result<Option<Receipt>> {
        let mode = self.plan.default_mode;
        match self.engine.open_keyspace(EXTRA) {
            Ok(_) if self.id == 0 && self.random.one_in(2) => {
                let writes = vec![Write::Drop(EXTRA.into())];
                self.notes.commit(self.id, mode, writes, || self.engine.drop_keyspace(EXTRA)).map(Some)
            }
            Ok(extra) => {
                self.extra = Some(extra);
                let key = Shape::key(&mut self.random);
                self.commit(&[Change::Put { keyspace: EXTRA, key, length: 50 }])
            }
            Err(_) if self.id == 0 => {
                self.notes.create(self.id, mode, EXTRA, || self.engine.create_keyspace(EXTRA))?;
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    /// Asks, in one of the ways there are, whether the commit is durable.
    fn follow_up(&mut self, receipt: Receipt) {
        let (notes, lsn) = (self.notes.clone(), receipt.lsn());
        if self.engine.visible_lsn() < lsn {
            notes.journal.wrong(format!("I15: {lsn} was acknowledged and cannot be read"));
        }
        if self.mode.is_some() {
            if receipt.is_durable() {
                notes.note(Event::Durable(lsn));
            }
            return;
        }
        match self.random.below(14) {
            0 => notes.durable(lsn, &receipt.wait()),
            1 => notes.durable(lsn, &wait_as_a_task(receipt)),
            2 => notes.durable(lsn, &receipt.wait_timeout(micros(self.random.between(10, 1_000)))),
            3..=5 => {
                let told = notes.clone();
                let asked = notes.journal.call_back(&receipt, move |verdict| told.durable(lsn, &verdict));
                asked.unwrap_or_else(|error| notes.expect(&error, &[]));
            }
            6 => match self.engine.flush() {
                Ok(lsn) => notes.note(Event::Durable(lsn)),
                Err(error) => notes.expect(&error, &[]),
            },
            7 => match self.engine.snapshot() {
                Ok(snapshot) => notes.durable(snapshot.lsn(), &snapshot.wait_durable()),
                Err(error) => notes.expect(&error, &[]),
            },
            8 => notes.note(Event::Durable(self.engine.durable_lsn())),
            9 if receipt.is_durable() => notes.note(Event::Durable(lsn)),
            10 => match self.engine.outcome(&receipt.token()) {
                Ok(forelog::Outcome::Durable) => notes.note(Event::Durable(lsn)),
                Ok(forelog::Outcome::Pending | forelog::Outcome::Indeterminate) => {}
                other => notes.journal.wrong(format!("the outcome of a commit of this life is {other:?}")),
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
