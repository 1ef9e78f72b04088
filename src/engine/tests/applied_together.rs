//! Commits that are applied together: nobody sees that they are.

use std::sync::Arc;

use crate::disk::sim::SimDisk;
use crate::engine::{Engine, Options};
use crate::txn::Keyspace;
use crate::words::error::ErrorKind;
use crate::words::types::{CommitMode, Lsn};

/// As many commits of one write as are left at most.
const MOST: usize = 15;

fn engine() -> (Engine, Keyspace) {
    let engine = Options::new().open_on(Arc::new(SimDisk::new()), "db").unwrap();
    let keys = engine.keyspace("k").unwrap();
    (engine, keys)
}

fn put(engine: &Engine, keys: &Keyspace, key: &str, value: &str) -> Lsn {
    let mut batch = engine.batch().unwrap();
    batch.put(keys, key, value).unwrap();
    batch.commit_with(CommitMode::Async).unwrap().lsn()
}

/// How many of the commits at `lsns` are applied.
fn applied(engine: &Engine, lsns: &[Lsn]) -> usize {
    let visible = engine.pipeline().index().visible();
    lsns.iter().filter(|lsn| **lsn <= visible).count()
}

#[test]
fn commits_wait_for_one_another_and_for_nobody_else() {
    let (engine, keys) = engine();
    let lsns: Vec<_> = (0..=MOST).map(|number| put(&engine, &keys, &number.to_string(), "x")).collect();
    assert_eq!(applied(&engine, &lsns), MOST + 1);
    let lsns: Vec<_> = (0..MOST).map(|number| put(&engine, &keys, &number.to_string(), "y")).collect();
    assert_eq!(applied(&engine, &lsns), 0);
    // What takes longer than several small ones together is not left, nor is it applied before them.
    let large = put(&engine, &keys, "large", &"x".repeat(100_000));
    assert_eq!(applied(&engine, &lsns), MOST);
    assert_eq!(applied(&engine, &[large]), 1);
}

#[test]
fn every_look_sees_what_was_left() {
    let (engine, keys) = engine();
    type Look = fn(&Engine, &Keyspace, &str, Lsn) -> bool;
    let looks: [Look; 7] = [
        |engine, keys, key, _| engine.snapshot().unwrap().get(keys, key).unwrap().is_some(),
        |engine, keys, key, _| engine.begin().unwrap().get(keys, key).unwrap().is_some(),
        |engine, keys, key, _| {
            engine.pipeline().log.flush_to(engine.pipeline().log.positions.appended()).unwrap();
            engine.durable_snapshot().unwrap().get(keys, key).unwrap().is_some()
        },
        |engine, _, _, lsn| engine.visible_lsn() == lsn,
        |engine, _, _, lsn| engine.flush().unwrap() == lsn,
        |engine, _, _, lsn| engine.batch().unwrap().commit().unwrap().lsn() == lsn,
        |engine, keys, _, _| engine.versions_in_memory() == keys.len_estimate(),
    ];
    for (number, look) in looks.iter().enumerate() {
        let key = number.to_string();
        let lsn = put(&engine, &keys, &key, "x");
        assert_eq!(applied(&engine, &[lsn]), 0);
        assert!(look(&engine, &keys, &key, lsn), "look {number}");
        assert_eq!(applied(&engine, &[lsn]), 1);
    }
}

#[test]
fn what_was_left_is_a_conflict_for_whoever_has_read_it() {
    let (engine, keys) = engine();
    for conflicts in [true, false] {
        let mut tx = engine.begin().unwrap();
        tx.get(&keys, "read").unwrap();
        tx.put(&keys, "written", "x").unwrap();
        let lsn = put(&engine, &keys, if conflicts { "read" } else { "other" }, "x");
        assert_eq!(applied(&engine, &[lsn]), 0);
        let kind = tx.commit_with(CommitMode::Async).err().map(|error| error.kind());
        assert_eq!(kind, conflicts.then_some(ErrorKind::Conflict));
    }
}

/// A keyspace that is dropped takes along what was left; the next of that name begins empty, and nothing is written to the
/// old one any more.
#[test]
fn a_keyspace_goes_and_comes_behind_what_was_left() {
    for mode in [CommitMode::Async, CommitMode::Sync] {
        let engine = Options::new().commit_mode(mode).open_on(Arc::new(SimDisk::new()), "db").unwrap();
        let keys = engine.keyspace("k").unwrap();
        let before = engine.snapshot().unwrap();
        let lsn = put(&engine, &keys, "gone", "x");
        assert_eq!(applied(&engine, &[lsn]), 0);
        engine.drop_keyspace("k").unwrap();
        let mut late = engine.batch().unwrap();
        assert_eq!(late.put(&keys, "late", "x").unwrap_err().kind(), ErrorKind::KeyspaceDropped);
        let again = engine.keyspace("k").unwrap();
        put(&engine, &again, "new", "x");
        let snapshot = engine.snapshot().unwrap();
        let entries: Vec<_> = snapshot.iter(&again).unwrap().map(|entry| entry.unwrap().0.to_vec()).collect();
        assert_eq!(entries, [b"new"]);
        assert_eq!(before.iter(&keys).unwrap().count(), 0);
    }
}
