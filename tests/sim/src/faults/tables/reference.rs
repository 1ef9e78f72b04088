//! Databases of which everything in `table/` is known: a small one with every kind of file, layer, block and entry, and one
//! with a long run of many partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{Checkpoints, CommitMode, CompactOptions, Engine, LossBudget, Options, Snapshot};

use crate::faults::{DIR, copy, name_of, open_with};

/// The entries of a keyspace.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database that was closed, what it holds, and where in its tables everything is.
pub struct Reference {
    /// As [`Reference::named`] knows it.
    pub name: &'static str,
    pub disk: SimDisk,
    pub state: BTreeMap<String, Entries>,
    /// What is asked for one by one in each keyspace: keys that are there, were there, and never were.
    pub asked: BTreeMap<String, Vec<Vec<u8>>>,
    /// The files in `table/`.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Every byte of them.
    pub regions: Vec<Region>,
    /// How long the runs are that a merge writes: it is to have a few steps, and not one for each KiB.
    merged: u64,
}

/// A part of a file.
pub struct Region {
    /// The number of the file among the [files](Reference::files).
    pub file: usize,
    pub what: &'static str,
    pub bytes: Range<usize>,
}

/// What the parts of the files are called.
pub const REGIONS: [&str; 8] =
    ["MANIFEST", "keyspaces", "run header", "data", "partition", "range tombstones", "root", "run footer"];

/// Runs that are this long end, in a small database: so it has many.
const SHORT: u64 = 4 << 10;

/// As long as one may be: half of the largest checkpoint.
const LONGEST: u64 = 1 << 29;

/// Memory for the least, nothing that is done unasked, and runs that end when they are this long.
fn options(run_bytes: u64) -> Options {
    let hour = Duration::from_secs(3600);
    Options::new()
        .segment_bytes(64 << 10)
        .memory_bytes(16 << 20)
        .checkpoint_bytes(2 * run_bytes)
        .checkpoints(Checkpoints::OnRequest)
        .flush_interval(hour)
        .loss_budget(LossBudget::default().max_age(hour))
}

/// A database that is written.
struct Work {
    disk: SimDisk,
    engine: Engine,
    state: BTreeMap<String, Entries>,
    asked: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Work {
    fn begin(options: Options) -> Self {
        let disk = SimDisk::new();
        let engine = open_with(options, &disk).expect("a new database");
        Work { disk, engine, state: BTreeMap::new(), asked: BTreeMap::new() }
    }

    fn create(&mut self, name: &str) {
        self.engine.create_keyspace(name).expect("no fault");
        self.state.insert(name.to_owned(), Entries::new());
        self.asked.insert(name.to_owned(), BTreeSet::new());
    }

    fn drop_keyspace(&mut self, name: &str) {
        self.engine.drop_keyspace(name).expect("no fault");
        self.state.remove(name);
        self.asked.remove(name);
    }

    /// A commit for each of these, so that each has an LSN of its own.
    fn put(&mut self, name: &str, entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        let keyspace = self.engine.open_keyspace(name).expect("it is there");
        for (key, value) in entries {
            let mut batch = self.engine.batch().expect("open");
            batch.put(&keyspace, &key, &value).expect("within the limits");
            batch.commit_with(CommitMode::Async).expect("no fault");
            self.asked.get_mut(name).expect("it is there").insert(key.clone());
            self.state.get_mut(name).expect("it is there").insert(key, value);
        }
    }

    fn delete(&mut self, name: &str, keys: impl IntoIterator<Item = Vec<u8>>) {
        let keyspace = self.engine.open_keyspace(name).expect("it is there");
        for key in keys {
            let mut batch = self.engine.batch().expect("open");
            batch.delete(&keyspace, &key).expect("within the limits");
            batch.commit_with(CommitMode::Async).expect("no fault");
            self.state.get_mut(name).expect("it is there").remove(&key);
            self.asked.get_mut(name).expect("it is there").insert(key);
        }
    }

    fn delete_range(&mut self, name: &str, range: Range<Vec<u8>>) {
        let keyspace = self.engine.open_keyspace(name).expect("it is there");
        let mut batch = self.engine.batch().expect("open");
        batch.delete_range(&keyspace, range.clone()).expect("within the limits");
        batch.commit_with(CommitMode::Async).expect("no fault");
        self.state.get_mut(name).expect("it is there").retain(|key, _| !range.contains(key));
    }

    fn hold(&self) -> Snapshot {
        self.engine.snapshot().expect("open")
    }

    fn checkpoint(&self) {
        self.engine.flush().expect("no fault");
        self.engine.checkpoint().expect("no fault");
    }

    /// A checkpoint of one run whose merge fails: the job that is under way stays where it is.
    fn checkpoint_without_merges(&self) {
        let failures = self.engine.table_stats().merge_failures;
        let creations = OpSelector::of(OpKind::Create).on(".run").skip(1);
        self.disk.inject(Fault::lasting(creations, FaultKind::Errno(ENOSPC)));
        self.checkpoint();
        self.disk.clear_faults();
        assert!(self.engine.table_stats().merge_failures > failures, "no merge was tried");
    }

    /// Begins a merge of all layers, and closes the database behind its first step.
    fn cut_off_a_merge(&self) {
        let engine = self.engine.clone();
        let close = move |_| engine.close().expect("no fault");
        let compacted = self.engine.compact_with(CompactOptions::new().unpaced().on_progress(close));
        assert!(compacted.is_err(), "it was over with one step");
    }

    fn reopen(&mut self, options: Options) {
        self.engine.close().expect("no fault");
        self.engine = open_with(options.create(false), &self.disk).expect("no fault");
    }

    fn finish(self, name: &'static str, merged: u64) -> Reference {
        self.engine.close().expect("no fault");
        let disk = copy(&self.disk);
        let table = Path::new(DIR).join("table");
        let files: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with(&table)).collect();
        let regions = (0..files.len()).flat_map(|file| regions_of(file, &files[file].0, &files[file].1)).collect();
        let asked = self.asked.into_iter().map(|(name, keys)| (name, with_absent(keys))).collect();
        Reference { name, disk, state: self.state, asked, files, regions, merged }
    }
}

