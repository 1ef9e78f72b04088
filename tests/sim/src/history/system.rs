//! The engine and its history, side by side, and what the client does between two events.

use std::collections::BTreeMap;

use crashkit::{Random, open_on};
use forelog::sim::{SimDisk, Simulated};
use forelog::{CommitMode, Engine, Keyspace, Lsn, Receipt, Snapshot, Token};

use super::counts::Counts;
use super::events::Armed;
use super::model::{History, Operation};
use super::plan::Plan;
use super::reads::{Outcome, Read};
use super::transactions::{Tx, Written};

/// The keyspaces that come and go, the first of which is always there.
pub(super) const NAMES: [&str; 3] = ["accounts", "b", "churn"];
/// How the names of keyspaces begin that only take memory.
pub(super) const BALLAST: &str = "~ballast";
const TXS: usize = 3;
const SNAPSHOTS: usize = 6;
/// Tokens that are asked for after a crash.
const TOKENS: usize = 20;

pub(super) struct System {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) disk: SimDisk,
    pub(super) engine: Engine,
    pub(super) history: History,
    /// By their place in the history.
    handles: BTreeMap<usize, Keyspace>,
    pub(super) snapshots: Vec<Option<Snapshot>>,
    /// More than the horizon tells apart.
    pub(super) crowd: Vec<Snapshot>,
    txs: Vec<Option<Tx>>,
    /// The last commit that was acknowledged in `Written` or `Sync`.
    pub(super) written: Lsn,
    pub(super) tokens: Vec<Token>,
    pub(super) counts: Counts,
    /// A checkpoint that was asked for on another thread.
    pub(super) beside: Option<Simulated>,
    pub(super) armed: Armed,
    /// Checkpoints of this open that are accounted for.
    pub(super) seen_checkpoints: u64,
    /// Where the layers ended at the last look.
    pub(super) up_to: Lsn,
    /// Near which keys are drawn.
    near: usize,
}

pub(super) fn failed(what: &'static str) -> impl Fn(forelog::Error) -> String {
    move |error| format!("{what}: {error}")
}

impl System {
    pub(super) fn new(seed: u64) -> Outcome<Self> {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let disk = SimDisk::new();
        disk.set_sync_latency(plan.sync_latency);
        let engine = open_on(&disk, plan.options()).map_err(failed("the first open"))?;
        let mut system = System {
            plan,
            random,
            disk,
            engine,
            history: History::default(),
            handles: BTreeMap::new(),
            snapshots: (0..SNAPSHOTS).map(|_| None).collect(),
            crowd: Vec::new(),
            txs: (0..TXS).map(|_| None).collect(),
            written: Lsn::ZERO,
            tokens: Vec::new(),
            counts: Counts { cases: 1, ..Counts::default() },
            beside: None,
            armed: Armed::default(),
            seen_checkpoints: 0,
            up_to: Lsn::ZERO,
            near: 0,
        };
        system.armed.watch(&system.disk);
        for name in NAMES {
            system.create(name)?;
        }
        system.create_ballast()?;
        system.engine.flush().map_err(failed("a flush"))?;
        Ok(system)
    }

    /// One step: something that a client does, or an event.
    pub(super) fn step(&mut self) -> Outcome {
        let safe = self.safe();
        if self.random.one_in(self.plan.events) {
            self.event()?;
        } else {
            self.client()?;
        }
        self.crash_if_struck(safe)
    }

    fn client(&mut self) -> Outcome {
        match self.random.below(100) {
            0..24 => {
                let length = self.random.between(1, 5);
                self.batch(length)
            }
            24..27 => {
                let length = self.random.between(20, 200);
                self.batch(length)
            }
            27..32 => self.begin(),
            32..44 => self.read_in_transaction(),
            44..54 => self.write_in_transaction(),
            54..60 => self.commit(),
            60 => {
                let slot = self.random.below(TXS);
                drop(self.txs[slot].take());
                Ok(())
            }
            61..66 => self.take_snapshot(),
            66..84 => self.read_snapshot(),
            84..97 => self.read_newest(),
            97 => self.churn(),
            _ => {
                self.counts.flushes += 1;
                self.engine.flush().map(drop).map_err(failed("a flush"))
            }
        }
    }

    /// The newest snapshot shows the newest state.
    pub(super) fn newest(&self) -> Outcome<Snapshot> {
        let snapshot = self.engine.snapshot().map_err(failed("a snapshot"))?;
        let last = self.history.last();
        if snapshot.lsn() != last {
            return Err(format!("the newest snapshot is at {}, and the last commit at {last}", snapshot.lsn()));
        }
        Ok(snapshot)
    }

    /// The handle of a keyspace, by its place.
    pub(super) fn handle(&self, place: usize) -> Keyspace {
        self.handles[&place].clone()
    }

