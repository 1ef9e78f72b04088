//! Models of opening: one thread reads the log, another sorts what it says, both build the index.

use std::collections::BTreeMap;

use forelog::sim::{SimDisk, load_dies_after};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Options};
use shuttle::rand::Rng;

use crate::run::check;
use crashkit::{error_of, get, open_on, put};

const COMMITS: u8 = 22;
/// The loader hands over a bundle of so many bytes, so this log is five and a rest.
const SEGMENT: u64 = 4096;
const VALUE: usize = 400;
const NAMES: [&str; 3] = ["a", "b", "late"];

/// The entries of each keyspace: of a value its length and the byte that it is made of.
type Contents = BTreeMap<&'static str, BTreeMap<Vec<u8>, (usize, u8)>>;

fn small() -> Options {
    Options::new().segment_bytes(SEGMENT)
}

/// A database whose log overwrites a few keys again and again, and what is in it. `late` makes a keyspace half way:
/// until then everything is to be loaded, and a second worker begins.
fn written(late: bool) -> (SimDisk, Contents) {
    let disk = SimDisk::new();
    let engine = open_on(&disk, small()).unwrap();
    let mut contents = Contents::new();
    let mut keyspaces: Vec<(&str, Keyspace)> = Vec::new();
    for commit in 0..COMMITS {
        let new = match commit {
            0 => &NAMES[..2],
            _ if late && commit == COMMITS / 2 => &NAMES[2..],
            _ => &[],
        };
        for name in new {
            contents.insert(name, BTreeMap::new());
            keyspaces.push((name, engine.create_keyspace(name).unwrap()));
        }
        let mut batch = engine.batch().unwrap();
        for write in 0..3 {
            let mut random = shuttle::rand::thread_rng();
            let (name, keys) = &keyspaces[random.gen_range(0..keyspaces.len())];
            let key = vec![random.gen_range(0..5_u8)];
            let entries = contents.get_mut(name).unwrap();
            if write == 0 && commit % 5 == 4 {
                batch.delete(keys, &key).unwrap();
                entries.remove(&key);
            } else {
                let byte = 3 * commit + write;
                batch.put(keys, &key, [byte; VALUE]).unwrap();
                entries.insert(key, (VALUE, byte));
            }
        }
        batch.commit_with(CommitMode::Async).unwrap();
    }
    drop(keyspaces);
    // Closed, or as a killed process leaves it.
    if shuttle::rand::thread_rng().gen_bool(0.5) {
        engine.close().unwrap();
        return (disk, contents);
    }
    engine.flush().unwrap();
    (disk.crash_point().process_kill(), contents)
}

/// Everything that an engine has.
fn contents(engine: &Engine) -> Contents {
    let snapshot = engine.snapshot().unwrap();
    let of = |name| {
        let entries = snapshot.iter(&snapshot.keyspace(name).unwrap()?).unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            assert!(value.iter().all(|byte| *byte == value[0]), "a value of two commits");
            (key.to_vec(), (value.len(), value[0]))
        });
        Some((name, entries.collect()))
    };
    NAMES.into_iter().filter_map(of).collect()
}

fn assert_opens_with(disk: &SimDisk, expected: &Contents) {
    let engine = open_on(disk, small()).unwrap();
    assert_eq!(&contents(&engine), expected);
    let entries: usize = expected.values().map(BTreeMap::len).sum();
    assert_eq!(engine.versions_in_memory(), entries, "a version that nobody can see was loaded");
    // Nothing of the loading is left to hide what comes now.
    let keys = engine.open_keyspace(NAMES[0]).unwrap();
    put(&engine, &keys, "later", "x", CommitMode::Written).unwrap();
    assert_eq!(get(&engine, &keys, "later").unwrap(), "x");
}

#[test]
fn load_with_a_worker() {
    check("load_with_a_worker", || {
        let (disk, expected) = written(shuttle::rand::thread_rng().gen_bool(0.5));
        assert_opens_with(&disk, &expected);
    });
}

#[test]
fn load_worker_dies() {
    check("load_worker_dies", || {
        let (disk, expected) = written(false);
        load_dies_after(shuttle::rand::thread_rng().gen_range(0..5));
        let error = error_of(open_on(&disk, small()));
        assert!(error.kind() == ErrorKind::Internal && error.to_string().contains("panicked"), "{error}");
        assert_opens_with(&disk, &expected);
    });
}
