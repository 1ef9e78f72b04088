//! The index over layers, against the whole history: what is in memory and what only layers have must never show.

mod above;
mod clauses;
mod layers;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::index::load::{Limits, Loader};
use above::FromMemory;
use layers::{Fake, Installed};

const KEYS: u8 = 10;
/// The key that a history is about, if it is about one.
const K: u8 = 3;

/// Deletes `K`, and has the deletion buried.
fn delete_and_bury(machine: &mut Machine) {
    machine.run(Step::Commit(vec![Write::Delete(K)]));
    machine.run(Step::Flush);
    machine.run(Step::Prune(100));
}

#[derive(Clone, Copy, Debug)]
enum Write {
    Put(u8, u8),
    Delete(u8),
    /// From a key on, up to another one.
    DeleteRange(u8, Option<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Writes),
    /// The same, visible later.
    Apply(Writes),
    Publish,
    Flush,
    Prune(usize),
    Hold(bool),
    /// As of what is durable.
    HoldDurable,
    Release(usize),
    Begin,
    Install,
    /// Both at once, with all that is applied.
    Checkpoint,
    Merge,
    /// A checkpoint from memory, which is written piece by piece.
    BeginFromMemory,
    Piece(usize),
    EndFromMemory,
    /// Reads from layers, to land later.
    Read(u8),
    Land(usize),
    FillAll,
    /// So many ranges from a key on.
    Forget(u8, usize),
    Open {
        is_crash: bool,
    },
    Scan {
        held: usize,
        low: u8,
        high: u8,
    },
    /// Takes some entries from one end of an open scan.
    Take {
        scan: usize,
        count: usize,
        is_back: bool,
    },
}

fn writes() -> impl Strategy<Value = Writes> {
    let write = prop_oneof![
        6 => (0..KEYS, any::<u8>()).prop_map(|(key, value)| Write::Put(key, value)),
        3 => (0..KEYS).prop_map(Write::Delete),
        1 => (0..KEYS, proptest::option::weighted(0.8, 0..KEYS)).prop_map(|(from, to)| Write::DeleteRange(from, to)),
    ];
    proptest::collection::vec(write, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => writes().prop_map(Step::Commit),
        2 => writes().prop_map(Step::Apply),
        2 => Just(Step::Publish),
        3 => Just(Step::Flush),
        3 => (1..20_usize).prop_map(Step::Prune),
        3 => any::<bool>().prop_map(Step::Hold),
        2 => Just(Step::HoldDurable),
        3 => any::<usize>().prop_map(Step::Release),
        3 => Just(Step::Begin),
        5 => Just(Step::Checkpoint),
        4 => Just(Step::Install),
        1 => Just(Step::Merge),
        3 => Just(Step::BeginFromMemory),
        3 => (1..4_usize).prop_map(Step::Piece),
        3 => Just(Step::EndFromMemory),
        4 => (0..KEYS).prop_map(Step::Read),
        4 => any::<usize>().prop_map(Step::Land),
        2 => Just(Step::FillAll),
        6 => (0..KEYS, 1..6_usize).prop_map(|(key, count)| Step::Forget(key, count)),
        2 => any::<bool>().prop_map(|is_crash| Step::Open { is_crash }),
        3 => (any::<usize>(), 0..KEYS, 0..=KEYS).prop_map(|(held, low, high)| Step::Scan { held, low, high }),
        4 => (any::<usize>(), 1..5_usize, any::<bool>())
            .prop_map(|(scan, count, is_back)| Step::Take { scan, count, is_back }),
    ]
}

type Writes = Vec<Write>;
/// The versions of each key, oldest first.
type History = BTreeMap<Vec<u8>, Vec<(Lsn, Option<Vec<u8>>)>>;
type State = BTreeMap<Vec<u8>, Vec<u8>>;

struct Held {
    guard: SnapshotGuard,
    validates: bool,
}

