//! The engine against a model: a list of states, each a `BTreeMap`, one for every commit.
//!
//! A case is a list of operations, run on the simulated disk and the deterministic scheduler. It prints its seed;
//! `FORELOG_SEED=<number> cargo test -p forelog-sim --test api model` runs the same cases again, and proptest shrinks what fails.
//! There are 256 cases, or as many as `PROPTEST_CASES` says.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use forelog::sim::{self, Loss, SimDisk};
use forelog::{CommitMode, Engine, Entries, ErrorKind, Keyspace, LossBudget, Lsn, Options, Outcome, Snapshot, Token};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crashkit::open_on;
use ops::{Op, Read, Walk, Write, op};

mod ops;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// Keyspaces by name, with the LSN that created them.
type State = BTreeMap<&'static str, (Lsn, Map)>;
type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);
type Checked<T = ()> = Result<T, TestCaseError>;

/// A name that the engine itself might want among them.
const NAMES: [&str; 3] = ["accounts", "dropped", "c"];
const SLOTS: usize = 3;

/// A transaction with what it read and wrote, by keyspace.
struct Tx {
    tx: forelog::Transaction,
    own: BTreeMap<&'static str, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    reads: Vec<(&'static str, Bounds)>,
}

impl Tx {
    /// A keyspace as the transaction sees it.
    fn view(&self, model: &Model, name: &'static str) -> Map {
        let mut map = model.at(self.tx.snapshot_lsn())[name].1.clone();
        for (key, value) in self.own.get(name).into_iter().flatten() {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        map
    }
}

/// What must be so.
#[derive(Default)]
struct Model {
    /// The state that each commit left, by LSN; the first is the empty one.
    states: Vec<(Lsn, State)>,
    /// Every commit's token, with the answer for ever once there is one.
    tokens: Vec<(Token, Option<Outcome>)>,
    /// The last commit that was acknowledged in `Written` or `Sync`.
    written: Lsn,
    values: usize,
}

impl Model {
    fn at(&self, lsn: Lsn) -> &State {
        let newer = self.states.partition_point(|(at, _)| *at <= lsn);
        &self.states[newer - 1].1
    }

    fn latest(&self) -> &State {
        &self.states.last().expect("the empty one").1
    }

    /// A value that was never used before.
    fn value(&mut self, length: usize) -> Vec<u8> {
        self.values += 1;
        format!("{:0length$}", self.values).into_bytes()
    }

    fn commit(&mut self, receipt: &forelog::Receipt, mode: CommitMode, state: State) -> Checked {
        prop_assert!(receipt.lsn() > self.states.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn));
        prop_assert!(receipt.is_durable() || mode != CommitMode::Sync);
        self.states.push((receipt.lsn(), state));
        self.tokens.push((receipt.token(), None));
        if matches!(mode, CommitMode::Sync | CommitMode::Written) {
            self.written = receipt.lsn();
        }
        Ok(())
    }

    /// Whether a key in `bounds` is another now than at `since`, and whether one was in between.
    fn changed(&self, name: &str, bounds: &Bounds, since: Lsn) -> (bool, bool) {
        let part = |state: &State| -> Map {
            let map = state.get(name).map(|(_, map)| map.iter()).into_iter().flatten();
            map.filter(|(key, _)| bounds.contains(*key)).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let before = part(self.at(since));
        let later = self.states.iter().filter(|(lsn, _)| *lsn > since);
        (part(self.latest()) != before, later.map(|(_, state)| part(state)).any(|part| part != before))
    }
}

struct System {
    disk: SimDisk,
    engine: Engine,
    handles: BTreeMap<(&'static str, Lsn), Keyspace>,
    txs: [Option<Tx>; SLOTS],
    snapshots: [Option<Snapshot>; SLOTS],
    model: Model,
}

fn options() -> Options {
    let budget = LossBudget::default().max_bytes(64 << 10).max_commits(20);
    Options::new().segment_bytes(8192).flush_bytes(16 << 10).loss_budget(budget)
}

/// Takes everything from `range`.
fn walk(mut range: Entries, walk: Walk) -> forelog::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let from_front = match walk {
            Walk::Forward | Walk::Lent => true,
            Walk::Backward => false,
            Walk::FromBothEnds => front.len() <= back.len(),
        };
        if matches!(walk, Walk::Lent) && front.len() % 3 != 0 {
            let Some(entry) = range.next_ref() else { break };
            let (key, value) = entry?;
            front.push((key.to_vec(), value.to_vec()));
            continue;
        }
        let (next, to) = if from_front { (range.next(), &mut front) } else { (range.next_back(), &mut back) };
        let Some(entry) = next else { break };
        let (key, value) = entry?;
        to.push((key.to_vec(), value.to_vec()));
    }
    front.extend(back.into_iter().rev());
    Ok(front)
}

