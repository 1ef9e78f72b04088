//! What opening reports is durable first (promise 5), recovery may be cut off anywhere, and opening a closed log
//! writes nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::support::*;
use crate::base::types::CommitMode::{Async, Sync, Written};
use crate::base::types::{Lsn, Outcome};
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};

#[test]
fn what_a_failed_fsync_left_in_the_cache_is_durable_once_it_was_reported() {
    for pages in [Pages::KeepNew, Pages::RevertOld] {
        for skip in 0..40 {
            let disk = SimDisk::new();
            let first = closed_session(&disk, 30, &twelve()[..3]);
            disk.inject(Fault::once(OpSelector::of(OpKind::Sync).skip(skip), FaultKind::SyncFails { pages }));
            disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir).skip(skip), FaultKind::SyncFails { pages }));
            let (issued, durable) = crate::rt::schedule::run(skip, || {
                let opened = open(&disk).unwrap();
                let mut issued = Vec::new();
                for (number, (length, mode)) in twelve().into_iter().enumerate() {
                    let payload = payload(number, length);
                    let token = match opened.log.append(&payload, mode) {
                        Ok(receipt) => Some(receipt.token()),
                        Err(error) => error.token(),
                    };
                    issued.extend(token.map(|token| Issued { token, payload }));
                }
                let durable = opened.log.durable_lsn();
                let _ = opened.log.close();
                (issued, durable)
            });
            disk.clear_faults();
            // The process is gone, the machine is not: the cache still shows what the medium may not have.
            let what = format!("{pages:?}, sync {skip}");
            let disk = disk.crash_point().process_kill();
            let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            let records = opened.records.clone();
            assert_outcomes(&opened.log, &records, &issued, &what);
            assert!(
                records.len() >= first.issued.len() + issued.iter().filter(|i| i.token.lsn <= durable).count(),
                "{what}"
            );
            // Now, before anything else happens, the power goes.
            let after = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
            let again = open(&after).unwrap_or_else(|error| panic!("{what}, after the power loss: {error}"));
            assert_same(&again.records, &records, &what);
            assert_outcomes(&again.log, &records, &issued, &what);
            drop(again);
            disk.drop_caches();
            drop(opened);
            assert_holds(&disk, &records, &what);
        }
    }
}

/// A process died between making the directory and making its name durable. The next one found the directory there,
/// acknowledged commits, and a power loss took all of it: everything in the directory was durable but its name.
#[test]
fn the_directory_of_a_creation_that_was_cut_off_is_made_durable_too() {
    for dir in ["log", "a/b/log"] {
        let open = |disk: &SimDisk, create| options().create(create).open_on(Arc::new(disk.clone()), dir);
        let disk = SimDisk::new();
        let points = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&points);
        disk.on_op(move |disk, _| seen.lock().unwrap().push(disk.crash_point()));
        open(&disk, true).unwrap();
        disk.clear_on_op();
        for (number, point) in points.lock().unwrap().iter().enumerate() {
            let disk = point.process_kill();
            open(&disk, true).unwrap().append(b"acknowledged", Sync).unwrap();
            let after = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
            let log =
                open(&after, false).unwrap_or_else(|error| panic!("{dir}, killed at operation {number}: {error}"));
            assert_eq!(log.scan(Lsn::ZERO).unwrap().count(), 1, "{dir}, killed at operation {number}");
        }
    }
}

/// A log with a closed incarnation, and one that crashed with records durable, written and torn, over three segments.
fn crashed() -> (Session, Session) {
    let disk = SimDisk::new();
    let first = closed_session(&disk, 31, &twelve()[..4]);
    let second = session(
        &disk,
        32,
        &[(1500, Sync), (700, Written), (2500, Written), (300, Async), (900, Written), (40, Written)],
    );
    (first, second)
}

