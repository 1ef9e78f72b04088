//! What the operating system refuses while the log is prepared, against what makes the log stop (the table in
//! `log/failure.rs`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::*;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::CommitMode::Sync;
use crate::base::types::Lsn;
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Phase, SimDisk};
use crate::log::Log;
use crate::rt::schedule;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENXIO: i32 = 6;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EISDIR: i32 = 21;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const ETIMEDOUT: i32 = 110;
const ESTALE: i32 = 116;
const EDQUOT: i32 = 122;

const ALL: [i32; 9] = [EIO, ENOMEM, EACCES, ENFILE, EMFILE, ENOSPC, EROFS, ESTALE, EDQUOT];

/// A rename is refused for other reasons, too: what is renamed is gone, or the name is taken. And a medium or a server
/// fails in other ways than by EIO.
const OF_A_RENAME: [i32; 5] = [ENOENT, EBUSY, EISDIR, ENXIO, ETIMEDOUT];

/// The table: whether an error of this operation on this file is a verdict on what is durable.
fn is_final(kind: OpKind, file: &str, code: i32) -> bool {
    let is_new = file.ends_with(".tmp") || file == "MARK";
    match kind {
        OpKind::Write | OpKind::Sync | OpKind::StartWriteback | OpKind::SetLen => !is_new,
        OpKind::Rename => matches!(code, EIO | ESTALE | ENXIO | ETIMEDOUT),
        OpKind::SyncDir => true,
        _ => false,
    }
}

/// Appends ten records, over several segments, each as often as it takes. `failed` is told of each failure.
fn append_ten(log: &Log, failed: &mut dyn FnMut(&Error)) -> Vec<Vec<u8>> {
    let mut acknowledged = Vec::new();
    for number in 0..10 {
        let payload = payload(number, 1500);
        for _ in 0..3 {
            match log.append(&payload, Sync) {
                Ok(_) => {
                    acknowledged.push(payload);
                    break;
                }
                Err(error) => failed(&error),
            }
        }
    }
    acknowledged
}

fn assert_holds_all(disk: &SimDisk, acknowledged: &[Vec<u8>], what: &str) {
    let opened = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found: Vec<_> = opened.records.iter().map(|(_, payload)| payload.clone()).collect();
    assert!(found.starts_with(acknowledged), "{what}: {} of {}", found.len(), acknowledged.len());
}

/// Everything that changes the disk after the open, in order, each with its number among all operations.
fn operations(seed: u64) -> Vec<(u64, OpKind, String)> {
    let disk = SimDisk::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    schedule::run(seed, || {
        let log = open(&disk).unwrap().log;
        let (noted, before) = (Arc::clone(&seen), disk.ops());
        let named = Mutex::new(BTreeSet::new());
        disk.on_op(move |_, op| {
            if op.phase != Phase::Before {
                return;
            }
            // A file goes by the name by which it was opened, also when it has got its own.
            let mut named = named.lock().unwrap();
            let name = op.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let own = if named.contains(&name) { name.trim_end_matches(".tmp").to_owned() } else { name.clone() };
            match op.kind {
                OpKind::Rename => _ = named.insert(name),
                OpKind::Create => _ = named.remove(&name),
                _ => {}
            }
            noted.lock().unwrap().push((op.number - before, op.kind, own));
        });
        append_ten(&log, &mut |error| panic!("{error}"));
        disk.clear_on_op();
    });
    seen.lock().unwrap().clone()
}

