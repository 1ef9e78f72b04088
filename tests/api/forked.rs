//! Handles that crossed a fork: each call is refused or does nothing, and none waits for a thread that the child lacks.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forelog::log::{Log, LogOptions};
use forelog::scrub::ScrubOptions;
use forelog::{CommitMode, Engine, ErrorKind, LossBudget, Lsn, Outcome, Result};

use crashkit::{TempDir, kind_of, put};

/// Runs `body` in a forked process, which ends with the status that it returns.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child's only thread runs `body` and leaves by _exit, so that no destructor of the parent's runs there.
    #[expect(unsafe_code, reason = "fork has no safe binding")]
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(body());
        }
        child
    }
}

/// Waits for the end of a child and returns its status, if it left by itself.
pub(crate) fn end_of(child: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the child is ours, and the status a place to write to.
    #[expect(unsafe_code, reason = "waitpid has no safe binding")]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

#[test]
fn a_handle_that_crossed_a_fork_is_refused_and_the_parent_goes_on() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    let (token, snapshot) = (receipt.token(), engine.snapshot().unwrap());
    let (mut tx, mut batch) = (engine.begin().unwrap(), engine.batch().unwrap());
    tx.put(&keyspace, "b", "2").unwrap();
    batch.put(&keyspace, "c", "3").unwrap();
    let mut tx = Some(tx);
    let mut future = batch.commit_async(CommitMode::Sync);
    let mut dropped = Some(batch.commit_async(CommitMode::Sync));
    let child = fork(|| {
        let kinds = [
            kind_of(engine.begin()),
            kind_of(engine.batch()),
            kind_of(engine.flush()),
            kind_of(engine.checkpoint()),
            kind_of(engine.outcome(&token)),
            kind_of(receipt.wait()),
            tx.take().map_or(ErrorKind::Internal, |tx| kind_of(tx.commit_timeout(CommitMode::Sync, Duration::ZERO))),
            kind_of(batch.commit()),
            match pin!(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) if future.token().is_none() => kind_of(result),
                _ => ErrorKind::Internal,
            },
        ];
        drop(dropped.take());
        kinds.iter().map(|kind| i32::from(*kind == ErrorKind::Forked)).sum()
    });
    assert_eq!(end_of(child), Some(9), "each call was refused");
    tx.expect("the child's is another").commit().unwrap();
    batch.commit().unwrap();
    assert!(snapshot.is_durable() && engine.outcome(&token).unwrap() == Outcome::Durable);
    drop((engine, keyspace));
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), 3);
    assert!(engine.recovery().crashed.is_none());
}

#[test]
fn a_child_neither_takes_the_lock_from_its_parent_nor_keeps_it() {
    let dir = TempDir::new("test");
    let mut engine = Some(Engine::open(&dir).unwrap());
    let child = fork(|| {
        drop(engine.take());
        0
    });
    assert_eq!(end_of(child), Some(0));
    assert_eq!(kind_of(Engine::open(&dir)), ErrorKind::Locked);
    let child = fork(|| {
        loop {
            std::thread::park();
        }
    });
    drop(engine);
    let reopened = Engine::open(&dir).map(drop);
    // SAFETY: the child is ours and has not been waited for.
    #[expect(unsafe_code, reason = "kill has no safe binding")]
    unsafe {
        libc::kill(child, libc::SIGKILL);
    }
    assert_eq!(end_of(child), None);
    reopened.unwrap();
}

/// Calls whose result does not matter, in a child, which a signal ends if it hangs.
#[track_caller]
fn returns(what: &str, call: impl FnOnce()) {
    let child = fork(|| {
        // SAFETY: it sets a timer of the child, whose signal ends it.
        #[expect(unsafe_code, reason = "alarm has no safe binding")]
        unsafe {
            libc::alarm(30);
        }
        call();
        0
    });
    assert_eq!(end_of(child), Some(0), "{what} in a child of a busy parent");
}

#[track_caller]
fn is_refused<T>(what: &str, call: impl FnOnce() -> Result<T>) {
    returns(what, || assert_eq!(kind_of(call().map(std::mem::forget)), ErrorKind::Forked, "{what}"));
}

/// Drops a copy, as the child's own.
fn drop_in_child<T>(handle: &T) {
    // SAFETY: the child leaves by _exit, so that what it dropped is dropped once.
    #[expect(unsafe_code, reason = "the parent keeps the handle")]
    drop(unsafe { std::ptr::read(handle) });
}

/// Ends the threads that look at it, also by a test that fails: their scope waits for them.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Threads that take every lock of an engine again and again, until the scope of `body` is over.
fn while_busy(engine: &Engine, body: impl FnOnce()) {
    let keys = engine.create_keyspace("busy").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..3_u32 {
            let (keys, over) = (&keys, &over);
            scope.spawn(move || {
                let mode = [CommitMode::Sync, CommitMode::Async, CommitMode::Async][number as usize];
                while !over.load(Ordering::Relaxed) {
                    let mut tx = engine.begin().unwrap();
                    tx.get(keys, "0").unwrap();
                    tx.put(keys, number.to_string(), [0; 2000]).unwrap();
                    let _ = tx.commit_with(mode);
                    engine.snapshot().unwrap().iter(keys).unwrap().count();
                    engine.at_risk();
                    engine.versions_in_memory();
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                engine.checkpoint().unwrap();
            }
        });
        let _over = Over(&over);
        body();
    });
}

