//! Commits that are applied together: nobody sees that they are.

use std::sync::mpsc;

use crate::base::error::{ErrorKind, Result};
use crate::base::types::{CommitMode, Lsn};
use crate::engine::{Engine, Options};
use crate::format::batch::BatchBuilder;
use crate::log::{Receipt, WaitLimit};
use crate::txn::Keyspace;

/// As many commits of one write as are left at most.
const MOST: usize = 15;

fn engine() -> (Engine, Keyspace) {
    let engine = Options::new().in_memory().unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    (engine, keys)
}

fn put(engine: &Engine, keys: &Keyspace, key: &str, value: &str) -> Lsn {
    let mut batch = engine.batch().unwrap();
    batch.put(keys, key, value).unwrap();
    batch.commit_with(CommitMode::Async).unwrap().lsn()
}

fn commit(engine: &Engine, batch: &BatchBuilder) -> Result<Receipt> {
    engine.pipeline().commit(batch.batch(), CommitMode::Async, WaitLimit::Forever, &|| Ok(()))
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
            engine.pipeline().log.flush_to(engine.pipeline().log.positions().appended()).unwrap();
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
        let engine = Options::new().commit_mode(mode).in_memory().unwrap();
        let keys = engine.create_keyspace("k").unwrap();
        let before = engine.snapshot().unwrap();
        let lsn = put(&engine, &keys, "gone", "x");
        assert_eq!(applied(&engine, &[lsn]), 0);
        engine.drop_keyspace("k").unwrap();
        let mut late = engine.batch().unwrap();
        assert_eq!(late.put(&keys, "late", "x").unwrap_err().kind(), ErrorKind::KeyspaceDropped);
        let again = engine.create_keyspace("k").unwrap();
        put(&engine, &again, "new", "x");
        let snapshot = engine.snapshot().unwrap();
        let entries: Vec<_> = snapshot.iter(&again).unwrap().map(|entry| entry.unwrap().0.to_vec()).collect();
        assert_eq!(entries, [b"new"]);
        assert_eq!(before.iter(&keys).unwrap().count(), 0);
    }
}

/// Salvage makes such commits. They were left, and as none of them brought the sixteenth operation, for ever.
#[test]
fn commits_without_operations_do_not_pile_up() {
    let (engine, _) = engine();
    let lsns: Vec<_> = (0..100).map(|_| commit(&engine, &BatchBuilder::new()).unwrap().lsn()).collect();
    assert!(lsns.len() - applied(&engine, &lsns) <= MOST);
}

/// Only a bug can make it: what was left cannot be applied, and the commit that finds it out has its place in the log. Its
/// error had no token, which says that nothing was done.
#[test]
fn whoever_finds_that_another_cannot_be_applied_is_told_its_own_token() {
    let (engine, keys) = engine();
    let mut unknown = BatchBuilder::new();
    unknown.put(77, b"a", b"x").unwrap();
    commit(&engine, &unknown).unwrap();
    for number in 1..MOST {
        put(&engine, &keys, &number.to_string(), "x");
    }
    let before = engine.pipeline().log.positions().appended();
    let mut last = BatchBuilder::new();
    last.put(1, b"last", b"x").unwrap();
    let error = commit(&engine, &last).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
    assert!(error.token().is_some_and(|token| token.lsn.get() > before));
    assert_eq!(engine.poisoned().map(|poisoned| poisoned.cause.kind()), Some(ErrorKind::Internal));
}

/// It was one load, and took the order lock instead, which in a child nobody gives up.
#[cfg(unix)]
#[test]
fn the_visible_lsn_is_told_behind_a_fork() {
    let (engine, keys) = engine();
    put(&engine, &keys, "left", "x");
    let (has_it, told) = mpsc::channel();
    let (give_up, may_give_up) = mpsc::channel::<()>();
    let other = engine.clone();
    let holder = std::thread::spawn(move || {
        let hold = || {
            has_it.send(()).unwrap();
            may_give_up.recv().unwrap();
            Ok(())
        };
        let batch = BatchBuilder::new();
        other.pipeline().commit(batch.batch(), CommitMode::Async, WaitLimit::Forever, &hold).map(drop)
    });
    told.recv().unwrap();
    // SAFETY: the child makes two calls, of which none allocates, and leaves by _exit, or by the alarm.
    #[expect(unsafe_code, reason = "fork has no safe binding")]
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no destructor of the parent's may run here.
        #[expect(unsafe_code, reason = "alarm and _exit have no safe binding")]
        unsafe {
            libc::alarm(10);
            libc::_exit(i32::from(engine.visible_lsn() == Lsn::ZERO))
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status a place to write to.
    #[expect(unsafe_code, reason = "waitpid has no safe binding")]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    give_up.send(()).unwrap();
    holder.join().unwrap().unwrap();
    assert!(waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
}
