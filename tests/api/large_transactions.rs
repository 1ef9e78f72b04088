//! Transactions that are larger than the memory of their engine, and than thousands of its checkpoints.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[cfg(feature = "sim")]
use crashkit::MODES;
use crashkit::{Place, TempDir, open_on};
#[cfg(feature = "sim")]
use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Keyspace, Options, WriteBatch};

/// None of it takes a hundredth of that.
const FOR_EVER: Duration = Duration::from_secs(300);

/// Fails instead of waiting for ever.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (over, ends) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = over.send(());
    });
    match ends.recv_timeout(FOR_EVER) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it waits for ever"),
        // Its panic is the one of the test.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

fn open(place: &impl Place, checkpoint: u64) -> Engine {
    open_on(place, Options::new().memory_bytes(16 << 20).checkpoint_bytes(checkpoint)).unwrap()
}

/// Bytes that tell which key they are of.
fn value(key: u32, length: usize) -> Vec<u8> {
    let mut value = key.to_be_bytes().repeat(length.div_ceil(4));
    value.truncate(length);
    value
}

fn put(batch: &mut WriteBatch, keyspace: &Keyspace, keys: impl Iterator<Item = u32>, length: usize) {
    keys.for_each(|key| batch.put(keyspace, key.to_be_bytes(), value(key, length)).unwrap());
}

/// Refuses anything but these keys, with values of this length, or of one byte for those from `small` on.
fn check(engine: &Engine, keys: impl Iterator<Item = u32>, length: usize, small: u32) {
    let keyspace = engine.open_keyspace("k").unwrap();
    let snapshot = engine.snapshot().unwrap();
    let (mut found, mut expected) = (snapshot.iter(&keyspace).unwrap(), keys);
    while let Some(entry) = found.next_ref() {
        let (key, bytes) = entry.unwrap();
        let number = u32::from_be_bytes(key.try_into().unwrap());
        assert_eq!(Some(number), expected.next());
        assert!(bytes == value(number, if number < small { length } else { 1 }), "the value of {number}");
    }
    assert_eq!(expected.next(), None);
}

/// Commits 40 MiB in `values` puts, then small commits, which find the log to owe many checkpoints; has all of it in tables,
/// and opens it again.
fn commit(place: &impl Place, checkpoint: u64, mode: CommitMode, values: u32) {
    let length = (40 << 20) / values as usize;
    let engine = open(place, checkpoint);
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    put(&mut batch, &keyspace, 0..values, length);
    batch.commit_with(mode).unwrap();
    for key in values..values + 50 {
        let mut batch = engine.batch().unwrap();
        put(&mut batch, &keyspace, key..key + 1, 1);
        batch.commit_with(mode).unwrap();
    }
    check(&engine, 0..values + 50, length, values);
    let durable = engine.flush().unwrap();
    engine.checkpoint().unwrap();
    let (tables, memory) = (engine.table_stats(), engine.memory_stats());
    assert!(tables.up_to >= durable && tables.checkpoint_failures == 0, "{tables:?}");
    // By the length of a checkpoint it would be one for each 2 KiB, for all of which the small commits would have waited.
    assert!(tables.runs < 400, "{tables:?}");
    assert!(memory.records <= memory.records_limit, "{memory:?}");
    check(&engine, 0..values + 50, length, values);
    engine.close().unwrap();
    check(&open(place, checkpoint), 0..values + 50, length, values);
}

#[test]
fn a_transaction_larger_than_memory_commits_and_so_do_those_behind_it() {
    for (mode, values) in [(CommitMode::Sync, 40), (CommitMode::Async, 10_000)] {
        in_time(move || commit(&TempDir::new("large-transaction"), 256 << 10, mode, values));
    }
}

/// Ten thousand checkpoints in one. What the log left free for them was more than any disk has.
#[cfg(feature = "sim")]
#[test]
fn a_transaction_of_ten_thousand_checkpoints_commits_in_every_mode_on_a_small_disk() {
    for (mode, values) in MODES.into_iter().zip([40, 1_000, 20_000, 40]) {
        in_time(move || {
            let disk = SimDisk::new();
            disk.set_capacity(1 << 30);
            commit(&disk, 4 << 10, mode, values);
        });
    }
}

/// Its own range deletion takes a half of what it has put before.
#[test]
fn a_transaction_larger_than_memory_may_delete_ranges() {
    const KEYS: u32 = 640;
    const LENGTH: usize = 32 << 10;
    const CHECKPOINT: u64 = 256 << 10;
    in_time(|| {
        let dir = TempDir::new("large-deletion");
        let engine = open(&dir, CHECKPOINT);
        let keyspace = engine.create_keyspace("k").unwrap();
        let mut before = engine.batch().unwrap();
        put(&mut before, &keyspace, 2 * KEYS..3 * KEYS, 1);
        before.commit_with(CommitMode::Async).unwrap();
        let mut batch = engine.batch().unwrap();
        put(&mut batch, &keyspace, 0..KEYS, LENGTH);
        batch.delete_range(&keyspace, (KEYS / 2).to_be_bytes()..).unwrap();
        put(&mut batch, &keyspace, KEYS..2 * KEYS, LENGTH);
        batch.commit_with(CommitMode::Written).unwrap();
        let expected = || (0..KEYS / 2).chain(KEYS..2 * KEYS);
        check(&engine, expected(), LENGTH, u32::MAX);
        engine.flush().unwrap();
        engine.checkpoint().unwrap();
        check(&engine, expected(), LENGTH, u32::MAX);
        engine.close().unwrap();
        check(&open(&dir, CHECKPOINT), expected(), LENGTH, u32::MAX);
        let engine = open(&dir, CHECKPOINT);
        let keyspace = engine.open_keyspace("k").unwrap();
        let mut all = engine.batch().unwrap();
        all.clear(&keyspace).unwrap();
        all.commit().unwrap();
        engine.checkpoint().unwrap();
        check(&engine, 0..0, 0, 0);
        engine.close().unwrap();
        check(&open(&dir, CHECKPOINT), 0..0, 0, 0);
    });
}
