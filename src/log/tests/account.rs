//! What an open says of what it found, and the files that it leaves.

use super::support::*;
use crate::base::error::{DamageCause, ErrorKind};
use crate::base::types::CommitMode::{Sync, Written};
use crate::base::types::{Incarnation, Lsn};
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::format::frame::{Kind, frame_len};
use crate::format::history::Entry;
use crate::format::segment::{SEGMENT_HEADER, SegmentHeader};

#[test]
fn it_counts_what_was_found_and_what_was_dropped() {
    let mut sketch = Sketch::new();
    sketch.add_segment(SEGMENT);
    sketch.add_segment(2 * SEGMENT);
    let fills = |position: u64| {
        let limit = (position / SEGMENT + 1) * SEGMENT;
        payload(1, usize::try_from(limit - position - frame_len(0)).unwrap())
    };
    let whole = sketch.frame(FIRST_FRAME, Kind::Full, b"whole", 0);
    sketch.frame(whole, Kind::First, &fills(whole), 0);
    sketch.frame(SEGMENT + FIRST_FRAME, Kind::Middle, &fills(SEGMENT + FIRST_FRAME), 0);
    let last = sketch.frame(2 * SEGMENT + FIRST_FRAME, Kind::Last, b"end", 0);
    let torn = sketch.frame(last, Kind::Full, &payload(2, 100), 0);
    let later = sketch.frame(torn, Kind::Full, b"later", 0);
    sketch.unland(last + frame_len(0) + 8, 8);
    let opened = open(&sketch.disk()).unwrap();
    let report = opened.log.recovery();
    assert_eq!((report.segments, report.frames, report.records), (3, 4, 2));
    assert_eq!((report.dropped_frames, report.dropped_bytes), (2, later - last));
    assert_eq!((report.recovered_to, report.proven_durable), (Lsn::new(last), Lsn::ZERO));
}

/// What is above the last position proven durable may be in the cache alone, in two segments here.
#[test]
fn it_counts_what_was_written_again() {
    let disk = SimDisk::new();
    let session = session(&disk, 3, &[(100, Sync), (200, Written), (2000, Written), (2000, Written)]);
    let opened = open(&session.crash.process_kill()).unwrap();
    let lsns: Vec<u64> = session.issued.iter().map(|issued| issued.token.lsn.get()).collect();
    assert!(lsns[0] < SEGMENT && lsns[3] > SEGMENT + FIRST_FRAME);
    let report = opened.log.recovery();
    assert_eq!((report.proven_durable, report.recovered_to), (Lsn::new(lsns[0]), Lsn::new(lsns[3])));
    assert_eq!(report.rewritten_bytes, lsns[3] - lsns[0] - SEGMENT_HEADER, "all frames, and no segment's header");
}

/// Its begin lies above the last record, where the incarnation before had prepared segments to.
#[test]
fn a_incarnation_that_left_no_record_does_not_move_what_was_recovered() {
    let disk = SimDisk::new();
    let first = closed_session(&disk, 1, &[(100, Sync)]);
    let second = session(&disk, 2, &[(100, Written)]);
    let disk = second.crash.power_loss(&Loss::Everything, Granularity::Sector);
    let last = first.issued[0].token.lsn;
    assert!(second.issued[0].token.lsn.get() > last.get() + SEGMENT / 2);
    for _ in 0..2 {
        let opened = open(&disk).unwrap();
        assert_eq!(opened.records.len(), 1);
        assert_eq!(opened.log.recovery().recovered_to, last);
        opened.log.close().unwrap();
    }
}

#[test]
fn a_segment_is_cut_to_the_end_of_the_log() {
    let (disk, session) = crashed_twelve();
    let end = session.issued.last().unwrap().token.lsn.get();
    let base = end / SEGMENT * SEGMENT;
    assert_eq!(disk.read_file(segment_path(base)).unwrap().len() as u64, SEGMENT);
    drop(open(&disk).unwrap());
    assert_eq!(disk.read_file(segment_path(base)).unwrap().len() as u64, end - base);
    assert!(disk.read_file(segment_path(base + SEGMENT)).is_err(), "it was only prepared");
}

/// A segment that was only prepared: HISTORY says durably that nothing in it is log.
#[test]
fn a_file_that_is_not_needed_is_gone_after_an_open_or_the_open_fails() {
    let (disk, session) = crashed_twelve();
    let end = session.issued.last().unwrap().token.lsn.get();
    let prepared = segment_path((end / SEGMENT + 1) * SEGMENT);
    let open_with = |fault| {
        let disk = copy(&disk);
        disk.inject(Fault::once(OpSelector::of(OpKind::Remove).on(".log"), fault));
        let error = open(&disk).err().map(|error| error.kind());
        assert_eq!(disk.fault_hits(), 1);
        (error, disk.read_file(&prepared).is_ok())
    };
    assert_eq!(open_with(FaultKind::Errno(5)), (Some(ErrorKind::Io), true));
    // Somebody else was faster.
    assert_eq!(open_with(FaultKind::Error(std::io::ErrorKind::NotFound)), (None, true));
}

#[test]
fn what_an_open_removed_does_not_come_back() {
    let disk = SimDisk::new();
    closed_session(&disk, 4, &[(100, Sync)]);
    let leftover = path("00000000001b7000.log.tmp");
    disk.write_file(&leftover, &[0; 4096]).unwrap();
    drop(open(&disk).unwrap());
    let disk = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    assert!(disk.read_file(&leftover).is_err());
}

/// An empty incarnation that ended, and behind it an open one with one record.
fn second_incarnation() -> Sketch {
    let mut sketch = Sketch::new();
    sketch.end(0, SEGMENT);
    let incarnation = Incarnation { number: 2, nonce: 0xDCBA };
    sketch.history.entries.push(Entry { incarnation, key: 0x8765_4321, begin: Lsn::new(SEGMENT), end: None });
    sketch.segments.clear();
    sketch.add_segment(SEGMENT);
    sketch.frame(SEGMENT + FIRST_FRAME, Kind::Full, b"second", 0);
    sketch
}

fn set_header(sketch: &mut Sketch, base: u64, header: SegmentHeader) {
    let (old, bytes) = sketch.segments.get_mut(&base).unwrap();
    *old = header;
    bytes[..512].copy_from_slice(&header.to_bytes());
}

#[test]
fn the_first_segment_of_a_incarnation_has_none_before_it() {
    let mut sketch = second_incarnation();
    assert_eq!(open(&sketch.disk()).unwrap().records.len(), 1);
    let header = sketch.segments[&SEGMENT].0;
    set_header(&mut sketch, SEGMENT, SegmentHeader { previous: 0, ..header });
    assert_refused(&sketch.disk(), DamageCause::BadHeader, SEGMENT, "it names one");
}

#[test]
fn no_segment_of_a_incarnation_lies_below_its_begin() {
    let mut sketch = second_incarnation();
    let mut early = second_incarnation();
    early.history.entries[1].begin = Lsn::ZERO;
    early.add_segment(0);
    sketch.segments.insert(0, early.segments[&0].clone());
    assert_refused(&sketch.disk(), DamageCause::MissingSegment, SEGMENT, "one is there");
}
