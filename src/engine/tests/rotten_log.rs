//! Rot in the log behind the tables, while not all data are in memory: a checkpoint writes from memory what it cannot read, on top of
//! the tables, and nothing shows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crashkit::Random;

use super::background::is_log;
use crate::base::error::{ErrorKind, Result};
use crate::base::options::Checkpoints;
use crate::base::types::{CommitMode, Lsn};
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::engine::checkpoint::{Then, checkpoint};
use crate::engine::turn::Wait;
use crate::engine::{Engine, Options, TableStats};
use crate::rt::schedule::{self, sleep};
use crate::txn::Snapshot;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The entries of each keyspace.
type State = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

fn options() -> Options {
    Options::new()
        .segment_bytes(8192)
        .checkpoint_bytes(64 << 10)
        .checkpoints(Checkpoints::OnRequest)
        .commit_mode(CommitMode::Written)
}

fn open(disk: &SimDisk) -> Engine {
    options().open_on(Arc::new(disk.clone()), "db").unwrap()
}

/// An engine, and what must be in it.
struct Case {
    disk: SimDisk,
    engine: Engine,
    random: Random,
    state: State,
    held: Vec<(Snapshot, State)>,
    /// Keys of a keyspace.
    keys: u16,
}

impl Case {
    /// All that was put is in tables.
    fn new(seed: u64, keys: u16) -> Self {
        let case = Case::without_tables(seed, keys);
        case.checkpoint();
        case
    }

    fn without_tables(seed: u64, keys: u16) -> Self {
        let disk = SimDisk::new();
        let engine = open(&disk);
        let (state, held) = Default::default();
        let mut case = Case { engine, disk, random: Random::new(seed), state, held, keys };
        for name in &NAMES[..2] {
            case.create(name);
            case.put_all(name);
        }
        case
    }

    fn create(&mut self, name: &'static str) {
        self.engine.create_keyspace(name).unwrap();
        self.state.insert(name, BTreeMap::new());
    }

    fn put_all(&mut self, name: &'static str) {
        for first in (0..self.keys).step_by(100) {
            let keys: Vec<_> = (first..self.keys.min(first + 100)).collect();
            self.commit(name, &keys, Some(30));
        }
    }

    /// Puts these keys in one commit, or deletes them.
    fn commit(&mut self, name: &'static str, keys: &[u16], length: Option<usize>) {
        let keyspace = self.engine.open_keyspace(name).unwrap();
        let (mut batch, state) = (self.engine.batch().unwrap(), self.state.get_mut(name).unwrap());
        for key in keys {
            let key = key.to_be_bytes().to_vec();
            if let Some(length) = length {
                let value = self.random.next().to_be_bytes().repeat(length.div_ceil(8));
                batch.put(&keyspace, &key, &value).unwrap();
                state.insert(key, value);
            } else {
                batch.delete(&keyspace, &key).unwrap();
                state.remove(&key);
            }
        }
        batch.commit().unwrap();
    }

    fn below(&mut self, bound: u16) -> u16 {
        u16::try_from(self.random.below(usize::from(bound))).unwrap()
    }

    fn key(&mut self) -> u16 {
        self.below(self.keys)
    }

