//! Deletions of ranges, as a user sees them.

use crashkit::TempDir;
use forelog::{Checkpoints, CommitMode, Engine, ErrorKind, Keyspace, Options, Snapshot};

fn fill(engine: &Engine, keyspace: &Keyspace, keys: std::ops::Range<u32>) {
    let mut batch = engine.batch().unwrap();
    keys.for_each(|key| batch.put(keyspace, key.to_be_bytes(), [1; 30]).unwrap());
    batch.commit().unwrap();
}

fn keys(snapshot: &Snapshot, keyspace: &Keyspace) -> Vec<u32> {
    let key = |entry: forelog::Result<(forelog::Key, _)>| {
        let (key, _): (_, forelog::Value) = entry.unwrap();
        u32::from_be_bytes(key.as_slice().try_into().unwrap())
    };
    let all: Vec<_> = snapshot.iter(keyspace).unwrap().map(key).collect();
    let mut back: Vec<_> = snapshot.iter(keyspace).unwrap().rev().map(key).collect();
    back.reverse();
    assert_eq!(all, back);
    all
}

fn now(engine: &Engine, keyspace: &Keyspace) -> Vec<u32> {
    keys(&engine.snapshot().unwrap(), keyspace)
}

#[test]
fn a_range_goes_with_the_rest_of_its_transaction_and_for_those_who_come_later() {
    let engine = Engine::in_memory().unwrap();
    let (one, two) = (engine.create_keyspace("one").unwrap(), engine.create_keyspace("two").unwrap());
    fill(&engine, &one, 0..10);
    fill(&engine, &two, 0..10);
    let before = engine.snapshot().unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&one, 3_u32.to_be_bytes(), "gone with the range").unwrap();
    batch.delete_range(&one, 2_u32.to_be_bytes()..5_u32.to_be_bytes()).unwrap();
    batch.put(&one, 4_u32.to_be_bytes(), "behind it").unwrap();
    batch.delete_range(&two, 7_u32.to_be_bytes()..).unwrap();
    batch.commit_with(CommitMode::Async).unwrap();
    assert_eq!(now(&engine, &one), [0, 1, 4, 5, 6, 7, 8, 9]);
    assert_eq!(now(&engine, &two), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(keys(&before, &one), (0..10).collect::<Vec<_>>());
    assert_eq!(keys(&before, &two), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_transaction_sees_its_own_deletions_of_ranges() {
    let engine = Engine::in_memory().unwrap();
    let one = engine.create_keyspace("one").unwrap();
    fill(&engine, &one, 0..8);
    let key = |key: u32| key.to_be_bytes();
    let mut tx = engine.begin().unwrap();
    tx.put(&one, key(3), "own").unwrap();
    tx.delete_range(&one, key(2)..=key(5)).unwrap();
    tx.put(&one, key(4), "own").unwrap();
    tx.delete(&one, key(5)).unwrap();
    assert_eq!([2, 3, 4, 6].map(|n| tx.get(&one, key(n)).unwrap().is_some()), [false, false, true, true]);
    let seen = |entry: forelog::Result<(forelog::Key, _)>| {
        let (key, _): (_, forelog::Value) = entry.unwrap();
        key[3]
    };
    assert_eq!(tx.iter(&one).unwrap().map(seen).collect::<Vec<_>>(), [0, 1, 4, 6, 7]);
    assert_eq!(tx.range(&one, key(1)..key(7)).unwrap().rev().map(seen).collect::<Vec<_>>(), [6, 4, 1]);
    tx.clear(&one).unwrap();
    assert_eq!(tx.iter(&one).unwrap().count(), 0);
    tx.put(&one, key(9), "own").unwrap();
    tx.commit().unwrap();
    assert_eq!(now(&engine, &one), [9]);
}

#[test]
fn whoever_has_read_a_key_of_the_range_or_a_part_of_it_conflicts() {
    let engine = Engine::in_memory().unwrap();
    let one = engine.create_keyspace("one").unwrap();
    fill(&engine, &one, 0..8);
    let key = |key: u32| key.to_be_bytes();
    let begin = || (0..4).map(|_| engine.begin().unwrap()).collect::<Vec<_>>();
    let mut all = begin();
    let [there, absent, range, beside] = &mut all[..] else { unreachable!() };
    there.get(&one, key(3)).unwrap();
    absent.get(&one, [0, 0, 0, 3, 7]).unwrap();
    range.range(&one, key(0)..=key(2)).unwrap().for_each(drop);
    beside.get(&one, key(7)).unwrap();
    for (number, tx) in all.iter_mut().enumerate() {
        tx.put(&one, format!("other {number}"), "").unwrap();
    }
    let mut batch = engine.batch().unwrap();
    batch.delete_range(&one, key(2)..key(5)).unwrap();
    batch.commit().unwrap();
    let outcomes = all.into_iter().map(|tx| tx.commit().map_err(|error| error.kind()).err());
    let conflict = Some(ErrorKind::Conflict);
    assert_eq!(outcomes.collect::<Vec<_>>(), [conflict, conflict, conflict, None]);
}

#[test]
fn an_empty_range_is_no_write_and_a_bound_that_no_key_can_be_is_refused() {
    let engine = Engine::in_memory().unwrap();
    let one = engine.create_keyspace("one").unwrap();
    let (mut batch, mut tx) = (engine.batch().unwrap(), engine.begin().unwrap());
    batch.delete_range(&one, "b".."a").unwrap();
    tx.delete_range(&one, "b".."b").unwrap();
    let before = engine.visible_lsn();
    batch.commit().unwrap();
    tx.commit().unwrap();
    assert_eq!(engine.visible_lsn(), before);
    let longest = vec![7; 65_535];
    let mut batch = engine.batch().unwrap();
    batch.put(&one, &longest, "").unwrap();
    batch.commit().unwrap();
    batch.delete_range(&one, longest.as_slice()..=longest.as_slice()).unwrap();
    batch.commit().unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&one).unwrap().count(), 0);
    let too_long = vec![7; 65_536];
    let refused = batch.delete_range(&one, too_long.as_slice()..).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let refused = engine.begin().unwrap().delete_range(&one, ..&too_long).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_transaction_over_its_limit_takes_a_range_that_makes_it_smaller() {
    let dir = TempDir::new("ranges");
    let engine = Options::new().max_transaction_bytes(4096).open(&dir).unwrap();
    let one = engine.create_keyspace("one").unwrap();
    let mut tx = engine.begin().unwrap();
    while tx.put(&one, "a", vec![1; 5000]).is_ok() && tx.put(&one, "b", "1").is_ok() {}
    assert_eq!(tx.put(&one, "c", "1").unwrap_err().kind(), ErrorKind::InvalidInput);
    tx.clear(&one).unwrap();
    tx.put(&one, "c", "1").unwrap();
    tx.commit().unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&one).unwrap().count(), 1);
}