/// All descriptors were taken for a moment while a segment was rolled: the directory could not be opened to be synced,
/// and the log was poisoned for good. (Now it is open all the time.) And what a refused begin had left made the next one a directory that is refused.
#[test]
fn each_error_is_final_where_the_table_says_so_and_nowhere_else() {
    let operations = operations(1);
    assert!(operations.len() > 60, "{operations:?}");
    let (mut errors, mut finals) = (0, 0);
    for (number, kind, file) in &operations {
        let more: &[i32] = if *kind == OpKind::Rename { &OF_A_RENAME } else { &[] };
        for code in ALL.iter().chain(more).copied() {
            errors += 1;
            let what = format!("operation {number}, {kind:?} of {file}, errno {code}");
            let disk = SimDisk::new();
            let mut images = Vec::new();
            // Asserted outside of the simulation, which cannot be unwound.
            let mut told = Vec::new();
            let (acknowledged, poisoned, closed) = schedule::run(1, || {
                let log = open(&disk).unwrap().log;
                let at = OpSelector::any().skip(*number);
                disk.inject(Fault::once(at, FaultKind::Errno(code)));
                let acknowledged = append_ten(&log, &mut |error| {
                    told.push((error.clone(), log.poisoned().is_some()));
                    images.push(disk.crash_point());
                });
                images.push(disk.crash_point());
                // Asked behind the close: it waits for a preparation that is under way.
                let closed = log.close();
                (acknowledged, log.poisoned().is_some(), closed)
            });
            for (error, is_stopped) in &told {
                let (expected, is_in_doubt) = match error.kind() {
                    ErrorKind::Io | ErrorKind::DiskFull => (false, false),
                    ErrorKind::Poisoned => (true, false),
                    ErrorKind::Indeterminate => (true, true),
                    kind => panic!("{what}: {kind:?}, {error}"),
                };
                assert_eq!(*is_stopped, expected, "{what}: {error}");
                assert_eq!(
                    (error.token().is_some(), error.is_retryable()),
                    (is_in_doubt, !expected),
                    "{what}: {error}"
                );
            }
            assert_eq!(closed.is_err(), poisoned, "{what}");
            assert_eq!(poisoned, is_final(*kind, file, code), "{what}");
            assert!(poisoned || acknowledged.len() == 10, "{what}");
            finals += usize::from(poisoned);
            assert_holds_all(&disk, &acknowledged, &what);
            let last = images.len() - 1;
            for (moment, image) in images.iter().enumerate() {
                let sure: &[_] = if moment == last { &acknowledged } else { &[] };
                assert_holds_all(&image.process_kill(), sure, &what);
                for loss in [Loss::Everything, Loss::Seeded(1)] {
                    assert_holds_all(&image.power_loss(&loss, Granularity::Sector), sure, &what);
                }
            }
        }
    }
    println!("{} operations, {errors} errors, {finals} of them final", operations.len());
}

/// A refused begin had left its HISTORY; the next attempt drew another nonce, and a crash within it left a HISTORY and a
/// segment that did not belong together: a directory that is refused.
#[test]
fn the_attempt_after_a_refused_one_may_be_cut_off_anywhere() {
    let (mut refusals, mut states) = (0, 0);
    for (number, kind, file) in &operations(1) {
        let code = EACCES;
        if !matches!(kind, OpKind::Rename | OpKind::Create) {
            continue;
        }
        let disk = SimDisk::new();
        let images = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&images);
        let results = schedule::run(1, || {
            let log = open(&disk).unwrap().log;
            disk.inject(Fault::once(OpSelector::any().skip(*number), FaultKind::Errno(code)));
            let mut results = Vec::new();
            for number in 0..10 {
                let before = disk.fault_hits();
                results.push(log.append(&payload(number, 1500), Sync).is_ok());
                if results.last() == Some(&false) && before == 0 {
                    let taken = Arc::clone(&taken);
                    disk.on_op(move |disk, _| taken.lock().unwrap().push(disk.crash_point()));
                }
            }
            disk.clear_on_op();
            results
        });
        refusals += results.iter().filter(|succeeded| !**succeeded).count();
        for (moment, image) in images.lock().unwrap().iter().enumerate() {
            let what = format!("{kind:?} of {file} refused, moment {moment} after it");
            let losses = [Loss::Everything, Loss::Nothing, Loss::Seeded(1), Loss::Seeded(2)];
            let powerless = losses.iter().map(|loss| image.power_loss(loss, Granularity::Sector));
            for disk in powerless.chain([image.process_kill()]) {
                assert_holds_all(&disk, &[], &what);
                states += 1;
            }
        }
    }
    println!("{refusals} refusals, {states} states");
    assert!(refusals > 5 && states > 500, "{refusals} refusals, {states} states");
}

/// A begin whose HISTORY was refused keeps its segment for the next attempt. If that was cleared away meanwhile, the next
/// attempt listed an incarnation without its first segment: acknowledged commits, and an open that refuses them.
#[test]
fn the_segment_of_a_refused_begin_may_be_gone() {
    for is_cut in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let log = open(&disk).unwrap().log;
            disk.inject(Fault::once(OpSelector::of(OpKind::Rename).on("HISTORY.tmp"), FaultKind::Errno(ENOSPC)));
            log.append(b"refused", Sync).unwrap_err();
            if is_cut {
                disk.truncate(segment_path(0), 512).unwrap();
                // In the way of the next attempt, until it is taken away.
                let error = log.append(b"refused", Sync).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                assert!(log.poisoned().is_none());
            }
            disk.delete(segment_path(0)).unwrap();
            log.append(b"acknowledged", Sync).unwrap();
            // No close, and no look at the files.
            let crash = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
            assert_holds_all(&crash, &[b"acknowledged".to_vec()], "gone");
        });
    }
}