    fn name(&mut self) -> &'static str {
        let there: Vec<_> = self.state.keys().copied().collect();
        self.random.pick(&there)
    }

    fn delete_range(&mut self) {
        let (name, from, length) = (self.name(), self.key(), 1 + self.below(150));
        let (from, to) = (from.to_be_bytes().to_vec(), (from + length).to_be_bytes().to_vec());
        let keyspace = self.engine.open_keyspace(name).unwrap();
        let mut batch = self.engine.batch().unwrap();
        batch.delete_range(&keyspace, from.as_slice()..to.as_slice()).unwrap();
        // What is put behind it in the same commit stays.
        batch.put(&keyspace, &from, b"first").unwrap();
        batch.commit().unwrap();
        let state = self.state.get_mut(name).unwrap();
        state.retain(|key, _| *key < from || *key >= to);
        state.insert(from, b"first".to_vec());
    }

    fn put_and_delete(&mut self) {
        let (name, key) = (self.name(), self.key().to_be_bytes());
        let keyspace = self.engine.open_keyspace(name).unwrap();
        let mut batch = self.engine.batch().unwrap();
        batch.put(&keyspace, key, b"for a moment").unwrap();
        batch.delete(&keyspace, key).unwrap();
        batch.commit().unwrap();
        self.state.get_mut(name).unwrap().remove(key.as_slice());
    }

    fn churn(&mut self) {
        let name = self.random.pick(&NAMES[1..]);
        if self.state.remove(name).is_some() {
            self.engine.drop_keyspace(name).unwrap();
        } else {
            self.create(name);
            self.put_all(name);
        }
    }

    fn hold(&mut self) {
        self.held.push((self.engine.snapshot().unwrap(), self.state.clone()));
    }

    /// One of the things that leave traces in memory.
    fn step(&mut self) {
        match self.random.below(40) {
            0..14 => {
                let (name, key, length) = (self.name(), self.key(), self.random.pick(&[8, 40, 2_000]));
                self.commit(name, &[key, key / 2], Some(length));
            }
            14..26 => {
                let (name, key) = (self.name(), self.key());
                self.commit(name, &[key], None);
            }
            26..29 => self.delete_range(),
            29..32 => self.put_and_delete(),
            32 => self.churn(),
            33 | 34 if self.held.len() < 6 => self.hold(),
            35 if !self.held.is_empty() => {
                let number = self.random.below(self.held.len());
                drop(self.held.swap_remove(number));
            }
            36 | 37 => {
                self.engine.flush().unwrap();
            }
            _ => self.prune(),
        }
    }

    /// What is superseded goes, and what is deleted is buried.
    fn prune(&self) {
        let pipeline = self.engine.pipeline();
        while pipeline.index_now().prune(pipeline.log.durable(), 100) >= 100 {}
    }

    /// Has some ranges forgotten, so far as tables have them.
    fn forget(&mut self, ranges: usize) {
        let index = self.engine.pipeline().index();
        for tree in index.trees_from(0) {
            let from = u16::try_from(self.random.below(usize::from(self.keys))).unwrap().to_be_bytes();
            // The first time spares what was read.
            (0..2).for_each(|_| drop(tree.forget(&from, ranges, index.installed())));
        }
    }

    /// All that tables have leaves memory.
    fn forget_all(&self) {
        let index = self.engine.pipeline().index();
        for tree in index.trees_from(0) {
            (0..2).for_each(|_| drop(tree.forget(b"", usize::MAX >> 1, index.installed())));
        }
    }

    fn checkpoint(&self) {
        self.engine.flush().unwrap();
        self.engine.checkpoint().unwrap();
    }

    /// A checkpoint without the merges that may follow.
    fn heal(&self) -> Result<TableStats> {
        checkpoint(self.engine.pipeline(), &self.engine.inner.tables, Wait::ForItsTurn, Then::Nothing)?;
        let stats = self.engine.table_stats();
        let lowest = self.engine.pipeline().index().hold_at(|_| Lsn::ZERO).lsn();
        assert!(lowest >= stats.up_to, "nobody begins below the layers");
        Ok(stats)
    }

    /// Commits as much as takes some segments, and rots one that a checkpoint has not read.
    fn rot(&mut self) {
        for key in 0..40 {
            self.commit(NAMES[0], &[key % self.keys], Some(1_000));
        }
        self.engine.flush().unwrap();
        let logs: Vec<PathBuf> =
            self.disk.files().into_iter().map(|(path, _)| path).filter(|path| is_log(path)).collect();
        // Not the first one, in which the tables end, nor those at the end, which are not full.
        let path = &logs[1 + self.random.below(logs.len() - 4)];
        self.disk.flip_bit(path, 3_000 * 8 + self.random.below(8_000) as u64).unwrap();
        self.disk.drop_caches();
    }

    /// All that can be read, of each snapshot that is held and of the newest.
    fn check(&self) {
        let newest = (self.engine.snapshot().unwrap(), self.state.clone());
        for (snapshot, state) in self.held.iter().chain([&newest]) {
            assert!(snapshot.keyspace_names().unwrap().iter().eq(state.keys()), "at {}", snapshot.lsn());
            for (name, entries) in state {
                let keyspace = snapshot.keyspace(name).unwrap().unwrap();
                let found = snapshot.iter(&keyspace).unwrap().map(|entry| {
                    let (key, value) = entry.unwrap();
                    (key.to_vec(), value.to_vec())
                });
                let found: BTreeMap<_, _> = found.collect();
                assert!(found == *entries, "{name} at {}", snapshot.lsn());
                for key in (0..self.keys).step_by(7) {
                    let key = key.to_be_bytes();
                    let found = snapshot.get(&keyspace, key).unwrap();
                    assert_eq!(found.as_deref(), entries.get(key.as_slice()).map(Vec::as_slice));
                }
            }
        }
    }

    /// The tables alone say the same, now and after each way to end.
    fn check_everywhere(mut self) {
        self.check();
        self.forget_all();
        self.check();
        let lost = self.disk.crash_point().power_loss(&Loss::Everything, Granularity::default());
        for _ in 0..20 {
            self.step();
        }
        self.checkpoint();
        self.check();
        self.engine.compact().unwrap();
        self.forget_all();
        self.check();
        self.held.clear();
        self.engine.close().unwrap();
        let before = std::mem::replace(&mut self.engine, open(&self.disk));
        drop(before);
        self.check();
        // Nothing that rotted is needed any more.
        open(&lost).close().unwrap();
    }
}