/// They took locks that another thread had held at the fork: a snapshot's `get` hung in 37 of 40 children.
#[test]
fn no_call_in_a_child_of_a_busy_parent_hangs() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keys = engine.create_keyspace("busy").unwrap();
    (0..500).for_each(|number| drop(put(&engine, &keys, &format!("{number:03}"), "1", CommitMode::Async).unwrap()));
    let (snapshot, receipt) = (engine.snapshot().unwrap(), put(&engine, &keys, "a", "1", CommitMode::Sync).unwrap());
    let mut entries = snapshot.iter(&keys).unwrap();
    entries.next().unwrap().unwrap();
    let mut tx = engine.begin().unwrap();
    tx.put(&keys, "own", "1").unwrap();
    let scrub = engine.scrub(ScrubOptions::default().bytes_per_second(1)).unwrap();
    while_busy(&engine, || {
        for _ in 0..15 {
            is_refused("Snapshot::get", || snapshot.get(&keys, "0"));
            is_refused("Snapshot::iter", || snapshot.iter(&keys));
            is_refused("Snapshot::prefix", || snapshot.prefix(&keys, "0"));
            is_refused("Snapshot::keyspace", || snapshot.keyspace("busy"));
            is_refused("Snapshot::keyspace_names", || snapshot.keyspace_names());
            is_refused("Entries", || entries.by_ref().try_for_each(|entry| entry.map(drop)));
            is_refused("Engine::checkpoint", || engine.checkpoint());
            is_refused("Transaction::get", || tx.get(&keys, "own"));
            is_refused("Transaction::range", || tx.range(&keys, ..));
            is_refused("Transaction::put", || tx.put(&keys, "0", "1"));
            returns("Snapshot's drop", || drop_in_child(&snapshot));
            returns("Snapshot's clone", || drop(snapshot.clone()));
            returns("Entries' drop", || drop_in_child(&entries));
            returns("Transaction's drop", || drop_in_child(&tx));
            returns("Receipt's drop", || drop_in_child(&receipt));
            returns("Engine's drop", || drop_in_child(&engine));
            returns("visible_lsn", || assert!(engine.visible_lsn() > Lsn::ZERO));
            returns("versions_in_memory", || assert_eq!(engine.versions_in_memory(), 0));
            returns("at_risk", || assert_eq!(engine.at_risk().commits, 0));
            returns("stats", || assert!(engine.stats().appends > 500));
            returns("len_estimate", || assert_eq!(keys.len_estimate(), 0));
            returns("Debug", || assert!(!format!("{engine:?}{receipt:?}{keys:?}{snapshot:?}{scrub:?}").is_empty()));
            returns("Scrub", || {
                scrub.stop();
                assert!(scrub.wait().ended && scrub.progress().stopped && scrub.findings().is_empty());
            });
        }
    });
    assert!(!scrub.progress().ended);
    assert_eq!(entries.map(Result::unwrap).count(), 499, "the parent's goes on");
    drop((snapshot, tx));
    let there = engine.snapshot().unwrap().iter(&keys).unwrap().count();
    engine.close().unwrap();
    // No child has removed a file of the tables, nor has one ended an attempt of its parent's.
    let engine = Engine::open(&dir).unwrap();
    let keys = engine.open_keyspace("busy").unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&keys).unwrap().count(), there);
}

/// Nor do the handles of a log, a task that waits among them.
#[test]
fn no_call_on_a_log_in_a_child_of_a_busy_parent_hangs() {
    let dir = TempDir::new("test");
    let never = Duration::from_secs(3600);
    let budget = LossBudget::default().max_age(never);
    let log = LogOptions::new().loss_budget(budget).flush_interval(never).open(&dir).unwrap();
    log.append(b"first", CommitMode::Sync).unwrap();
    let mut scan = log.scan(Lsn::ZERO).unwrap();
    let pin = log.pin(Lsn::ZERO).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| busy_with(&log, &over));
        }
        let _over = Over(&over);
        for _ in 0..15 {
            is_refused("Scan", || scan.next().unwrap());
            returns("Pin's drop", || drop_in_child(&pin));
            returns("oldest_lsn", || assert_eq!(log.oldest_lsn(), Lsn::ZERO));
            returns("at_risk", || assert_eq!(log.at_risk().commits, 0));
            returns("stats", || assert!(log.stats().appends > 0));
            let mut waiting = log.append(b"waits", CommitMode::Async).unwrap();
            let _ = pin!(&mut waiting).poll(&mut Context::from_waker(Waker::noop()));
            returns("a waiting Receipt's drop", || drop_in_child(&waiting));
        }
    });
    assert_eq!(scan.next().unwrap().unwrap().payload, b"first");
    log.close().unwrap();
}

/// Takes the locks of a log until it is `over`.
fn busy_with(log: &Log, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let mut receipt = log.append(&[0; 500], CommitMode::Async).unwrap();
        let _ = pin!(&mut receipt).poll(&mut Context::from_waker(Waker::noop()));
        drop((receipt, log.pin(Lsn::ZERO).unwrap()));
        let _ = (log.oldest_lsn(), log.at_risk());
    }
}
