//! Positions that a caller makes up: nothing is skipped by a scan, and nothing but the end of a record is a position, for a
//! scan or to be retired.

use super::support::*;
use crate::base::error::ErrorKind;
use crate::base::types::CommitMode::Sync;
use crate::base::types::{Lsn, Outcome};
use crate::disk::sim::SimDisk;
use crate::rt::schedule;

const STEPS: [(usize, crate::CommitMode); 5] = [(100, Sync), (9000, Sync), (50, Sync), (3000, Sync), (10, Sync)];

#[test]
fn a_scan_after_a_position_shows_every_record_above_it_or_refuses() {
    let disk = SimDisk::new();
    let session = closed_session(&disk, 50, &STEPS);
    let opened = open(&disk).unwrap();
    let records = session.records();
    let end = records.last().unwrap().0.get();
    for after in (0..=end + 8).step_by(8) {
        let is_end = after == 0 || records.iter().any(|(lsn, _)| lsn.get() == after);
        let scan = match opened.log.scan(Lsn::new(after)) {
            Ok(scan) => scan,
            Err(error) => {
                assert_eq!((error.kind(), is_end), (ErrorKind::InvalidInput, false), "after {after}: {error}");
                continue;
            }
        };
        assert!(is_end, "after {after}");
        let found: Records = scan.map(Result::unwrap).map(|r| (r.lsn, r.payload)).collect();
        let expected: Records = records.iter().filter(|(lsn, _)| lsn.get() > after).cloned().collect();
        assert_same(&found, &expected, &format!("after {after}"));
    }
}

#[test]
fn only_the_end_of_a_record_can_be_retired() {
    let disk = SimDisk::new();
    let session = closed_session(&disk, 51, &STEPS);
    let ends: Vec<u64> = session.issued.iter().map(|issued| issued.token.lsn.get()).collect();
    for up_to in (0..=ends[4] + 8).step_by(8) {
        let disk = disk.crash_point().process_kill();
        let opened = open(&disk).unwrap();
        let before = files(&disk);
        match opened.log.retire(Lsn::new(up_to)) {
            Ok(()) => assert!(up_to == 0 || ends.contains(&up_to), "{up_to}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{up_to}: {error}");
                assert!(!ends.contains(&up_to) && up_to > 0, "{up_to}: {error}");
                assert!(files(&disk) == before, "{up_to}: a refusal that changed something");
            }
        }
        drop(opened);
        // Whatever was answered, the log opens, and tokens of what was retired are answered as before.
        let opened = open(&disk).unwrap_or_else(|error| panic!("retired up to {up_to}: {error}"));
        session.issued.iter().for_each(|i| assert_eq!(opened.log.outcome(&i.token).unwrap(), Outcome::Durable));
    }
}

#[test]
fn tokens_of_retired_records_stay_durable_through_a_crash() {
    // A record that ends exactly where its segment does, so that retiring it leaves nothing of its segments.
    let length = usize::try_from(SEGMENT - FIRST_FRAME - 32).unwrap();
    let disk = SimDisk::new();
    let issued = schedule::run(52, || {
        let opened = open(&disk).unwrap();
        let payload = payload(0, length);
        let token = opened.log.append(&payload, Sync).unwrap().token();
        opened.log.retire(token.lsn).unwrap();
        let crashed = disk.crash_point();
        drop(opened);
        (crashed, vec![Issued { token, payload }])
    });
    let (crash, issued) = issued;
    assert_eq!(issued[0].token.lsn.get(), SEGMENT);
    let disk = crash.process_kill();
    for reopen in 0..3 {
        let opened = open(&disk).unwrap();
        assert!(opened.records.is_empty());
        assert_eq!(opened.log.outcome(&issued[0].token).unwrap(), Outcome::Durable, "reopen {reopen}");
    }
}

#[test]
fn a_log_whose_records_are_all_retired_opens_without_a_write_after_a_close() {
    let disk = SimDisk::new();
    schedule::run(53, || {
        let opened = open(&disk).unwrap();
        let receipt = opened.log.append(&payload(0, 100), Sync).unwrap();
        opened.log.retire(receipt.lsn()).unwrap();
        opened.log.close().unwrap();
    });
    let changes = count_changes(&disk, || drop(open(&disk).unwrap()));
    assert_eq!(changes, 0);
}

#[test]
fn a_reader_that_retirement_overtook_is_told_and_skips_nothing() {
    let disk = SimDisk::new();
    let session = closed_session(&disk, 54, &[(3000, Sync), (3000, Sync), (3000, Sync), (3000, Sync), (3000, Sync)]);
    let lsns: Vec<Lsn> = session.issued.iter().map(|issued| issued.token.lsn).collect();
    for read in 0..=5 {
        for retired in 1..=5 {
            let disk = disk.crash_point().process_kill();
            let opened = open(&disk).unwrap();
            let mut scan = opened.log.scan(Lsn::ZERO).unwrap();
            let mut seen: Vec<Lsn> = scan.by_ref().take(read).map(|record| record.unwrap().lsn).collect();
            opened.log.retire(lsns[retired - 1]).unwrap();
            let mut told = None;
            for record in scan {
                match record {
                    Ok(record) => seen.push(record.lsn),
                    Err(error) => told = Some(error.kind()),
                }
            }
            // It goes on without a gap, or from what is retained if it had not begun; or it says why it ends.
            let from = lsns.iter().position(|lsn| Some(lsn) == seen.first()).unwrap_or(0);
            assert_eq!(seen, lsns[from..from + seen.len()], "{read} read, {retired} retired");
            assert!(read == 0 || from == 0);
            match told {
                Some(kind) => assert_eq!(kind, ErrorKind::Retired),
                None => assert!(
                    from + seen.len() == 5 || seen.is_empty() && retired == 5,
                    "{read} read, {retired} retired: {seen:?}"
                ),
            }
        }
    }
}

#[test]
fn recovery_leaves_nothing_of_what_is_retired() {
    let disk = SimDisk::new();
    let crash = schedule::run(55, || {
        let opened = open(&disk).unwrap();
        let receipt = opened.log.append(&payload(0, 100), Sync).unwrap();
        opened.log.retire(receipt.lsn()).unwrap();
        let crash = disk.crash_point();
        drop(opened);
        crash
    });
    let disk = crash.process_kill();
    drop(open(&disk).unwrap());
    assert!(files(&disk).iter().all(|(path, _)| path.extension() != Some("log".as_ref())));
    assert_eq!(count_changes(&disk, || drop(open(&disk).unwrap())), 0);
}