    /// A keyspace that is there at `lsn`; usually the first one.
    fn space_at(&mut self, lsn: Lsn) -> usize {
        let name = self.random.pick(&[NAMES[0], NAMES[0], NAMES[1], NAMES[2]]);
        let place = self.history.space(name, lsn).or_else(|| self.history.space(NAMES[0], lsn));
        place.expect("it is never dropped")
    }

    pub(super) fn mode(&mut self) -> CommitMode {
        self.random.pick(&self.plan.modes)
    }

    fn key(&mut self) -> Vec<u8> {
        self.plan.key(&mut self.random, &mut self.near)
    }

    fn operation(&mut self) -> Operation {
        let key = self.key();
        match self.random.below(40) {
            0 => {
                let other = self.key();
                let (from, to) = if key <= other { (key, other) } else { (other, key) };
                self.counts.range_deletes += 1;
                Operation::DeleteRange { from, to }
            }
            1..12 => {
                self.counts.deletes += 1;
                Operation::Delete { key }
            }
            _ => {
                self.counts.puts += 1;
                let value = self.history.value(Plan::length(&mut self.random));
                Operation::Put { key, value }
            }
        }
    }

    fn read(&mut self) -> Read {
        let (key, other) = (self.key(), self.key());
        Read::draw(&mut self.random, key, other)
    }

    /// A commit was acknowledged.
    pub(super) fn committed(&mut self, receipt: &Receipt, mode: CommitMode, done: &[(usize, Operation)]) -> Outcome {
        let (lsn, last) = (receipt.lsn(), self.history.last());
        if lsn <= last {
            return Err(format!("a commit has its place at {lsn}, and the one before at {last}"));
        }
        if mode == CommitMode::Sync && !receipt.is_durable() {
            return Err(format!("{lsn} was committed in Sync mode, and is not durable"));
        }
        self.history.commit(done, lsn);
        if matches!(mode, CommitMode::Sync | CommitMode::Written) {
            self.written = lsn;
        }
        self.tokens.push(receipt.token());
        if self.tokens.len() > TOKENS {
            self.tokens.remove(0);
        }
        Ok(())
    }

    pub(super) fn batch(&mut self, length: usize) -> Outcome {
        self.counts.batches += 1;
        let mut batch = self.engine.batch().map_err(failed("a batch"))?;
        let (mut written, last) = (Written::default(), self.history.last());
        for _ in 0..length {
            let place = self.space_at(last);
            let (operation, keyspace) = (self.operation(), self.handle(place));
            let space = &self.history.spaces[place];
            written.write(&mut batch, (place, space, &keyspace), (operation, last)).map_err(failed("a batch"))?;
        }
        let mode = self.mode();
        let receipt = batch.commit_with(mode).map_err(failed("a batch"))?;
        // A deletion of a range in which nothing is may be nothing to the engine.
        if receipt.lsn() == last { Ok(()) } else { self.committed(&receipt, mode, &written.operations) }
    }

    fn begin(&mut self) -> Outcome {
        self.counts.transactions += 1;
        let tx = self.engine.begin().map_err(failed("begin"))?;
        if tx.snapshot_lsn() != self.history.last() {
            return Err(format!("a transaction begins at {}, not {}", tx.snapshot_lsn(), self.history.last()));
        }
        let empty = self.txs.iter().position(Option::is_none);
        let slot = empty.unwrap_or_else(|| self.random.below(TXS));
        self.txs[slot] = Some(Tx::new(tx));
        Ok(())
    }

    /// The place of an open transaction.
    fn open_transaction(&mut self) -> Option<usize> {
        let open: Vec<_> = (0..TXS).filter(|slot| self.txs[*slot].is_some()).collect();
        if open.is_empty() { None } else { Some(self.random.pick(&open)) }
    }

    fn read_in_transaction(&mut self) -> Outcome {
        let Some(slot) = self.open_transaction() else { return self.begin() };
        let Some(mut tx) = self.txs[slot].take() else { return Ok(()) };
        let (place, read) = (self.space_at(tx.tx.snapshot_lsn()), self.read());
        read.count(&mut self.counts);
        let result = tx.read(&self.history, place, &self.handle(place), &read);
        self.txs[slot] = Some(tx);
        result
    }

    fn write_in_transaction(&mut self) -> Outcome {
        let Some(slot) = self.open_transaction() else { return self.begin() };
        let Some(mut tx) = self.txs[slot].take() else { return Ok(()) };
        for _ in 0..self.random.between(1, 4) {
            let (place, operation) = (self.space_at(tx.tx.snapshot_lsn()), self.operation());
            let written = tx.write(&self.history, (place, &self.handle(place)), operation);
            written.map_err(failed("a write of a transaction"))?;
        }
        self.txs[slot] = Some(tx);
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        let Some(slot) = self.open_transaction() else { return self.begin() };
        let Some(tx) = self.txs[slot].take() else { return Ok(()) };
        let mode = self.mode();
        self.commit_transaction(tx, mode)
    }