struct OpenScan {
    cursor: Cursor,
    _guard: SnapshotGuard,
    /// What it must still give.
    rest: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Machine {
    layers: Arc<Installed>,
    index: Index,
    tree: Arc<Tree>,
    history: History,
    commits: Vec<(Lsn, Writes)>,
    last: Lsn,
    durable: Lsn,
    begun: Option<Fake>,
    from_memory: Option<FromMemory>,
    fills: Vec<Fill>,
    held: Vec<Held>,
    scans: Vec<OpenScan>,
}

/// Keys of several lengths, one of which is a prefix of others.
fn key_of(number: u8) -> Vec<u8> {
    [b"k".as_slice(), &vec![number; usize::from(number % 3) * 8]].concat().into_iter().chain([number]).collect()
}

/// The bounds of a range that is not empty.
fn range_of(from: u8, to: Option<u8>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (from, to) = (key_of(from), to.map(key_of));
    to.as_ref().is_none_or(|to| from < *to).then_some((from, to))
}

/// The keys in it.
fn keys_of(from: u8, to: Option<u8>) -> Vec<Vec<u8>> {
    let Some((from, to)) = range_of(from, to) else { return Vec::new() };
    (0..KEYS).map(key_of).filter(|key| from <= *key && to.as_ref().is_none_or(|to| key < to)).collect()
}

/// Values, some of them large.
fn value_of(byte: u8, lsn: Lsn) -> Vec<u8> {
    let mut value = vec![byte; if byte.is_multiple_of(16) { 3000 } else { usize::from(byte % 4) }];
    value.extend(lsn.get().to_le_bytes());
    value
}

impl Machine {
    fn new() -> Self {
        let index = Index::new();
        let mut batch = BatchBuilder::new();
        batch.create_keyspace(1, "one").unwrap();
        let first = Lsn::new(8);
        index.apply(first, &batch.batch(), first).unwrap();
        index.publish(first);
        let tree = index.keyspace_by_name("one", first).unwrap().unwrap();
        let mut machine = Machine {
            layers: Arc::default(),
            index,
            tree,
            history: History::new(),
            commits: Vec::new(),
            last: first,
            durable: first,
            begun: None,
            from_memory: None,
            fills: Vec::new(),
            held: Vec::new(),
            scans: Vec::new(),
        };
        machine.layers.install(Fake { to: first, ..Fake::default() });
        machine.open(false);
        machine
    }

    fn state(&self, at: Lsn) -> State {
        let newest = |versions: &[(Lsn, Option<Vec<u8>>)]| versions.iter().rev().find(|(lsn, _)| *lsn <= at)?.1.clone();
        self.history.iter().filter_map(|(key, versions)| Some((key.clone(), newest(versions)?))).collect()
    }

    fn batch(&self, lsn: Lsn, writes: &[Write]) -> BatchBuilder {
        let mut batch = BatchBuilder::new();
        for write in writes {
            match *write {
                Write::Put(key, value) => batch.put(1, &key_of(key), &value_of(value, lsn)).unwrap(),
                Write::Delete(key) => batch.delete(1, &key_of(key)).unwrap(),
                Write::DeleteRange(from, to) => {
                    if let Some((from, to)) = range_of(from, to) {
                        batch.delete_range(1, &from, to.as_deref()).unwrap();
                    }
                }
            }
        }
        batch
    }

    fn apply(&mut self, writes: Writes) {
        let lsn = Lsn::new(self.last.get() + 8);
        let batch = self.batch(lsn, &writes);
        self.index.apply(lsn, &batch.batch(), self.durable).unwrap();
        self.last = lsn;
        for write in &writes {
            let (keys, value) = match *write {
                Write::Put(key, value) => (vec![key_of(key)], Some(value_of(value, lsn))),
                Write::Delete(key) => (vec![key_of(key)], None),
                Write::DeleteRange(from, to) => (keys_of(from, to), None),
            };
            for key in keys {
                let versions = self.history.entry(key).or_default();
                versions.pop_if(|(last, _)| *last == lsn);
                versions.push((lsn, value.clone()));
            }
        }
        self.commits.push((lsn, writes));
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Commit(writes) => {
                self.apply(writes);
                self.index.publish(self.last);
            }
            Step::Apply(writes) => self.apply(writes),
            Step::Publish => self.index.publish(self.last),
            // A commit may be durable before it is visible.
            Step::Flush => self.durable = self.last,
            Step::Prune(budget) => drop(self.index.prune(self.durable, budget)),
            Step::Hold(validates) => {
                let guard = if validates { self.index.hold_to_validate() } else { self.index.hold() };
                self.held.push(Held { guard, validates });
            }
            Step::HoldDurable => {
                let durable = self.durable;
                let guard = self.index.hold_at(|visible| durable.min(visible));
                self.held.push(Held { guard, validates: false });
            }
            Step::Release(number) if !self.held.is_empty() => drop(self.held.swap_remove(number % self.held.len())),
            Step::Checkpoint => {
                self.index.publish(self.last);
                self.durable = self.last;
                for step in [Step::Begin, Step::Install] {
                    self.run(step);
                }
            }
            // One checkpoint at a time.
            Step::Begin if self.from_memory.is_none() => {
                let to = self.durable.min(self.index.visible());
                let horizon = self.index.horizon(to);
                self.begun = Some(self.layers.now().with(&self.history, to, horizon, false));
            }
            Step::Install => {
                if let Some(begun) = self.begun.take() {
                    let to = begun.to;
                    self.layers.install(begun);
                    self.index.note_installed(to);
                }
            }
            // A layer that was begun is above what is merged.
            Step::Merge if self.begun.is_none() => {
                let now = self.layers.now();
                let merged = now.with(&History::new(), now.to, self.index.horizon(Lsn::ZERO), true);
                self.layers.install(merged);
            }
            Step::BeginFromMemory => self.begin_from_memory(),
            Step::Piece(count) => self.write_pieces(count),
            Step::EndFromMemory => self.end_from_memory(),
            Step::Read(key) => self.fills.extend(Filler::from(Arc::clone(&self.tree), &key_of(key)).read().unwrap()),
            Step::Land(number) if !self.fills.is_empty() => {
                let fill = self.fills.swap_remove(number % self.fills.len());
                self.index.land(&self.tree, &fill);
            }
            Step::FillAll => self.fill_all(),
            Step::Forget(key, count) => {
                // The first time spares what was read.
                for _ in 0..2 {
                    self.tree.forget(&key_of(key), count, self.layers.now().to);
                }
            }
            Step::Open { is_crash } => self.open(is_crash),
            Step::Scan { held, low, high } if !self.held.is_empty() => self.scan(held % self.held.len(), low, high),
            Step::Take { scan, count, is_back } if !self.scans.is_empty() => {
                let scan = scan % self.scans.len();
                self.scans[scan].take(count, is_back);
            }
            _ => {}
        }
        self.check();
    }