const ENOSPC: i32 = 28;

/// With keys between them that never were, and one at each end.
fn with_absent(keys: BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let between = keys.iter().step_by(5).map(|key| [key.as_slice(), b"!"].concat());
    let mut all: BTreeSet<Vec<u8>> = between.chain([vec![], vec![0xFF; 3]]).collect();
    all.extend(keys);
    all.into_iter().collect()
}

fn key(number: u32) -> Vec<u8> {
    format!("key/{number:04}").into_bytes()
}

/// Entries whose values no two rounds, and no two keys, have in common.
fn entries(numbers: Range<u32>, round: u8, length: usize) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    numbers.map(move |number| (key(number), value(number, round, length)))
}

fn value(number: u32, round: u8, length: usize) -> Vec<u8> {
    let mut value = vec![round; length];
    value[..4].copy_from_slice(&number.to_be_bytes());
    value
}

/// What `cargo test` flips bits of: it has several partitions.
const RUN_BYTES: usize = 1 << 20;
/// What the campaign does. Each bit costs several readings of all of it.
const FULL_RUN_BYTES: usize = 4 << 20;

impl Reference {
    /// The reference of this name: `kinds`, `run` or `full-run`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "kinds" => Some(Reference::of_every_kind()),
            "run" => Some(Reference::run()),
            "full-run" => Some(Reference::full_run()),
            _ => None,
        }
    }

    /// One run with several partitions.
    pub fn run() -> Self {
        Reference::of_one_run("run", RUN_BYTES)
    }

    /// A longer one.
    pub fn full_run() -> Self {
        Reference::of_one_run("full-run", FULL_RUN_BYTES)
    }

    /// All kinds of everything, in files of some KiB: two layers above a job that is under way, which has two inputs. Two layers
    /// were written while snapshots were held, so they have older versions of keys, and list a keyspace that was dropped.
    pub fn of_every_kind() -> Self {
        sim::run(1, || {
            // A run of several blocks, some of which lie below the cursor of the job to come.
            let mut work = Work::begin(options(4 * SHORT));
            lowest_layer(&mut work);
            work.reopen(options(SHORT));
            second_layer(&mut work);
            work.cut_off_a_merge();
            // The layers to come are one run each.
            work.reopen(options(16 * SHORT));
            upper_layers(&mut work);
            // The log behind them.
            work.create("newest");
            work.put("newest", entries(0..2, 9, 20));
            work.put("plain", entries(33..34, 9, 20));
            work.delete("plain", [key(60)]);
            work.delete_range("plain", key(75)..key(77));
            work.finish("kinds", 4 * SHORT)
        })
    }

    /// One run of about so many bytes, whose blocks have some ten keys each.
    fn of_one_run(name: &'static str, bytes: usize) -> Self {
        const VALUE: usize = 390;
        sim::run(2, || {
            let mut work = Work::begin(options(LONGEST));
            work.create("keys");
            let count = u32::try_from(bytes / (VALUE + 10)).expect("not as many");
            let keyspace = work.engine.open_keyspace("keys").expect("it is there");
            for first in (0..count).step_by(100) {
                let mut batch = work.engine.batch().expect("open");
                for (key, value) in entries(first..count.min(first + 100), 1, VALUE) {
                    batch.put(&keyspace, &key, &value).expect("within the limits");
                    work.state.get_mut("keys").expect("it is there").insert(key, value);
                }
                batch.commit_with(CommitMode::Async).expect("no fault");
            }
            // Some of each block.
            work.asked.insert("keys".to_owned(), (0..count).step_by(4).map(key).collect());
            work.checkpoint();
            work.finish(name, LONGEST)
        })
    }

    /// How it is opened.
    pub fn options(&self) -> Options {
        options(self.merged).create(false)
    }

    /// The number of bits in `table/`.
    pub fn bits(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64 * 8).sum()
    }

    /// What a bit lies in.
    pub fn region(&self, file: usize, bit: u64) -> &'static str {
        let has = |region: &&Region| region.file == file && region.bytes.contains(&byte_of(bit));
        self.regions.iter().find(has).expect("every byte is in one").what
    }
}

