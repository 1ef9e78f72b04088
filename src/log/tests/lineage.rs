//! Positions that a reader brings along: only the end of a record of this history is one, and reading begins there.

use std::sync::Arc;
use std::time::Duration;

use super::support::*;
use crate::base::error::{ErrorKind, Result};
use crate::base::types::CommitMode::{Async, Sync, Written};
use crate::base::types::{Lsn, Outcome, Token};
use crate::disk::sim::SimDisk;
use crate::log::{Log, LogOptions};

/// Records of many lengths, in all modes: some end with their segment, some fill several.
fn fill(log: &Log, count: usize) -> Vec<Lsn> {
    let length = |number: usize| number * 37 % 1200 + if number.is_multiple_of(50) { 9000 } else { 0 };
    let append = |number: usize| log.append(&payload(number, length(number)), [Sync, Async, Written][number % 3]);
    (0..count).map(|number| append(number).unwrap().lsn()).collect()
}

fn first(log: &Log, after: Lsn) -> Result<Option<Lsn>> {
    log.scan(after)?.next().transpose().map(|record| record.map(|record| record.lsn))
}

/// Every position but the ends of records is refused, by all that take one; and after each end the next record comes.
fn assert_only_ends_are_positions(log: &Log, ends: &[Lsn], what: &str) {
    log.flush().unwrap();
    let last = ends.last().unwrap().get();
    for position in (1..last + 3000).filter(|position| position % 8 == 0 || position % 7 == 0) {
        let lsn = Lsn::new(position);
        let what = format!("{what}, {lsn}");
        let tail = log.tail(lsn).map(drop);
        match ends.binary_search(&lsn) {
            Ok(index) => {
                assert_eq!(first(log, lsn).unwrap(), ends.get(index + 1).copied(), "{what}");
                tail.unwrap();
                log.flush_to(lsn).unwrap();
            }
            Err(_) => {
                for refused in [first(log, lsn).map(drop), tail, log.flush_to(lsn)] {
                    let error = refused.expect_err(&what);
                    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
                    assert!(error.to_string().contains(&lsn.to_string()), "{what}: {error}");
                }
            }
        }
    }
}

/// A tail kept its position outside. The log was restored from an older copy, and went on: records were skipped
/// without a word; from beyond the end it waited for ever.
#[test]
fn a_position_that_is_no_records_end_is_refused() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap().log;
    let mut ends = fill(&log, 60);
    assert_only_ends_are_positions(&log, &ends, "as it was written");
    log.close().unwrap();
    let log = open(&disk).unwrap().log;
    assert_only_ends_are_positions(&log, &ends, "reopened");
    ends.extend(fill(&log, 30));
    assert_only_ends_are_positions(&log, &ends, "in its second incarnation");
}