/// For as long as it lasts every commit that needs the disk for more than its own bytes is told so, and none when it is over.
#[test]
fn the_log_goes_on_when_there_are_descriptors_again() {
    for code in [EMFILE, ENFILE, ENOMEM, EACCES] {
        for kind in [OpKind::Create, OpKind::Rename, OpKind::Remove] {
            if is_final(kind, "", code) {
                continue;
            }
            // At the first append, and at one that needs the next segment.
            for before in [0, 1] {
                let what = format!("{kind:?}, errno {code}, after {before}");
                let disk = SimDisk::new();
                let (refusals, number, poisoned, results) = schedule::run(2, || {
                    let log = open(&disk).unwrap().log;
                    let append = |number: usize| log.append(&payload(number, 1500), Sync);
                    (0..before).for_each(|number| drop(append(number).unwrap()));
                    disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Errno(code)));
                    let mut refusals = Vec::new();
                    let mut number = before;
                    while refusals.len() < 5 && number < 100 {
                        match append(number) {
                            Ok(_) => number += 1,
                            Err(error) => refusals.push(error),
                        }
                    }
                    disk.clear_faults();
                    let mut results: Vec<_> = (number..number + 10).map(|number| append(number).map(drop)).collect();
                    results.push(log.close());
                    (refusals, number, log.poisoned().cloned(), results)
                });
                assert!(poisoned.is_none(), "{what}: {poisoned:?}");
                // A file that is not there is not removed, so a refused removal is met later or never.
                assert!(refusals.len() == 5 || kind == OpKind::Remove, "{what}: {refusals:?}");
                for error in refusals {
                    assert_eq!((error.kind(), error.token()), (ErrorKind::Io, None), "{what}: {error}");
                    assert!(error.is_retryable());
                }
                assert!(results.iter().all(Result::is_ok), "{what}: {results:?}");
                let acknowledged: Vec<_> = (0..number + 10).map(|number| payload(number, 1500)).collect();
                assert_holds_all(&disk, &acknowledged, &what);
            }
        }
    }
}

/// After the second thread was refused the next attempt started the first one again.
#[test]
fn a_thread_that_is_refused_is_started_by_the_next_attempt_and_no_other_twice() {
    for refused in 0..2 {
        let (first, second, threads, callback, closed) = schedule::run(3, || {
            let log = open(&SimDisk::new()).unwrap().log;
            schedule::refuse_a_thread_after(refused);
            let (first, second) = (log.append(b"first", Sync), log.append(b"second", Sync));
            let threads = log.inner().background.running();
            schedule::refuse_a_thread_after(0);
            let receipt = second.as_ref().unwrap();
            let callback = [receipt.on_durable(drop), receipt.on_durable(drop)].map(|result| result.is_ok());
            (first.map(drop), second.is_ok(), threads, callback, log.close())
        });
        let error = first.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true), "{error}");
        assert_eq!((second, threads, callback), (true, 2, [false, true]));
        closed.unwrap();
    }
}

/// A tail that met an error for want of descriptors had ended.
#[test]
fn a_tail_goes_on_when_there_are_descriptors_again_and_a_scan_ends() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap().log;
    append_ten(&log, &mut |error| panic!("{error}"));
    let refuse = |skip| {
        let at = OpSelector::of(OpKind::Open).skip(skip);
        disk.inject(Fault::once(at, FaultKind::Errno(EMFILE)));
    };
    let all: Vec<_> = log.scan(Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    for skip in 0..4 {
        let mut tail = log.tail(Lsn::ZERO).unwrap();
        refuse(skip);
        let (mut records, mut refusals) = (Vec::new(), 0);
        while records.len() < all.len() {
            match tail.next_timeout(Duration::ZERO) {
                Ok(record) => records.push(record.unwrap()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                    refusals += 1;
                }
            }
        }
        assert_eq!(refusals, 1);
        assert!(records == all, "skip {skip}");
        refuse(skip);
        let read: Vec<_> = log.scan(Lsn::ZERO).unwrap().collect();
        assert!(read.last().unwrap().is_err() && read.iter().filter(|record| record.is_err()).count() == 1);
    }
}

/// Between the rename that failed and the stop of the log another thread was refused its write, and the log was said to
/// have stopped by that: "cannot write to ...100000.log: No such file".
#[test]
fn the_cause_is_the_call_that_failed_and_not_one_that_was_refused_for_it() {
    let mut refused_first = 0;
    for seed in 0..200 {
        let disk = SimDisk::new();
        let cause = schedule::run(seed, || {
            let log = open(&disk).unwrap().log;
            let latch = log.inner().place.disk().clone();
            let at = OpSelector::of(OpKind::Rename).on(".log.tmp").skip(1);
            disk.inject(Fault::once(at, FaultKind::Errno(EIO)));
            let mut told = None;
            for number in 0..100 {
                let failed = latch.failure().is_some() && log.poisoned().is_none();
                if log.append(&payload(number, 100), Sync).is_err() {
                    told = Some((log.poisoned().unwrap().cause.to_string(), failed));
                    break;
                }
            }
            told
        });
        let (cause, was_refused) = cause.expect("the rename failed");
        refused_first += usize::from(was_refused);
        assert!(cause.contains("rename") && !cause.contains("0000000000000000.log"), "seed {seed}: {cause}");
    }
    println!("in {refused_first} of 200 runs a commit came between");
}