    fn fill_all(&mut self) {
        let mut filler = Filler::new(Arc::clone(&self.tree));
        while let Some(fill) = filler.read().unwrap() {
            assert!(self.index.land(&self.tree, &fill), "nothing has left memory meanwhile");
            if !filler.pass(&fill) {
                break;
            }
        }
        self.index.is_whole();
        assert!(self.tree.is_complete());
    }

    /// Opens what is durable, or all of it.
    fn open(&mut self, is_crash: bool) {
        self.held.clear();
        self.scans.clear();
        self.fills.clear();
        (self.begun, self.from_memory) = (None, None);
        let end = if is_crash { self.durable } else { self.last };
        self.commits.retain(|(lsn, _)| *lsn <= end);
        self.history.values_mut().for_each(|versions| versions.retain(|(lsn, _)| *lsn <= end));
        let now = self.layers.now();
        let beyond: Arc<dyn Beyond> = Arc::clone(&self.layers) as _;
        let one = AwayKeyspace { id: 1, name: "one".into(), created: Lsn::new(8), keys: Some(0) };
        let index = Index::over(&beyond, [one], now.to, 2);
        let mut loader = Loader::into_index(index, now.to, Limits { writes: 5, bytes: 4000, alone: usize::MAX });
        for (lsn, writes) in self.commits.iter().filter(|(lsn, _)| *lsn > now.to) {
            loader.add(*lsn, &self.batch(*lsn, writes).batch()).unwrap().unwrap();
        }
        self.index = loader.finish().unwrap();
        self.tree = self.index.keyspace_by_name("one", self.index.visible()).unwrap().unwrap();
        (self.last, self.durable) = (end, end);
    }

    /// With nothing held and everything in layers, no range tombstone stays in memory.
    fn end(mut self) {
        self.held.clear();
        self.scans.clear();
        self.run(Step::EndFromMemory);
        self.run(Step::Checkpoint);
        while self.index.prune(self.durable, 100) >= 100 {}
        assert!(self.tree.look().ranges.is_empty());
        self.check();
    }

    fn scan(&mut self, held: usize, low: u8, high: u8) {
        let guard = self.held[held].guard.to_read();
        let (low, high) = (key_of(low), key_of(high));
        let range = (Bound::Included(low.as_slice()), Bound::Excluded(high.as_slice()));
        if !is_empty(range) {
            let cursor = Cursor::new(Arc::clone(&self.tree), range, guard.lsn());
            let rest = self.state(guard.lsn()).range::<[u8], _>(range).map(|(k, v)| (k.clone(), v.clone())).collect();
            self.scans.push(OpenScan { cursor, _guard: guard, rest });
        }
    }