/// What is not durable yet, or not even written, can be followed as well.
#[test]
fn the_end_of_a_record_in_the_buffer_is_a_position() {
    let log = open(&SimDisk::new()).unwrap().log;
    let ends: Vec<_> = (0..5).map(|number| log.append(&payload(number, 100), Async).unwrap().lsn()).collect();
    for lsn in &ends {
        assert_eq!(first(&log, *lsn).unwrap(), None);
    }
    let mut tail = log.tail(ends[1]).unwrap();
    for position in [ends[0].get() + 8, ends[4].get() - 8, ends[4].get() + 8] {
        assert_eq!(log.tail(Lsn::new(position)).map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    log.flush().unwrap();
    assert_eq!(tail.next_timeout(Duration::ZERO).unwrap().unwrap().lsn, ends[2]);
}

/// A scan from near the end of a large segment read all records before it.
#[test]
fn what_a_scan_reads_does_not_grow_with_what_is_before_it() {
    let disk = SimDisk::new();
    let log = LogOptions::new().segment_bytes(64 << 20).open_on(Arc::new(disk.clone()), DIR).unwrap();
    let ends: Vec<_> = (0..60_000).map(|_| log.append(&[7; 200], Async).unwrap().lsn()).collect();
    log.flush().unwrap();
    let operations = |index: usize| {
        let before = disk.ops();
        assert_eq!(first(&log, ends[index]).unwrap(), Some(ends[index + 1]));
        disk.ops() - before
    };
    let of_the_first = operations(0);
    for index in [1, 30_000, 50_000, 59_990] {
        assert_eq!(operations(index), of_the_first, "record {index}");
    }
}

/// The directory was restored from a copy, and went on with records of the same lengths: the positions are the same, and
/// the records are not. Only a token tells.
#[test]
fn a_token_of_another_branch_is_refused_where_its_position_is_one() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap().log;
    fill(&log, 10);
    log.close().unwrap();
    let older = copy(&disk);
    let tokens = [disk, older].map(|disk| {
        let log = open(&disk).unwrap().log;
        let token = log.append(b"of one branch", Sync).unwrap().token();
        log.append(b"next", Sync).unwrap();
        (token, log)
    });
    let [(lost, _there), (here, log)] = tokens;
    assert_eq!(lost.lsn, here.lsn);
    assert!(log.scan(lost.lsn).is_ok(), "the number is one of this branch as well");
    for error in [log.scan(lost).map(drop), log.tail(lost).map(drop), log.flush_to(lost)] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(log.scan(here).unwrap().count(), 1);
}

/// What a reader keeps is the token of its last record.
#[test]
fn a_reader_goes_on_by_the_token_of_any_record_in_any_later_incarnation() {
    let disk = SimDisk::new();
    let mut ends = Vec::new();
    for _ in 0..3 {
        let log = open(&disk).unwrap().log;
        ends.extend(fill(&log, 7));
        log.close().unwrap();
    }
    let log = open(&disk).unwrap().log;
    let records: Vec<_> = log.scan(Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    assert!(records.iter().map(|record| record.lsn).eq(ends.iter().copied()));
    for (index, record) in records.iter().enumerate() {
        assert_eq!(log.outcome(&record.token).unwrap(), Outcome::Durable);
        assert_eq!(first(&log, record.lsn).unwrap(), ends.get(index + 1).copied());
        let after: Vec<_> = log.scan(record.token).unwrap().map(Result::unwrap).collect();
        assert_eq!(after, records[index + 1..]);
    }
    // Retired, and read again from there.
    log.retire(records[9].lsn).unwrap();
    assert_eq!(log.scan(records[8].token).map(drop).unwrap_err().kind(), ErrorKind::Retired);
    assert_eq!(log.scan(records[9].token).unwrap().count(), records.len() - 10);
    log.flush_to(records[3].token).unwrap();
}

/// A token forged to a position inside a record was `Durable` where the docs promised `Invalid`.
#[test]
fn a_position_where_no_record_can_end_is_invalid_and_any_other_has_the_answer_of_its_place() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap().log;
    let first = log.append(&[1; 100], Sync).unwrap().token();
    let last = log.append(&[1; 100], Sync).unwrap().token();
    let forged = |lsn: u64| Token { lsn: Lsn::new(lsn), ..first };
    let answers = |log: &Log, above: Outcome| {
        let outcome = |lsn| log.outcome(&forged(lsn)).unwrap();
        for lsn in [1, 8, 512, 536, 543, first.lsn.get() - 1, last.lsn.get() + 4] {
            assert_eq!(outcome(lsn), Outcome::Invalid, "{lsn}");
        }
        // No commit returned it: the answer of its place, without I/O.
        assert_eq!(outcome(last.lsn.get() - 8), Outcome::Durable);
        assert_eq!(outcome(last.lsn.get() + 8), above);
        assert_eq!(outcome(1 << 40), Outcome::Invalid);
    };
    let operations = disk.ops();
    answers(&log, Outcome::Invalid);
    assert_eq!(disk.ops(), operations, "nothing is read for an answer");
    log.close().unwrap();
    answers(&open(&disk).unwrap().log, Outcome::Lost);
}