/// Whatever memory has of the piece that rotted: the layer is written, and each reader gets what it got before.
#[test]
fn rot_is_healed_on_top_of_tables() {
    for seed in 0..12 {
        schedule::run(seed, || {
            let mut case = Case::new(seed, 700);
            for _ in 0..case.random.below(30) {
                case.step();
            }
            if seed % 3 == 0 {
                case.checkpoint();
            }
            let ranges = case.random.between(1, 4);
            case.forget(ranges);
            case.rot();
            for _ in 0..case.random.between(1, 160) {
                case.step();
            }
            if case.random.one_in(4) {
                case.engine.flush().unwrap();
            }
            let before = case.engine.table_stats();
            let layers = before.layers;
            assert!(!before.all_in_memory);
            let stats = case.heal().unwrap();
            // What it stands for counts as if it had been read: merges go by that.
            assert_eq!(stats.log_bytes, before.log_bytes + before.pending_bytes);
            // What lies before the rot may be layers of their own.
            assert!(stats.healed == 1 && stats.layers > layers && stats.checkpoint_failures == 0, "{stats:?}");
            assert!(stats.up_to <= case.engine.durable_lsn() && stats.last_rot.unwrap().damage().is_some());
            case.check_everywhere();
        });
    }
}

/// Commits, pruning, forgetting and the ends of snapshots go on while the layer is written.
#[test]
fn rot_is_healed_beside_commits() {
    for seed in 0..12 {
        schedule::run(seed, || {
            let mut case = Case::new(seed, 700);
            case.forget(2);
            case.rot();
            for _ in 0..100 {
                case.step();
            }
            let engine = case.engine.clone();
            let beside = schedule::start("beside", move || engine.checkpoint().unwrap());
            for _ in 0..60 {
                case.step();
                if case.random.one_in(6) {
                    case.forget(1);
                }
                sleep(Duration::from_micros(seed * 20));
            }
            beside.join();
            assert_eq!(case.engine.table_stats().healed, 1);
            case.check_everywhere();
        });
    }
}

/// There are no tables yet. What was buried hides what the same layer has for a snapshot.
#[test]
fn a_first_layer_from_memory_serves_snapshots() {
    for seed in 0..8 {
        schedule::run(seed, || {
            let mut case = Case::without_tables(seed, 200);
            case.rot();
            case.hold();
            case.commit("b", &(20..50).collect::<Vec<_>>(), None);
            case.engine.flush().unwrap();
            case.prune();
            for _ in 0..seed * 10 {
                case.step();
            }
            case.engine.flush().unwrap();
            let stats = case.heal().unwrap();
            assert!(stats.healed == 1 && stats.pending_bytes == 0, "{stats:?}");
            case.check_everywhere();
        });
    }
}