#[test]
fn what_was_deleted_stays_so_after_checkpoints_and_reopening() {
    let dir = TempDir::new("ranges");
    let expected: Vec<_> = (0..100).chain([500]).chain(900..1000).collect();
    for pass in 0..4 {
        let engine = Engine::open(&dir).unwrap();
        let one = engine.open_keyspace("one").or_else(|_| engine.create_keyspace("one")).unwrap();
        if pass == 0 {
            fill(&engine, &one, 0..1000);
            engine.checkpoint().unwrap();
            let mut batch = engine.batch().unwrap();
            batch.delete_range(&one, 100_u32.to_be_bytes()..900_u32.to_be_bytes()).unwrap();
            batch.put(&one, 500_u32.to_be_bytes(), "again").unwrap();
            batch.commit().unwrap();
        }
        assert_eq!(now(&engine, &one), expected, "in pass {pass}");
        if pass > 1 {
            engine.checkpoint().unwrap();
            assert_eq!(now(&engine, &one), expected, "in pass {pass}");
        }
        let mut tx = engine.begin().unwrap();
        assert_eq!(tx.get(&one, 400_u32.to_be_bytes()).unwrap(), None);
        engine.close().unwrap();
    }
}

/// Only the layers' entries were read, and not what was deleted by range above them.
#[test]
fn who_only_reads_a_database_finds_what_an_open_finds() {
    let dir = TempDir::new("ranges");
    let engine = Engine::open(&dir).unwrap();
    let one = engine.create_keyspace("one").unwrap();
    fill(&engine, &one, 0..10);
    engine.checkpoint().unwrap();
    let mut batch = engine.batch().unwrap();
    batch.delete_range(&one, 2_u32.to_be_bytes()..8_u32.to_be_bytes()).unwrap();
    batch.put(&one, 5_u32.to_be_bytes(), "again").unwrap();
    batch.commit().unwrap();
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let seen = Engine::read_only(&dir).unwrap();
    let keys: Vec<_> = seen.range("one", ..).unwrap().map(|entry| entry.unwrap().0[3]).collect();
    assert_eq!(keys, [0, 1, 5, 8, 9]);
    assert_eq!(seen.get("one", 3_u32.to_be_bytes()).unwrap(), None);
}

/// It came back leaf by leaf, with longer and longer waits in between.
#[test]
fn the_memory_of_what_was_deleted_comes_back() {
    let engine = Engine::in_memory().unwrap();
    let one = engine.create_keyspace("one").unwrap();
    for first in (0..100_000).step_by(1000) {
        fill(&engine, &one, first..first + 1000);
    }
    let full = engine.memory_stats().records;
    let mut batch = engine.batch().unwrap();
    batch.clear(&one).unwrap();
    batch.commit().unwrap();
    let is_back = (0..2000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        engine.memory_stats().records < full / 10
    });
    assert!(is_back, "{} of {full} bytes are left", engine.memory_stats().records);
    assert_eq!(one.len_estimate(), 0);
}

/// The files of a layer that a newer one has deleted go with the checkpoint, unread.
#[test]
fn the_space_of_what_was_deleted_comes_back_with_a_checkpoint() {
    let dir = TempDir::new("ranges");
    let engine = Options::new().checkpoint_bytes(2 << 20).checkpoints(Checkpoints::OnRequest).open(&dir).unwrap();
    let one = engine.create_keyspace("one").unwrap();
    let bytes = || -> u64 {
        let files = std::fs::read_dir(dir.join("table")).unwrap();
        files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
    };
    let value: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
    for first in (0..40_000_u32).step_by(1000) {
        let mut batch = engine.batch().unwrap();
        (first..first + 1000).for_each(|key| batch.put(&one, key.to_be_bytes(), &value).unwrap());
        batch.commit_with(CommitMode::Written).unwrap();
    }
    engine.checkpoint().unwrap();
    let full = bytes();
    let mut batch = engine.batch().unwrap();
    batch.delete_range(&one, ..38_000_u32.to_be_bytes()).unwrap();
    batch.commit().unwrap();
    engine.checkpoint().unwrap();
    // A merge that is under way holds what it reads.
    let is_back = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        engine.checkpoint().unwrap();
        bytes() < full / 2
    });
    assert!(is_back, "{} of {full} bytes are left", bytes());
    assert_eq!(now(&engine, &one).len(), 2_000);
}