#[test]
fn recovery_may_be_cut_off_at_every_operation_and_that_of_its_recovery_too() {
    let (first, second) = crashed();
    let all = [first.records(), second.records()].concat();
    let starts = [
        second.crash.process_kill(),
        second.crash.power_loss(&Loss::Nothing, Granularity::Sector),
        second.crash.power_loss(&Loss::Everything, Granularity::Sector),
        second.crash.power_loss(&Loss::Seeded(5), Granularity::Word),
    ];
    let losses = |count| [Loss::Nothing, Loss::Everything].into_iter().chain((0..count).map(Loss::Seeded));
    let (mut moments, mut deeper, mut states) = (0, 0, HashSet::new());
    for (number, start) in starts.into_iter().enumerate() {
        // After the death of the process, what is written and not durable may still go: until recovery has reported it.
        let pending = number == 0;
        let mut found = Records::new();
        let points = crash_points(&start, || found = open(&start).unwrap().records);
        assert_same(&found, &all[..found.len()].to_vec(), "first recovery");
        moments += points.len();
        for (index, point) in points.iter().enumerate() {
            let what = format!("start {number}, moment {index} of {}", points.len());
            assert_holds(&point.process_kill(), &found, &what);
            for loss in losses(12) {
                let cut_off = point.power_loss(&loss, Granularity::Word);
                if !states.insert(cut_off.image_hash()) {
                    continue;
                }
                let mut again = Records::new();
                let second_points = crash_points(&cut_off, || {
                    again = open(&cut_off).unwrap_or_else(|error| panic!("{what}, {loss:?}: {error}")).records;
                });
                assert_same(&again, &all[..again.len()].to_vec(), &what);
                let reported = index + 1 == points.len();
                assert!(again.len() >= 4 + second.durable_records(), "{what}, {loss:?}");
                assert!(
                    again == found || (pending && !reported),
                    "{what}, {loss:?}: {} of {}",
                    again.len(),
                    found.len()
                );
                deeper += second_points.len();
                for second_point in second_points.iter().step_by(3) {
                    for loss in losses(2) {
                        let disk = second_point.power_loss(&loss, Granularity::Sector);
                        if states.insert(disk.image_hash()) {
                            let third = open(&disk).unwrap_or_else(|error| panic!("{what}, deeper: {error}"));
                            assert_same(&third.records, &again, &what);
                        }
                    }
                }
            }
        }
    }
    println!("crash in recovery: {moments} moments, {deeper} in the recovery after it, {} states opened", states.len());
}

#[test]
fn recovery_that_fails_fails_the_open_and_the_next_one_succeeds() {
    let (first, second) = crashed();
    let start = second.crash.power_loss(&Loss::Nothing, Granularity::Sector);
    let all = [first.records(), second.records()].concat();
    // The Async one is written by the Written one after it.
    for kind in [
        FaultKind::Errno(5),
        FaultKind::Errno(28),
        FaultKind::FailedWrite(8),
        FaultKind::SyncFails { pages: Pages::KeepNew },
    ] {
        for skip in 0.. {
            let disk = start.crash_point().process_kill();
            disk.inject(Fault::once(OpSelector::any().skip(skip), kind.clone()));
            let opened = open(&disk);
            let hit = disk.fault_hits() > 0;
            disk.clear_faults();
            let what = format!("{kind:?} at operation {skip}");
            match opened {
                Ok(opened) => assert_same(&opened.records, &all, &what),
                Err(_) => assert!(hit, "{what}"),
            }
            assert_holds(&disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector), &all, &what);
            assert_holds(&disk, &all, &what);
            if !hit {
                assert!(skip > 10 || matches!(kind, FaultKind::FailedWrite(_) | FaultKind::SyncFails { .. }), "{what}");
                break;
            }
        }
    }
}

#[test]
fn opening_a_closed_log_writes_nothing_and_so_does_closing_it_again() {
    let disk = SimDisk::new();
    for entry in 0..4 {
        let session = closed_session(&disk, 40 + entry, &twelve());
        let before = files(&disk);
        for _ in 0..3 {
            let changes = count_changes(&disk, || {
                let opened = open(&disk).unwrap();
                assert_eq!(opened.records.len() as u64, 12 * (entry + 1));
                assert!(session.issued.iter().all(|i| opened.log.outcome(&i.token).unwrap() == Outcome::Durable));
                assert_eq!(opened.log.scan(crate::Lsn::ZERO).unwrap().count() as u64, 12 * (entry + 1));
                assert_eq!(opened.log.recovery().rewritten_bytes, 0);
                assert_eq!(opened.log.recovery().crashed, None);
                opened.log.close().unwrap();
            });
            assert_eq!(changes, 0);
            assert!(files(&disk) == before);
        }
    }
}

#[test]
fn a_read_error_is_never_the_end_of_the_log() {
    let (first, second) = crashed();
    let start = second.crash.power_loss(&Loss::Nothing, Granularity::Sector);
    let all = [first.records(), second.records()].concat();
    for (path, bytes) in start.files() {
        for sector in 0..bytes.len() as u64 / 512 {
            let disk = start.crash_point().process_kill();
            let bad =
                OpSelector::of(OpKind::Read).on(path.to_str().unwrap()).touching(sector * 512..sector * 512 + 512);
            disk.inject(Fault::lasting(bad.clone(), FaultKind::Errno(5)));
            if path.ends_with("MARK") {
                // Nothing depends on it; it proved nothing here, and that it cannot be read is told.
                let opened = open(&disk).unwrap();
                assert_same(&opened.records, &all, "an unreadable mark");
                assert_eq!(opened.log.recovery().mark, crate::MarkFound::Invalid);
                continue;
            }
            assert_unreadable(&disk, &format!("{path:?}, sector {sector}"));
            disk.clear_faults();
            // Bytes that come one by one, and calls that are interrupted, are no errors.
            disk.inject(Fault::lasting(bad.clone(), FaultKind::ShortRead(7)));
            disk.inject(Fault::once(bad, FaultKind::Error(std::io::ErrorKind::Interrupted)));
            assert_same(&open(&disk).unwrap().records, &all, "in pieces");
        }
    }
}