/// All data are in memory, and are more than a checkpoint: what lies above the tables is the lesser work.
#[test]
fn not_all_data_are_written_again() {
    schedule::run(1, || {
        let mut case = Case::new(1, 2_000);
        case.rot();
        for _ in 0..30 {
            case.step();
        }
        let before = case.engine.table_stats();
        assert!(before.all_in_memory && before.bytes > 64 << 10);
        let stats = case.heal().unwrap();
        assert!(stats.healed == 1 && stats.layers > before.layers, "{stats:?}");
        case.check_everywhere();
    });
}

/// Each of the held snapshots reads what was deleted a moment later, and there are more of them than a horizon tells apart.
#[test]
fn a_crowd_of_snapshots_is_served_by_a_layer_from_memory() {
    schedule::run(1, || {
        let mut case = Case::new(1, 200);
        case.rot();
        for key in 0..70 {
            case.hold();
            case.commit("a", &[key], None);
            case.commit("b", &[key, 2 * key], Some(16));
        }
        case.engine.flush().unwrap();
        case.prune();
        case.forget(1);
        assert_eq!(case.heal().unwrap().healed, 1);
        case.check_everywhere();
    });
}

/// Each leaf has buried a deletion: there are more gaps than a run is to have, and hardly a key.
#[test]
fn gaps_alone_fill_runs() {
    schedule::run(1, || {
        let mut case = Case::new(1, 4_000);
        case.rot();
        for first in (0..4_000).step_by(400) {
            let keys: Vec<_> = (first..first + 400).step_by(2).collect();
            case.commit("a", &keys, None);
        }
        case.engine.flush().unwrap();
        case.prune();
        let runs = case.engine.table_stats().runs;
        let stats = case.heal().unwrap();
        assert!(stats.healed == 1 && stats.runs > runs + 8, "{stats:?}");
        case.check_everywhere();
    });
}

/// A range tombstone of the list is as long as it was, over however many leaves it goes.
#[test]
fn a_deleted_range_is_not_cut_where_leaves_end() {
    schedule::run(1, || {
        let mut case = Case::new(1, 2_000);
        case.rot();
        // As long as it may conflict the range stays in the list.
        let tx = case.engine.begin().unwrap();
        let keyspace = case.engine.open_keyspace("b").unwrap();
        let mut batch = case.engine.batch().unwrap();
        batch.clear(&keyspace).unwrap();
        batch.commit().unwrap();
        case.state.get_mut("b").unwrap().clear();
        case.engine.flush().unwrap();
        case.prune();
        let tree = case.engine.pipeline().index().keyspace_by_id(keyspace.id()).unwrap();
        assert!(tree.version_count() == 2_000 && case.heal().unwrap().healed == 1);
        let stack = case.engine.inner.tables.stack().unwrap();
        let ranges: u64 = stack.manifest.layers[0].runs.iter().map(|run| run.range_tombstones).sum();
        assert_eq!(ranges, 1);
        drop(tx);
        case.check_everywhere();
    });
}

/// Nothing has changed if the layer cannot be written, and the next checkpoint tries again.
#[test]
fn a_layer_from_memory_that_fails_is_tried_again() {
    schedule::run(1, || {
        let mut case = Case::new(1, 700);
        case.forget(2);
        case.rot();
        for _ in 0..30 {
            case.step();
        }
        disk_is_full(&case.disk);
        assert_eq!(case.heal().unwrap_err().kind(), ErrorKind::DiskFull);
        assert_eq!(case.engine.table_stats().healed, 0);
        case.check();
        case.disk.clear_faults();
        assert_eq!(case.heal().unwrap().healed, 1);
        case.check_everywhere();
    });
}

fn disk_is_full(disk: &SimDisk) {
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Write).on(".run"), FaultKind::Errno(28)));
}
