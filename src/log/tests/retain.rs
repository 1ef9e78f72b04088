//! What may be retired, and what keeps it.

use super::support::*;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::CommitMode::{Async, Sync};
use crate::base::types::Lsn;
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use crate::log::{Log, RecordEnd};

const EIO: i32 = 5;

fn log(disk: &SimDisk) -> Log {
    open(disk).unwrap().log
}

/// Several segments' worth of records.
fn append_ten(log: &Log) -> Vec<RecordEnd> {
    (0..10).map(|number| log.append(&[number; 900], Sync).unwrap().end()).collect()
}

fn scanned(log: &Log) -> Vec<Lsn> {
    log.scan(Lsn::ZERO).unwrap().map(|record| record.unwrap().lsn).collect()
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn the_end_of_a_record_is_proven_without_a_read() {
    let disk = SimDisk::new();
    let log = log(&disk);
    let written = append_ten(&log);
    let read: Vec<_> = log.scan(Lsn::ZERO).unwrap().map(|record| record.unwrap().end()).collect();
    assert_eq!(written, read);
    for kind in [OpKind::Open, OpKind::Read] {
        disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Errno(EIO)));
    }
    // What only names a position has to be looked up.
    assert_eq!(kind(log.retire(written[3].lsn())), Some(ErrorKind::Io));
    assert_eq!(kind(log.retire(crate::log::Position::Token(written[3].token()))), Some(ErrorKind::Io));
    for (index, end) in written.iter().enumerate().step_by(3) {
        log.retire(*end).unwrap();
        assert_eq!(log.oldest_lsn(), end.lsn());
        log.retire(read[index]).unwrap();
    }
    disk.clear_faults();
    assert_eq!(scanned(&log), [] as [Lsn; 0]);
}

#[test]
fn the_end_of_a_record_that_is_not_of_this_log_is_refused() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    let written = append_ten(&log(&disk));
    let foreign = append_ten(&log(&other));
    let opened = log(&disk);
    let lost = opened.append(b"lost", Async).unwrap().end();
    assert_eq!(kind(opened.retire(lost)), Some(ErrorKind::InvalidInput), "not durable");
    let crashed =
        log(&disk.crash_point().power_loss(&crate::disk::sim::Loss::Everything, crate::disk::sim::Granularity::Word));
    for refused in [foreign[4], lost] {
        assert_eq!(kind(crashed.retire(refused)), Some(ErrorKind::InvalidInput), "{refused:?}");
        assert_eq!(kind(crashed.scan(refused)), Some(ErrorKind::InvalidInput), "{refused:?}");
        assert_eq!(kind(crashed.pin(refused)), Some(ErrorKind::InvalidInput), "{refused:?}");
    }
    // A record may be changed by who has read it: that changes no position.
    let mut record = crashed.scan(Lsn::ZERO).unwrap().next().unwrap().unwrap();
    record.token.lsn = Lsn::new(record.lsn.get() - 8);
    assert_eq!(record.end(), written[0]);
    crashed.retire(written[4]).unwrap();
    assert_eq!(scanned(&crashed).len(), 5);
}

#[test]
fn a_retirement_goes_as_far_as_the_lowest_pin() {
    let disk = SimDisk::new();
    let log = log(&disk);
    let ends = append_ten(&log);
    let pins = [7, 3, 3, 5].map(|index: usize| log.pin(ends[index]).unwrap());
    assert_eq!(pins.each_ref().map(|pin| pin.lsn()), [7, 3, 3, 5].map(|index: usize| ends[index].lsn()));
    let mut pins = Vec::from(pins);
    let expected = [3, 3, 5, 7, 8];
    for (dropped, index) in [None, Some(1), Some(1), Some(1), Some(0)].into_iter().zip(expected) {
        dropped.into_iter().for_each(|dropped| drop(pins.remove(dropped)));
        log.retire(ends[8]).unwrap();
        assert_eq!(log.oldest_lsn(), ends[index].lsn());
        assert_eq!(scanned(&log), ends[index + 1..].iter().map(RecordEnd::lsn).collect::<Vec<_>>());
    }
    assert_eq!(kind(log.pin(ends[7])), Some(ErrorKind::Retired));
    // At the oldest position there is, and at the newest.
    assert_eq!(log.pin(Lsn::ZERO).unwrap().lsn(), ends[8].lsn());
    assert_eq!(log.pin(ends[9]).unwrap().lsn(), ends[9].lsn());
    drop(log);
    assert_eq!(scanned(&open(&disk).unwrap().log), [ends[9].lsn()]);
}

/// A checkpoint announces itself as a retirement does: what a pin keeps stays in the log, and meanwhile none is taken below.
#[test]
fn a_checkpoint_takes_no_record_from_a_pin() {
    let disk = SimDisk::new();
    let log = log(&disk);
    let ends = append_ten(&log);
    let pin = log.pin(ends[3]).unwrap();
    let install = |oldest| {
        assert_eq!((oldest, kind(log.pin(ends[2]))), (pin.lsn(), Some(ErrorKind::Retired)));
        Ok::<_, Error>(())
    };
    let (_installed, removed) = log.inner().retire_into(ends[8].lsn(), install, || Ok(())).unwrap();
    removed.unwrap();
    assert_eq!(scanned(&log), ends[4..].iter().map(RecordEnd::lsn).collect::<Vec<_>>());
    drop(pin);
    assert!(log.inner().retire_into(ends[8].lsn(), |_| Err::<(), _>(Error::closed()), || Ok(())).is_err());
    assert_eq!(log.pin(ends[4]).unwrap().lsn(), ends[4].lsn(), "it was withdrawn");
}

/// A retirement that fails gives up what it had announced: records that are still there can be pinned.
#[test]
fn a_retirement_that_is_refused_leaves_the_records_to_be_pinned() {
    let disk = SimDisk::new();
    let log = log(&disk);
    let ends = append_ten(&log);
    disk.inject(Fault::once(OpSelector::of(OpKind::Create), FaultKind::Errno(EIO)));
    assert_eq!(kind(log.retire(ends[8])), Some(ErrorKind::Io));
    let pin = log.pin(ends[2]).unwrap();
    log.retire(ends[8]).unwrap();
    assert_eq!((log.oldest_lsn(), scanned(&log).len()), (pin.lsn(), 7));
}
