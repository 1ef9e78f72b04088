//! Models of the core, for loom: the log on a disk of watermarks, without its background threads.

use std::sync::Arc;
use std::time::Duration;

use forelog::log::{Log, LogOptions};
use forelog::{CommitMode, ErrorKind, LossBudget, Lsn};
use loom::thread::{self, JoinHandle};

use crate::run::check;
use crate::stub::Stub;

const LONG: Duration = Duration::from_secs(3600);

/// A log that has begun: its one segment is at position zero, so an LSN is an offset in the file.
fn begun(options: LogOptions) -> (Stub, Log) {
    let disk = Stub::default();
    let log = options.segment_bytes(4096).open_on(Arc::new(disk.clone()), "db").unwrap();
    log.append(b"first", CommitMode::Sync).unwrap();
    (disk, log)
}

fn start<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().spawn(body).unwrap()
}

fn append(log: &Log, mode: CommitMode) -> Lsn {
    log.append(b"x", mode).unwrap().lsn()
}

/// The disk proves it: a sync that began after the write of `lsn` has succeeded.
fn assert_durable(disk: &Stub, lsn: Lsn) {
    let extent = disk.extent();
    assert!(extent.durable >= lsn.get(), "{lsn} is said to be durable: {extent:?}");
}

#[test]
fn marks_in_order() {
    check("marks_in_order", None, || {
        let (_, log) = begun(LogOptions::new());
        let other = log.clone();
        let committer = start(move || append(&other, CommitMode::Sync));
        // Not on this thread, which would run first: loom finds the races of a load with the stores that came before.
        let reader = start(move || {
            let durable = log.durable_lsn();
            let written = log.written_lsn();
            let appended = log.appended_lsn();
            assert!(durable <= written && written <= appended, "{durable} {written} {appended}");
        });
        committer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn reserve_publish() {
    check("reserve_publish", Some(3), || {
        let (disk, log) = begun(LogOptions::new());
        let before = log.appended_lsn().get();
        let appenders = [CommitMode::Async, CommitMode::Written].map(|mode| {
            let log = log.clone();
            start(move || append(&log, mode).get())
        });
        // The disk refuses a write that leaves a hole or goes back.
        let flushed = log.flush().unwrap();
        assert_durable(&disk, flushed);
        let mut lsns = appenders.map(|appender| appender.join().unwrap());
        lsns.sort_unstable();
        assert_eq!(lsns, [before + 40, before + 80]);
        log.flush().unwrap();
        assert_eq!(disk.extent().written, before + 80);
    });
}

#[test]
fn ring_wrap() {
    check("ring_wrap", Some(3), || {
        let (disk, log) = begun(LogOptions::new().loss_budget(LossBudget::default().max_commits(1)));
        let (flusher, other) = (log.clone(), log.clone());
        let flusher = start(move || flusher.run_flusher());
        let appender = start(move || append(&other, CommitMode::Async));
        append(&log, CommitMode::Async);
        appender.join().unwrap();
        assert!(log.at_risk().commits <= 1);
        log.close().unwrap();
        flusher.join().unwrap();
        assert_durable(&disk, log.appended_lsn());
    });
}

#[test]
fn leader_handoff() {
    check("leader_handoff", Some(2), || {
        let (disk, log) = begun(LogOptions::new());
        let committers = [(), ()].map(|()| {
            let (disk, log) = (disk.clone(), log.clone());
            start(move || assert_durable(&disk, append(&log, CommitMode::Sync)))
        });
        assert_durable(&disk, append(&log, CommitMode::Sync));
        committers.into_iter().for_each(|committer| committer.join().unwrap());
    });
}

#[test]
fn receipt_after_sync() {
    check("receipt_after_sync", Some(3), || {
        let (disk, log) = begun(LogOptions::new());
        let receipt = log.append(b"x", CommitMode::Async).unwrap();
        let other = log.clone();
        let committer = start(move || append(&other, CommitMode::Sync));
        let (watched, seen) = (receipt.clone(), disk.clone());
        let watcher = start(move || {
            if watched.is_durable() {
                assert_durable(&seen, watched.lsn());
            }
        });
        receipt.wait_timeout(LONG).unwrap();
        assert_durable(&disk, receipt.lsn());
        committer.join().unwrap();
        watcher.join().unwrap();
    });
}

#[test]
fn strictest_mode_wins() {
    check("strictest_mode_wins", Some(2), || {
        let (disk, log) = begun(LogOptions::new());
        let (other, seen) = (log.clone(), disk.clone());
        let leader = start(move || other.append(b"x", CommitMode::Async).unwrap().wait().unwrap());
        let (writer, written) = (log.clone(), disk.clone());
        let writer = start(move || {
            let lsn = append(&writer, CommitMode::Written);
            assert!(written.extent().written >= lsn.get());
        });
        assert_durable(&seen, append(&log, CommitMode::Sync));
        leader.join().unwrap();
        writer.join().unwrap();
    });
}

#[test]
fn poison_broadcast() {
    check("poison_broadcast", Some(2), || {
        let (disk, log) = begun(LogOptions::new());
        let before = log.durable_lsn();
        let receipt = log.append(b"x", CommitMode::Async).unwrap();
        disk.fail_sync();
        let other = log.clone();
        let committer = start(move || other.append(b"x", CommitMode::Sync).unwrap_err());
        let watcher = start(move || receipt.wait_timeout(LONG).unwrap_err());
        let error = log.append(b"x", CommitMode::Sync).unwrap_err();
        assert_eq!(watcher.join().unwrap().kind(), ErrorKind::Indeterminate);
        let poison = log.poisoned().expect("its sync failed");
        for error in [error, committer.join().unwrap()] {
            match (error.kind(), error.token()) {
                (ErrorKind::Indeterminate, Some(token)) => assert!(token.lsn <= poison.appended),
                (kind, token) => assert_eq!((kind, token), (ErrorKind::Poisoned, None)),
            }
        }
        assert_eq!((log.durable_lsn(), poison.durable), (before, before));
        assert_eq!(log.appended_lsn(), poison.appended);
    });
}

/// A write fails while a flush of earlier records is in flight: either the flush was first, or they are in doubt.
#[test]
fn poison_under_a_flush() {
    check("poison_under_a_flush", Some(3), || {
        let (disk, log) = begun(LogOptions::new());
        let lsn = append(&log, CommitMode::Written);
        let other = log.clone();
        let flusher = start(move || other.flush_to(lsn));
        let other = log.clone();
        let writer = start(move || {
            disk.fail_write();
            other.append(b"x", CommitMode::Written).unwrap_err()
        });
        let flushed = flusher.join().unwrap();
        let error = writer.join().unwrap();
        let poison = log.poisoned().expect("its write failed");
        assert!(matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Poisoned), "{error}");
        assert_eq!(log.durable_lsn(), poison.durable, "it moved after the failure was told");
        assert_eq!(flushed.is_ok(), poison.durable >= lsn);
    });
}

#[test]
fn drop_shutdown() {
    check("drop_shutdown", Some(3), || {
        let (disk, log) = begun(LogOptions::new());
        let receipt = log.append(b"x", CommitMode::Async).unwrap();
        let (flusher, other) = (log.clone(), log.clone());
        let flusher = start(move || flusher.run_flusher());
        let committer = start(move || other.append(b"x", CommitMode::Written).map(|receipt| receipt.is_durable()));
        log.close().unwrap();
        let end = disk.extent();
        assert!(receipt.is_durable());
        match committer.join().unwrap() {
            Ok(_) => {}
            Err(error) => assert_eq!((error.kind(), error.token()), (ErrorKind::Closed, None)),
        }
        flusher.join().unwrap();
        assert_durable(&disk, log.appended_lsn());
        assert_eq!(disk.extent().written, end.written, "written after the close");
    });
}

#[test]
fn asked_for_a_flush() {
    check("asked_for_a_flush", Some(2), || {
        let (disk, log) = begun(LogOptions::new());
        let first = log.append(b"x", CommitMode::Async).unwrap();
        let (flusher, other) = (log.clone(), log.clone());
        let flusher = start(move || flusher.run_flusher());
        let waits = start(move || first.wait_timeout(LONG).unwrap());
        let second = other.append(b"x", CommitMode::Async).unwrap();
        second.wait_timeout(LONG).unwrap();
        assert_durable(&disk, second.lsn());
        waits.join().unwrap();
        log.close().unwrap();
        flusher.join().unwrap();
    });
}

/// A log whose flushes are one submission each.
fn submitting() -> (Stub, Log) {
    begun(LogOptions::new().io_uring(true))
}

#[test]
fn flush_in_one_submission() {
    check("flush_in_one_submission", Some(2), || {
        let (disk, log) = submitting();
        let (other, seen) = (log.clone(), disk.clone());
        let sync = start(move || assert_durable(&seen, append(&other, CommitMode::Sync)));
        let (other, seen) = (log.clone(), disk.clone());
        let written = start(move || {
            let receipt = other.append(b"x", CommitMode::Written).unwrap();
            assert!(seen.extent().written >= receipt.lsn().get());
            if receipt.is_durable() {
                assert_durable(&seen, receipt.lsn());
            }
        });
        assert_durable(&disk, log.durable_lsn());
        sync.join().unwrap();
        written.join().unwrap();
    });
}

/// Should the `Written` commit wait for the sync, which ends only behind it, nobody can go on, which loom tells.
#[test]
fn submission_and_written() {
    check("submission_and_written", Some(3), || {
        let (disk, log) = submitting();
        disk.hold_syncs(true);
        let (other, seen) = (log.clone(), disk.clone());
        let sync = start(move || assert_durable(&seen, append(&other, CommitMode::Sync)));
        let lsn = append(&log, CommitMode::Written);
        let extent = disk.extent();
        assert!(extent.written >= lsn.get() && extent.durable < lsn.get());
        assert!(log.durable_lsn() < lsn, "durable while every sync is held");
        disk.hold_syncs(false);
        sync.join().unwrap();
    });
}

#[test]
fn submission_that_fails() {
    check("submission_that_fails", Some(2), || {
        let (disk, log) = submitting();
        let before = log.durable_lsn();
        disk.fail_sync();
        let other = log.clone();
        let sync = start(move || other.append(b"x", CommitMode::Sync).unwrap_err());
        let (other, seen) = (log.clone(), disk.clone());
        let written = start(move || match other.append(b"x", CommitMode::Written) {
            Ok(receipt) => assert!(seen.extent().written >= receipt.lsn().get() && !receipt.is_durable()),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Poisoned), "{error}"),
        });
        let errors = [log.append(b"x", CommitMode::Sync).unwrap_err(), sync.join().unwrap()];
        written.join().unwrap();
        let poison = log.poisoned().expect("its sync failed");
        for error in errors {
            assert!(matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Poisoned), "{error}");
        }
        assert_eq!((log.durable_lsn(), poison.durable), (before, before));
    });
}