fn part(map: &Map, holds: impl Fn(&Vec<u8>) -> bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    map.iter().filter(|(key, _)| holds(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl System {
    fn new() -> Checked<Self> {
        let disk = SimDisk::new();
        let engine = open_on(&disk, options())?;
        let model = Model { states: vec![(Lsn::ZERO, State::new())], ..Model::default() };
        let (handles, txs, snapshots) = Default::default();
        let mut system = System { disk, engine, handles, txs, snapshots, model };
        system.apply(Op::Create(0))?;
        Ok(system)
    }

    fn handle(&self, name: &'static str, state: &State) -> Option<Keyspace> {
        let (created, _) = state.get(name)?;
        self.handles.get(&(name, *created)).cloned()
    }

    fn apply(&mut self, op: Op) -> Checked {
        match op {
            Op::Batch(mode, writes) => self.batch(mode, writes)?,
            Op::Begin(slot) => {
                let tx = self.engine.begin()?;
                prop_assert_eq!(tx.snapshot_lsn(), self.model.states.last().expect("the empty one").0);
                self.txs[slot] = Some(Tx { tx, own: BTreeMap::new(), reads: Vec::new() });
            }
            Op::Read(slot, name, read) => self.read(slot, NAMES[name], read)?,
            Op::Write(slot, (name, key, length)) => {
                let Some(mut tx) = self.txs[slot].take() else { return Ok(()) };
                if let Some(keyspace) = self.handle(NAMES[name], self.model.at(tx.tx.snapshot_lsn())) {
                    let value = length.map(|length| self.model.value(length));
                    match &value {
                        Some(value) => tx.tx.put(&keyspace, &key, value)?,
                        None => tx.tx.delete(&keyspace, &key)?,
                    }
                    tx.own.entry(NAMES[name]).or_default().insert(key, value);
                }
                self.txs[slot] = Some(tx);
            }
            Op::Commit(slot, mode) => self.commit(slot, mode)?,
            Op::Rollback(slot) => _ = self.txs[slot].take().map(|tx| tx.tx.rollback()),
            Op::Snapshot(slot, durable) => self.take_snapshot(slot, durable)?,
            Op::ReadSnapshot(slot, name, read) => self.read_snapshot(slot, NAMES[name], &read)?,
            Op::WaitDurable(slot) => {
                if let Some(snapshot) = &self.snapshots[slot] {
                    snapshot.wait_durable()?;
                    prop_assert!(snapshot.is_durable() && self.engine.durable_lsn() >= snapshot.lsn());
                }
            }
            Op::Create(name) => {
                let mut state = self.model.latest().clone();
                let keyspace = self.engine.create_keyspace(NAMES[name])?;
                if !state.contains_key(NAMES[name]) {
                    let lsn = self.engine.visible_lsn();
                    state.insert(NAMES[name], (lsn, Map::new()));
                    self.model.states.push((lsn, state));
                    self.model.written = lsn;
                    self.handles.insert((NAMES[name], lsn), keyspace);
                }
            }
            Op::Drop(name) => {
                let mut state = self.model.latest().clone();
                let dropped = self.engine.drop_keyspace(NAMES[name]);
                match state.remove(NAMES[name]) {
                    Some(_) => self.model.commit(&dropped?, CommitMode::Sync, state)?,
                    None => prop_assert_eq!(dropped.unwrap_err().kind(), ErrorKind::NoSuchKeyspace),
                }
            }
            Op::Flush => prop_assert_eq!(self.engine.flush()?, self.engine.durable_lsn()),
            Op::Checkpoint => {
                self.engine.checkpoint()?;
                self.check()?;
            }
            Op::Sleep(milliseconds) => sim::sleep(Duration::from_millis(milliseconds)),
            Op::Reopen => {
                self.engine.close()?;
                // What was taken before goes on being readable.
                for slot in 0..SLOTS {
                    self.read_snapshot(slot, NAMES[0], &Read::Prefix(Vec::new(), Walk::Forward))?;
                }
                let end = self.engine.visible_lsn();
                self.reopen(self.disk.clone(), end)?;
                prop_assert!(self.engine.recovery().crashed.is_none());
            }
            Op::Kill => {
                let safe = self.engine.durable_lsn().max(self.model.written);
                self.reopen(self.disk.crash_point().process_kill(), safe)?;
            }
            Op::PowerLoss(seed, granularity) => {
                let safe = self.engine.durable_lsn();
                let crash = self.disk.crash_point();
                self.reopen(crash.power_loss(&Loss::Seeded(seed), granularity), safe)?;
            }
        }
        prop_assert!(self.engine.durable_lsn() <= self.engine.visible_lsn());
        Ok(())
    }

    fn batch(&mut self, mode: CommitMode, writes: Vec<Write>) -> Checked {
        let mut state = self.model.latest().clone();
        let mut batch = self.engine.batch()?;
        let mut empty = true;
        for (name, key, length) in writes {
            let Some(keyspace) = self.handle(NAMES[name], &state) else { continue };
            let map = &mut state.get_mut(NAMES[name]).expect("it has a handle").1;
            empty = false;
            match length {
                Some(length) => {
                    let value = self.model.value(length);
                    batch.put(&keyspace, &key, &value)?;
                    map.insert(key, value);
                }
                None => {
                    batch.delete(&keyspace, &key)?;
                    map.remove(&key);
                }
            }
        }
        let receipt = batch.commit_with(mode)?;
        if empty { Ok(()) } else { self.model.commit(&receipt, mode, state) }
    }

    fn read(&mut self, slot: usize, name: &'static str, read: Read) -> Checked {
        let Some(tx) = &mut self.txs[slot] else { return Ok(()) };
        let Some((created, _)) = self.model.at(tx.tx.snapshot_lsn()).get(name) else { return Ok(()) };
        let keyspace = &self.handles[&(name, *created)];
        let view = tx.view(&self.model, name);
        match read {
            Read::Key(key) => {
                let value = tx.tx.get(keyspace, &key)?.map(|value| value.to_vec());
                prop_assert_eq!(value.as_ref(), view.get(&key));
                if !tx.own.get(name).is_some_and(|own| own.contains_key(&key)) {
                    tx.reads.push((name, (Bound::Included(key.clone()), Bound::Included(key))));
                }
            }
            Read::Range(bounds, way) => {
                let seen = walk(tx.tx.range(keyspace, bounds.clone())?, way)?;
                prop_assert_eq!(seen, part(&view, |key| bounds.contains(key)));
                tx.reads.push((name, bounds));
            }
            Read::Prefix(prefix, way) => {
                let seen = walk(tx.tx.prefix(keyspace, &prefix)?, way)?;
                prop_assert_eq!(seen, part(&view, |key| key.starts_with(&prefix)));
                let longest = [prefix.as_slice(), &[u8::MAX; 4]].concat();
                tx.reads.push((name, (Bound::Included(prefix), Bound::Included(longest))));
            }
        }
        Ok(())
    }

    fn commit(&mut self, slot: usize, mode: CommitMode) -> Checked {
        let Some(tx) = self.txs[slot].take() else { return Ok(()) };
        let (since, mut state) = (tx.tx.snapshot_lsn(), self.model.latest().clone());
        let used: BTreeSet<_> = tx.own.keys().copied().chain(tx.reads.iter().map(|(name, _)| *name)).collect();
        let created = |state: &State, name| state.get(name).map(|(created, _)| *created);
        let dropped = used.iter().any(|name| created(&state, name) != created(self.model.at(since), name));
        let changes: Vec<_> = tx.reads.iter().map(|(name, bounds)| self.model.changed(name, bounds, since)).collect();
        let must_conflict = changes.iter().any(|(changed, _)| *changed);
        let may_conflict = changes.iter().any(|(_, meanwhile)| *meanwhile);
        for (name, own) in &tx.own {
            let Some((_, map)) = state.get_mut(name) else { continue };
            for (key, value) in own {
                match value {
                    Some(value) => map.insert(key.clone(), value.clone()),
                    None => map.remove(key),
                };
            }
        }
        match tx.tx.commit_with(mode) {
            Ok(receipt) if tx.own.is_empty() => prop_assert_eq!(receipt.lsn(), since, "nobody else's business"),
            Ok(receipt) => {
                prop_assert!(!dropped && !must_conflict, "a conflict was overlooked");
                self.model.commit(&receipt, mode, state)?;
            }
            Err(error) => match error.kind() {
                ErrorKind::Conflict => prop_assert!(may_conflict && !tx.own.is_empty(), "a conflict without a reason"),
                ErrorKind::KeyspaceDropped => prop_assert!(dropped && !tx.own.is_empty()),
                _ => return Err(error.into()),
            },
        }
        Ok(())
    }

    fn take_snapshot(&mut self, slot: usize, durable: bool) -> Checked {
        let snapshot = if durable { self.engine.durable_snapshot()? } else { self.engine.snapshot()? };
        if durable {
            prop_assert!(snapshot.is_durable());
            prop_assert!(self.model.states.iter().any(|(lsn, _)| *lsn == snapshot.lsn()));
        } else {
            prop_assert_eq!(snapshot.lsn(), self.model.states.last().expect("the empty one").0);
        }
        self.snapshots[slot] = Some(snapshot);
        Ok(())
    }

    fn read_snapshot(&self, slot: usize, name: &'static str, read: &Read) -> Checked {
        let Some(snapshot) = &self.snapshots[slot] else { return Ok(()) };
        let state = self.model.at(snapshot.lsn());
        prop_assert_eq!(snapshot.keyspace_names().unwrap(), state.keys().copied().collect::<Vec<_>>());
        let Some((created, map)) = state.get(name) else { return Ok(()) };
        let keyspace = &self.handles[&(name, *created)];
        match read {
            Read::Key(key) => {
                let value = snapshot.get(keyspace, key)?.map(|value| value.to_vec());
                prop_assert_eq!(value.as_ref(), map.get(key));
            }
            Read::Range(bounds, way) => {
                let seen = walk(snapshot.range(keyspace, bounds.clone())?, *way)?;
                prop_assert_eq!(seen, part(map, |key| bounds.contains(key)));
            }
            Read::Prefix(prefix, way) => {
                let seen = walk(snapshot.prefix(keyspace, prefix)?, *way)?;
                prop_assert_eq!(seen, part(map, |key| key.starts_with(prefix)));
            }
        }
        Ok(())
    }

    /// Opens what is on `disk`: a prefix of the commits that reaches at least to `safe`.
    fn reopen(&mut self, disk: SimDisk, safe: Lsn) -> Checked {
        (self.txs, self.snapshots) = Default::default();
        self.handles.clear();
        self.engine.close()?;
        self.engine = open_on(&disk, options())?;
        self.disk = disk;
        let end = self.engine.visible_lsn();
        prop_assert!(end >= safe, "commits up to {} are gone, {} was safe", end, safe);
        prop_assert_eq!(self.engine.durable_lsn(), end);
        self.model.states.retain(|(lsn, _)| *lsn <= end);
        prop_assert_eq!(self.model.states.last().expect("the empty one").0, end, "where a commit ended");
        self.model.written = end;
        for (token, answer) in &mut self.model.tokens {
            let expected = if token.lsn <= end { Outcome::Durable } else { Outcome::Lost };
            prop_assert_eq!(self.engine.outcome(token)?, *answer.get_or_insert(expected));
        }
        // A commit of nothing stands where the last one does, so its token is asked for like that one's.
        let nothing = self.engine.batch()?.commit()?.token();
        prop_assert!(
            nothing.lsn == end && self.engine.outcome(&nothing)? == Outcome::Durable,
            "{} of {}",
            nothing,
            end
        );
        self.model.tokens.push((nothing, Some(Outcome::Durable)));
        self.check()
    }

    /// Compares everything there is with the newest state.
    fn check(&mut self) -> Checked {
        let snapshot = self.engine.snapshot()?;
        let (end, state) = self.model.states.last().expect("the empty one");
        prop_assert_eq!((snapshot.lsn(), self.engine.visible_lsn()), (*end, *end));
        prop_assert_eq!(snapshot.keyspace_names().unwrap(), state.keys().copied().collect::<Vec<_>>());
        for (&name, (created, map)) in state {
            let keyspace = snapshot.keyspace(name).unwrap().expect("it is listed");
            prop_assert_eq!(walk(snapshot.iter(&keyspace)?, Walk::Forward)?, part(map, |_| true));
            self.handles.insert((name, *created), keyspace);
        }
        for (token, answer) in &self.model.tokens {
            let now = self.engine.outcome(token)?;
            let live = if token.lsn <= self.engine.durable_lsn() { Outcome::Durable } else { Outcome::Pending };
            prop_assert!(now == answer.unwrap_or(live) || answer.is_none() && now == Outcome::Durable);
        }
        Ok(())
    }
}

#[test]
fn the_engine_does_what_the_model_does() {
    let random = || std::hash::RandomState::new().build_hasher().finish();
    let seed = std::env::var("FORELOG_SEED").map_or_else(|_| random(), |text| text.parse().expect("a number"));
    println!("FORELOG_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = (any::<u64>(), prop::collection::vec(op(), 1..250));
    let result = TestRunner::new_with_rng(config, rng).run(&cases, |(schedule, ops)| {
        sim::run(schedule, || {
            let mut system = System::new()?;
            ops.into_iter().try_for_each(|op| system.apply(op))?;
            system.check()
        })
    });
    if let Err(failure) = result {
        panic!("FORELOG_SEED={seed}: {failure}");
    }
}
