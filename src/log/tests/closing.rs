//! A close against what else may go on: the first append, another close, a waker that closes, a panic of the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::support::*;
use crate::base::error::{ErrorKind, Result};
use crate::base::types::CommitMode::{Async, Sync};
use crate::disk::sim::{OpKind, SimDisk};
use crate::log::write::jobs::Job;
use crate::log::{Log, Receipt};
use crate::rt::schedule;

/// The lock is gone then, and the directory may be another engine's.
#[test]
fn nothing_is_written_after_a_close_that_met_the_first_append() {
    for seed in 0..400_usize {
        let disk = SimDisk::new();
        let closed = Arc::new(AtomicBool::new(false));
        let late = Arc::new(Mutex::new(Vec::new()));
        let (is_closed, noted) = (Arc::clone(&closed), Arc::clone(&late));
        disk.on_op(move |_, op| {
            if is_closed.load(Ordering::SeqCst) && op.kind != OpKind::Lock {
                noted.lock().unwrap().push(format!("{:?} {}", op.kind, op.path.display()));
            }
        });
        let appended = schedule::run(seed as u64, || {
            let opened = open(&disk).unwrap();
            let log = opened.log.clone();
            let appended = Arc::new(Mutex::new(None));
            let result = Arc::clone(&appended);
            let appender =
                schedule::start("append", move || *result.lock().unwrap() = Some(log.append(b"first", Sync).is_ok()));
            (0..seed % 60).for_each(|_| schedule::yield_point());
            opened.log.close().unwrap();
            closed.store(true, Ordering::SeqCst);
            appender.join();
            appended.lock().unwrap().unwrap()
        });
        disk.clear_on_op();
        assert_eq!(*late.lock().unwrap(), Vec::<String>::new(), "seed {seed}");
        let opened = open(&disk).unwrap();
        assert_eq!(opened.log.recovery().crashed, None, "seed {seed}: closed cleanly");
        assert_eq!(opened.records.len(), usize::from(appended), "seed {seed}");
    }
}

/// The second of two closes failed at once, when the newest commit was not durable yet.
#[test]
fn a_close_that_meets_another_one_waits_for_it_and_returns_its_verdict() {
    let mut met = 0;
    for seed in 0..200_usize {
        schedule::run(seed as u64, || {
            let disk = SimDisk::new();
            let log = open(&disk).unwrap().log;
            let receipts: Vec<_> = (0..5).map(|_| log.append(&[7; 900], Async).unwrap()).collect();
            let (closes, is_over) = (log.clone(), Arc::new(AtomicBool::new(false)));
            let (told, verdict) = mpsc::channel();
            let over = Arc::clone(&is_over);
            let other = schedule::start("close", move || {
                let closed = closes.close();
                over.store(true, Ordering::SeqCst);
                told.send(closed).unwrap();
            });
            (0..seed % 50).for_each(|_| schedule::yield_point());
            met += usize::from(!is_over.load(Ordering::SeqCst));
            log.close().unwrap();
            assert!(receipts.iter().all(Receipt::is_durable), "seed {seed}");
            assert!(open(&disk).is_ok(), "seed {seed}: the lock is given up");
            other.join();
            verdict.recv().unwrap().unwrap();
        });
    }
    assert!(met > 100, "{met} of 200 met another close");
}

/// A waker that closes the log it waits for.
struct Closer {
    log: Log,
    told: Mutex<mpsc::Sender<Result<()>>>,
}

impl Wake for Closer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let closed = self.log.close();
        self.told.lock().unwrap().send(closed).unwrap();
    }
}

/// To wait for the close that woke it would be to wait for itself. The waker runs on the closing thread, on the flusher,
/// which the close waits for, or on a thread that closes another log.
#[test]
fn a_close_in_a_waker_does_not_wait_for_the_close_that_woke_it() {
    let (mut told_closed, mut first) = (0, 0);
    for seed in 0..100_usize {
        schedule::run(seed as u64, || {
            let logs = [SimDisk::new(), SimDisk::new()].map(|disk| open(&disk).unwrap().log);
            let (told, verdicts) = mpsc::channel();
            let mut waiting = Vec::new();
            for (log, closed) in [(0, 0), (1, 1), (1, 0)] {
                let mut receipt = logs[log].append(b"x", Async).unwrap();
                let told = Mutex::new(told.clone());
                let waker = Waker::from(Arc::new(Closer { log: logs[closed].clone(), told }));
                assert!(Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker)).is_pending());
                waiting.push(receipt);
            }
            let [one, two] = logs;
            let other = schedule::start("close", move || two.close().unwrap_or_else(|error| panic!("{error}")));
            (0..seed % 30).for_each(|_| schedule::yield_point());
            one.close().unwrap();
            other.join();
            for verdict in verdicts.try_iter() {
                match verdict {
                    Ok(()) => first += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "seed {seed}: {error}");
                        told_closed += 1;
                    }
                }
            }
        });
    }
    println!("{told_closed} were told that it is being closed, {first} had a verdict");
    assert!(told_closed > 0 && first > 0);
}

/// As [`Closer`], and then notes that it is closed.
struct ClosesAndNotes(Log, Arc<AtomicBool>);