fn byte_of(bit: u64) -> usize {
    usize::try_from(bit / 8).expect("in memory")
}

/// Two runs; older versions of keys, deletions and a deletion of a range, for snapshots that were held; a block that one
/// value makes long.
fn lowest_layer(work: &mut Work) {
    ["plain", "long", "gone", "later gone"].into_iter().for_each(|name| work.create(name));
    work.put("plain", entries(0..90, 1, 60));
    work.put("long", [(b"a".to_vec(), value(1, 1, 30)), (b"long".to_vec(), value(2, 1, 5000))]);
    work.put("long", [(vec![b'n'; 300], value(3, 1, 30)), (b"z".to_vec(), value(4, 1, 30))]);
    work.put("gone", entries(0..4, 1, 30));
    work.put("later gone", entries(0..4, 1, 30));
    let _held = work.hold();
    work.put("plain", entries(76..80, 2, 40));
    let _later = work.hold();
    work.put("plain", entries(76..80, 3, 40));
    work.delete("plain", (20..23).chain(68..70).map(key));
    work.delete_range("plain", key(84)..key(87));
    work.checkpoint();
}

fn second_layer(work: &mut Work) {
    work.put("plain", entries(10..13, 4, 40));
    work.put("plain", entries(70..73, 4, 40));
    work.delete("plain", [key(14), key(74)]);
    work.delete_range("plain", key(40)..key(44));
    work.put("long", [(b"b".to_vec(), value(5, 4, 30))]);
    work.checkpoint();
}

/// Two layers above the job.
fn upper_layers(work: &mut Work) {
    work.create("new");
    work.put("new", entries(0..3, 5, 30));
    work.put("plain", entries(30..34, 5, 40));
    let _held = work.hold();
    work.put("plain", entries(31..33, 6, 40));
    work.delete("plain", [key(16), key(33)]);
    work.delete_range("plain", key(50)..key(53));
    work.delete_range("long", b"n".to_vec()..b"o".to_vec());
    work.drop_keyspace("gone");
    work.checkpoint_without_merges();
    work.put("plain", entries(51..52, 7, 40));
    work.delete("new", [key(1)]);
    work.delete_range("plain", key(80)..key(82));
    work.drop_keyspace("later gone");
    work.checkpoint_without_merges();
}

/// The parts of a file, as its format has them.
fn regions_of(file: usize, path: &Path, bytes: &[u8]) -> Vec<Region> {
    let name = name_of(path);
    let all = |what| vec![Region { file, what, bytes: 0..bytes.len() }];
    if name == "MANIFEST" {
        return all("MANIFEST");
    }
    if name.ends_with(".keys") {
        return all("keyspaces");
    }
    assert!(name.ends_with(".run"), "{name} is in table/");
    const SECTOR: usize = 512;
    let footer = bytes.len() - SECTOR;
    let mut regions = vec![Region { file, what: "run header", bytes: 0..SECTOR }];
    let mut at = SECTOR;
    while at < footer {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("4 bytes")) as usize;
        let what = match bytes[at + 8] {
            1 => "data",
            2 => "partition",
            3 => "range tombstones",
            4 => "root",
            other => panic!("a block of the kind {other} at {at} of {name}"),
        };
        regions.push(Region { file, what, bytes: at..at + length });
        at += length;
    }
    assert_eq!(at, footer, "{name}: a gap before the footer");
    regions.push(Region { file, what: "run footer", bytes: footer..bytes.len() });
    regions
}
