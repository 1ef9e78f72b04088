//! Data that are many times what the engine may use: whatever is done with them, it is done within that.

use crashkit::TempDir;
use forelog::{Checkpoints, CommitMode, Engine, Options};

use super::{MIB, alone, peak_of, scattered};

/// What the engine is told.
const LIMIT: usize = 16 * MIB;
/// Beside the limit: buffers of the log, what a checkpoint sorts, a merge with its runs, and what is under way in the loader.
const BESIDE: usize = 16 * MIB;
const KEYS: u64 = 30_000;

fn options() -> Options {
    Options::new().memory_bytes(LIMIT as u64).commit_mode(CommitMode::Async)
}

fn fill(engine: &Engine, version: u8) {
    let keys = engine.create_keyspace("k").unwrap();
    for first in (0..KEYS).step_by(100) {
        let mut batch = engine.batch().unwrap();
        for number in first..first + 100 {
            // In a leaf, and outside of one.
            let length = if number % 2 == 0 { 100 } else { 4000 };
            batch.put(&keys, scattered(number), vec![version; length]).unwrap();
        }
        batch.commit().unwrap();
    }
}

fn count(engine: &Engine) -> u64 {
    let keys = engine.open_keyspace("k").unwrap();
    engine.snapshot().unwrap().iter(&keys).unwrap().map(Result::unwrap).count() as u64
}

#[track_caller]
fn within<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(body);
    println!("{what}: at most {:.1} MiB", peak as f64 / MIB as f64);
    assert!(peak <= LIMIT + BESIDE, "{what}: {peak} bytes");
    result
}

#[test]
fn everything_is_done_within_the_memory_that_is_allowed() {
    let _alone = alone();
    let dir = TempDir::new("memory-beyond");
    let at = |name: &str| dir.join(name);
    within("a load", || {
        let engine = options().open(at("db")).unwrap();
        fill(&engine, 1);
        engine.close().unwrap();
    });
    within("an open, a scan, overwrites, a backup, a scrub, a compaction", || {
        let engine = options().open(at("db")).unwrap();
        assert_eq!(count(&engine), KEYS);
        fill(&engine, 2);
        engine.backup(at("backup")).unwrap();
        let scrub = engine.scrub(forelog::scrub::ScrubOptions::default()).unwrap();
        scrub.wait();
        assert_eq!(scrub.findings(), []);
        engine.compact().unwrap();
        assert_eq!(count(&engine), KEYS);
        let stats = engine.memory_stats();
        assert!(stats.records <= stats.records_limit, "{stats:?}");
        engine.close().unwrap();
    });
    within("a verification, and a restore", || {
        Engine::verify(at("db")).unwrap();
        Engine::restore(at("backup"), at("restored")).unwrap();
        assert_eq!(count(&options().open(at("restored")).unwrap()), KEYS);
    });
}

/// It came into memory as a whole, before the first checkpoint could have anything forgotten.
#[test]
fn a_log_without_tables_opens_within_the_memory_that_is_allowed() {
    let _alone = alone();
    let dir = TempDir::new("memory-log");
    let at = dir.join("db");
    let engine = options().checkpoints(Checkpoints::Never).open(&at).unwrap();
    fill(&engine, 1);
    engine.close().unwrap();
    drop(engine);
    within("an open of a log of 60 MB", || {
        let engine = options().open(&at).unwrap();
        assert_eq!(count(&engine), KEYS);
        engine.close().unwrap();
    });
}