impl Wake for ClosesAndNotes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _ = self.0.close();
        self.1.store(true, Ordering::SeqCst);
    }
}

/// The preparer found LOCK gone. The waker that it ran closed the log, on this very thread, which then prepared the next
/// segment, that it had been asked for before: in a directory that may have been another engine's by then.
#[test]
fn nothing_is_prepared_after_a_close_on_the_preparer() {
    let mut closes = 0;
    for seed in 0..50 {
        let disk = SimDisk::new();
        let closed = Arc::new(AtomicBool::new(false));
        let late = Arc::new(Mutex::new(Vec::new()));
        let (is_closed, noted) = (Arc::clone(&closed), Arc::clone(&late));
        schedule::run(seed, || {
            let log = open(&disk).unwrap().log;
            log.append(b"first", Sync).unwrap();
            schedule::sleep(Duration::from_millis(10));
            disk.delete(path("LOCK")).unwrap();
            let mut receipt = log.append(b"waits", Async).unwrap();
            let waker = Waker::from(Arc::new(ClosesAndNotes(log.clone(), Arc::clone(&closed))));
            assert!(Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker)).is_pending());
            disk.on_op(move |_, op| {
                if is_closed.load(Ordering::SeqCst) && op.kind != OpKind::Lock {
                    noted.lock().unwrap().push(format!("{:?} {}", op.kind, op.path.display()));
                }
            });
            log.inner().appender().jobs.ask(Job::Look);
            log.inner().appender().jobs.ask(Job::Segment);
            schedule::sleep(Duration::from_secs(10));
            closes += u32::from(closed.load(Ordering::SeqCst));
        });
        disk.clear_on_op();
        assert_eq!(*late.lock().unwrap(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(closes > 40, "{closes} of 50");
}

/// Has the disk panic at the operation with this index, counted from now on and on this thread; returns the count.
fn panic_at(disk: &SimDisk, is_one: fn(OpKind) -> bool, index: usize) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let (counts, here) = (Arc::clone(&count), std::thread::current().id());
    disk.on_op(move |_, op| {
        if std::thread::current().id() == here && is_one(op.kind) {
            let at = counts.fetch_add(1, Ordering::SeqCst);
            assert!(at != index, "the disk panics at {:?} {}", op.kind, op.path.display());
        }
    });
    count
}

/// Such a close left the lock until the last receipt was dropped, and every later one was told for ever that another
/// call was closing the log.
#[test]
fn a_close_that_panics_gives_up_the_lock_and_later_ones_return_its_verdict() {
    for index in 0.. {
        let disk = SimDisk::new();
        let log = open(&disk).unwrap().log;
        log.append(b"first", Sync).unwrap();
        let late = log.append(b"late", Async).unwrap();
        let count = panic_at(&disk, |_| true, index);
        let closed = catch_unwind(AssertUnwindSafe(|| log.close()));
        disk.clear_on_op();
        if count.load(Ordering::SeqCst) <= index {
            closed.unwrap().unwrap();
            assert!(index >= 5, "{index} operations of a close");
            break;
        }
        closed.unwrap_err();
        for _ in 0..2 {
            let error = log.close().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Poisoned, "at {index}: {error}");
        }
        assert!(log.poisoned().is_some(), "at {index}");
        assert_eq!(log.append(b"later", Sync).unwrap_err().kind(), ErrorKind::Poisoned, "at {index}");
        let (told, verdict) = mpsc::channel();
        late.on_durable(move |verdict| told.send(verdict.is_ok()).unwrap()).unwrap();
        assert_eq!(verdict.recv().unwrap(), late.is_durable(), "at {index}");
        let reopened = open(&disk).unwrap_or_else(|error| panic!("at {index}: {error}"));
        assert_eq!(reopened.records[0].1, b"first", "at {index}");
        assert!(reopened.records.len() == 2 || !late.is_durable(), "at {index}");
    }
}

/// What an error of that call would have done, a panic did not: the next commit was acknowledged.
#[test]
fn a_panic_of_the_disk_where_an_error_is_final_is_final_too() {
    let is_final = |kind| matches!(kind, OpKind::Rename | OpKind::SyncDir);
    for index in 0.. {
        let disk = SimDisk::new();
        let log = open(&disk).unwrap().log;
        let count = panic_at(&disk, is_final, index);
        let appended = catch_unwind(AssertUnwindSafe(|| log.append(b"first", Sync)));
        disk.clear_on_op();
        if count.load(Ordering::SeqCst) <= index {
            appended.unwrap().unwrap();
            assert!(index >= 3, "{index} such calls of a begin");
            break;
        }
        appended.unwrap_err();
        for mode in [Sync, Async] {
            assert_eq!(log.append(b"later", mode).unwrap_err().kind(), ErrorKind::Poisoned, "at {index}");
        }
        let cause = log.poisoned().unwrap_or_else(|| panic!("at {index}: not poisoned")).cause.clone();
        assert!(crashkit::chain(&cause).contains("panicked"), "at {index}: {cause:?}");
        assert_eq!(log.close().unwrap_err().kind(), ErrorKind::Poisoned, "at {index}");
        drop(log);
        assert!(open(&disk).unwrap().records.is_empty(), "at {index}");
    }
}