    fn check(&self) {
        assert_eq!(self.index.bytes(), self.tree.look().bytes());
        self.tree.check();
        let newest = self.index.hold();
        for (at, validates) in
            self.held.iter().map(|held| (held.guard.lsn(), held.validates)).chain([(newest.lsn(), false)])
        {
            let state = self.state(at);
            for number in 0..KEYS {
                let key = key_of(number);
                let found = self.tree.get(&key, at).unwrap();
                let expected = state.get(&key).map(|value| Value::from(value.as_slice()));
                assert_eq!(found, expected, "key {number} at {at}");
                if validates && self.has_changed(&key, at) {
                    assert!(self.tree.changed_since(&key, at).unwrap(), "key {number} since {at}");
                    let range = (Bound::Included(key.as_slice()), Bound::Included(key.as_slice()));
                    assert!(self.tree.range_changed_since(range, at).unwrap(), "range of key {number} since {at}");
                }
            }
            let all = scan(&self.tree, ALL, at);
            let all: Vec<_> = all.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            assert!(all.iter().map(|(key, value)| (key, value)).eq(&state), "all at {at}");
            let mut cursor = Cursor::new(Arc::clone(&self.tree), ALL, at);
            let backward = std::iter::from_fn(|| cursor.next_back()).map(Result::unwrap);
            assert!(backward.eq(all.into_iter().rev().map(|(k, v)| (Key::from(&*k), Value::from(v)))), "back at {at}");
        }
    }

    /// Whether an applied commit after `at` put the key, or deleted it while it was there.
    fn has_changed(&self, key: &[u8], at: Lsn) -> bool {
        let Some(versions) = self.history.get(key) else { return false };
        let mut was_there = self.state(at).contains_key(key);
        versions.iter().filter(|(lsn, _)| *lsn > at).any(|(_, value)| {
            let is_change = value.is_some() || was_there;
            was_there = value.is_some();
            is_change
        })
    }
}

impl OpenScan {
    fn take(&mut self, count: usize, is_back: bool) {
        for _ in 0..count {
            let found = if is_back { self.cursor.next_back() } else { self.cursor.next() };
            let found = found.transpose().unwrap().map(|(key, value)| (key.to_vec(), value.to_vec()));
            let expected = match (self.rest.is_empty(), is_back) {
                (true, _) => None,
                (false, false) => Some(self.rest.remove(0)),
                (false, true) => self.rest.pop(),
            };
            assert_eq!(found, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1000)))]

    #[test]
    fn what_only_layers_have_never_shows(steps in proptest::collection::vec(step(), 0..60)) {
        let mut machine = Machine::new();
        for step in steps {
            machine.run(step);
        }
        machine.end();
    }
}

/// The leaf is complete only from an LSN on that is above the tombstone: a cursor between the two went on with the layers that
/// it held, which had the key.
#[test]
fn a_scan_under_way_does_not_see_what_a_tombstone_hid_that_has_left() {
    let mut machine = Machine::new();
    // Pieces have sixteen entries: the scan is to stand in front of the last key.
    for number in 0..40_u8 {
        let lsn = Lsn::new(machine.last.get() + 8);
        let mut batch = BatchBuilder::new();
        batch.put(1, &[b'a', number], b"v").unwrap();
        machine.index.apply(lsn, &batch.batch(), machine.durable).unwrap();
        machine.index.publish(lsn);
        (machine.last, machine.durable) = (lsn, lsn);
        machine.history.insert(vec![b'a', number], vec![(lsn, Some(b"v".to_vec()))]);
    }
    machine.run(Step::Commit(vec![Write::Put(3, 1)]));
    machine.run(Step::Checkpoint);
    machine.commits.clear();
    machine.open(false);
    machine.run(Step::Commit(vec![Write::Delete(3)]));
    let guard = machine.index.hold();
    let mut cursor = Cursor::new(Arc::clone(&machine.tree), ALL, guard.lsn());
    assert_eq!(cursor.next().unwrap().unwrap().0, [b'a', 0]);
    machine.run(Step::Commit(vec![Write::Put(4, 1)]));
    machine.run(Step::Read(3));
    machine.run(Step::Land(0));
    machine.run(Step::Checkpoint);
    machine.run(Step::Prune(100));
    let rest: Vec<_> = cursor.map(|entry| entry.unwrap().0).collect();
    assert_eq!(rest.len(), 39, "{rest:?}");
}

/// The fill makes the leaf complete behind the put and before the deletion of one commit, which then left no trace.
#[test]
fn a_fill_that_lands_within_a_commit_does_not_bring_back_what_the_commit_deletes() {
    let mut machine = Machine::new();
    machine.run(Step::Commit(vec![Write::Put(3, 1)]));
    machine.run(Step::Checkpoint);
    machine.open(false);
    let lsn = Lsn::new(machine.last.get() + 8);
    let before = machine.index.hold_to_validate();
    let fill = Filler::new(Arc::clone(&machine.tree)).read().unwrap().unwrap();
    machine.tree.write(&key_of(3), Some(b"new"), lsn);
    assert!(machine.index.land(&machine.tree, &fill));
    machine.tree.write(&key_of(3), None, lsn);
    machine.index.publish(lsn);
    assert!(machine.tree.changed_since(&key_of(3), before.lsn()).unwrap());
    machine.tree.forget(b"", 100, machine.layers.now().to);
    assert_eq!(machine.tree.get(&key_of(3), lsn).unwrap(), None);
}