    /// Some are held until the next open.
    fn take_snapshot(&mut self) -> Outcome {
        self.counts.snapshots += 1;
        let snapshot = if self.random.one_in(4) {
            let durable = self.engine.durable_snapshot().map_err(failed("a durable snapshot"))?;
            let lsn = durable.lsn();
            if lsn != Lsn::ZERO && self.history.commits.binary_search(&lsn).is_err() {
                return Err(format!("a durable snapshot at {lsn}, where no commit ended"));
            }
            durable
        } else {
            self.newest()?
        };
        let slot = self.random.below(SNAPSHOTS + SNAPSHOTS / 2) / 2;
        self.snapshots[slot] = Some(snapshot);
        Ok(())
    }

    fn read_snapshot(&mut self) -> Outcome {
        let from_crowd = !self.crowd.is_empty() && self.random.one_in(3);
        let snapshot = if from_crowd {
            self.random.pick(&self.crowd)
        } else {
            let slot = self.random.below(SNAPSHOTS);
            let Some(snapshot) = &self.snapshots[slot] else { return self.take_snapshot() };
            snapshot.clone()
        };
        if snapshot.lsn() < self.up_to {
            self.counts.old_reads += 1;
        }
        self.check_read(&snapshot)
    }

    fn read_newest(&mut self) -> Outcome {
        self.check_read(&self.newest()?)
    }

    fn check_read(&mut self, snapshot: &Snapshot) -> Outcome {
        let at = snapshot.lsn();
        // A durable snapshot may be from before the first keyspace.
        if self.history.space(NAMES[0], at).is_none() {
            return Ok(());
        }
        let (place, read) = (self.space_at(at), self.read());
        read.count(&mut self.counts);
        let space = &self.history.spaces[place];
        let expected = space.range(&read.bounds(), at);
        let result = read.check(&mut &*snapshot, &self.handle(place), &expected);
        result.map_err(|why| format!("{} at {at}, layers up to {}: {why}", space.name, self.up_to))
    }

    fn create(&mut self, name: &'static str) -> Outcome {
        self.counts.creates += 1;
        let keyspace = self.engine.create_keyspace(name).map_err(failed("a keyspace"))?;
        let place = self.history.create(name, self.engine.visible_lsn());
        if matches!(self.plan.default_mode, CommitMode::Sync | CommitMode::Written) {
            self.written = self.history.last();
        }
        self.handles.insert(place, keyspace);
        Ok(())
    }

    /// Creates the keyspace that comes and goes, or drops it.
    fn churn(&mut self) -> Outcome {
        let name = self.random.pick(&NAMES[1..]);
        let Some(place) = self.history.space(name, self.history.last()) else { return self.create(name) };
        if self.random.one_in(2) {
            return Ok(());
        }
        self.counts.drops += 1;
        let receipt = self.engine.drop_keyspace(name).map_err(failed("a drop"))?;
        self.history.drop(place, receipt.lsn());
        if matches!(self.plan.default_mode, CommitMode::Sync | CommitMode::Written) {
            self.written = receipt.lsn();
        }
        Ok(())
    }

    /// No transaction is open any more.
    pub(super) fn roll_back(&mut self) {
        self.txs.iter_mut().for_each(|slot| *slot = None);
    }

    /// Nothing is held any more.
    pub(super) fn let_go(&mut self) {
        self.roll_back();
        self.snapshots.iter_mut().for_each(|slot| *slot = None);
        self.crowd.clear();
        self.handles.clear();
    }

    /// Compares everything with the newest state, after an open.
    pub(super) fn check_all(&mut self) -> Outcome {
        let snapshot = self.newest()?;
        let last = snapshot.lsn();
        let mut names = snapshot.keyspace_names().map_err(failed("the names"))?;
        names.retain(|name| !name.starts_with(BALLAST));
        let alive = self.history.spaces.iter().enumerate().filter(|(_, space)| space.is_alive(last));
        let mut places: Vec<_> = alive.map(|(place, space)| (space.name, place)).collect();
        places.sort_unstable();
        if !names.iter().eq(places.iter().map(|(name, _)| name)) {
            return Err(format!("there are keyspaces {names:?} at {last}, and not {places:?}"));
        }
        for (name, place) in places {
            let keyspace = snapshot.keyspace(name).map_err(failed("a keyspace"))?.ok_or("a keyspace is gone")?;
            let read = Read::all(self.random.one_in(2));
            let expected = self.history.spaces[place].range(&read.bounds(), last);
            read.check(&mut &snapshot, &keyspace, &expected).map_err(|why| format!("{name} at {last}: {why}"))?;
            self.handles.insert(place, keyspace);
        }
        Ok(())
    }

    /// Ends the case with a close and an open.
    pub(super) fn end(mut self) -> Outcome<Counts> {
        self.close_and_check()?;
        self.let_go();
        self.engine.close().map_err(failed("the last close"))?;
        Ok(self.counts)
    }
}
