//! The mark: what it proves, that it never proves too much, and that nobody pays for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::media::SECTOR;
use super::support::*;
use crate::base::error::DamageCause;
use crate::base::types::CommitMode::{self, Async, Sync, Written};
use crate::base::types::Lsn;
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, Phase, SimDisk};
use crate::format::fill::Fill;
use crate::format::frame::Kind;
use crate::format::mark::Mark;
use crate::format::segment::SegmentHeader;
use crate::log::mark::{MarkFound, REST};
use crate::rt::schedule;

/// Longer than it takes a log at rest to write its mark.
const LONG_REST: Duration = Duration::from_secs(3);

/// Appends records of these lengths, with a rest after each that is marked so; like [`session`] otherwise.
fn rested_session(disk: &SimDisk, seed: u64, steps: &[(usize, CommitMode, bool)]) -> Session {
    schedule::run(seed, || {
        let opened = open(disk).expect("the log opens");
        let mut issued = Vec::new();
        for (number, (length, mode, rest)) in steps.iter().enumerate() {
            let payload = payload(number, *length);
            let receipt = opened.log.append(&payload, *mode).expect("the append succeeds");
            issued.push(Issued { token: receipt.token(), payload });
            schedule::sleep(if *rest { LONG_REST } else { Duration::from_millis(1) });
        }
        let session = Session { crash: disk.crash_point(), issued, durable: opened.log.durable_lsn() };
        drop(opened);
        session
    })
}

/// Counts the operations on MARK, in flight ones once.
fn count_mark_operations(disk: &SimDisk) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    disk.on_op(move |_, op| {
        if op.path.ends_with("MARK") && op.phase == Phase::Before {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

#[test]
fn commits_write_no_mark_and_a_log_at_rest_writes_one() {
    let disk = SimDisk::new();
    schedule::run(70, || {
        let opened = open(&disk).unwrap();
        opened.log.append(b"begins the incarnation", Sync).unwrap();
        let operations = count_mark_operations(&disk);
        for number in 0..600 {
            opened.log.append(b"one more", [Sync, Written, Async][number % 3]).unwrap();
            // For six seconds, without a rest of one.
            schedule::sleep(Duration::from_millis(10));
        }
        assert_eq!((operations.load(Ordering::Relaxed), opened.log.stats().marks), (0, 0), "commits");
        for rest in 1..=3 {
            opened.log.append(b"the last one", Sync).unwrap();
            schedule::sleep(LONG_REST);
            // A write and a sync.
            assert_eq!((operations.load(Ordering::Relaxed), opened.log.stats().marks), (2 * rest, rest), "at rest");
            schedule::sleep(Duration::from_secs(1000));
            assert_eq!(operations.load(Ordering::Relaxed), 2 * rest, "and then nothing");
        }
        opened.log.close().unwrap();
        assert_eq!(operations.load(Ordering::Relaxed), 6, "the end in HISTORY says more");
    });
}

/// Three records, each synced, and a rest: the mark proves all of them.
fn marked() -> (SimDisk, Session) {
    let steps = [(600, Sync, false), (600, Sync, false), (1200, Sync, true)];
    let session = rested_session(&SimDisk::new(), 71, &steps);
    assert_eq!(session.durable_records(), 3);
    (session.crash.power_loss(&Loss::Everything, Granularity::Sector), session)
}

/// Each sector of the log replaced by the fill, in a copy of `disk`.
fn reverted(disk: &SimDisk, end: u64) -> impl Iterator<Item = (u64, SimDisk)> {
    let bytes = disk.read_file(segment_path(0)).unwrap();
    let fill = Fill::new(SegmentHeader::decode(bytes[..512].try_into().unwrap()).unwrap().identity);
    (SECTOR..end).step_by(512).map(move |at| {
        let mut sector = [0; 512];
        fill.write(&mut sector, at);
        let reverted = copy(disk);
        reverted.overwrite(segment_path(0), at, &sector).unwrap();
        (at, reverted)
    })
}

#[test]
fn r1_a_sector_that_reverts_after_a_rest_is_refused_unless_the_mark_goes_too() {
    let (disk, session) = marked();
    let end = session.durable.get();
    assert_eq!(open(&copy(&disk)).unwrap().log.recovery().mark, MarkFound::Proves(session.durable));
    assert_eq!(open(&copy(&disk)).unwrap().log.recovery().proven_durable, session.durable);
    let (mut refused, mut unseen) = (0, 0);
    for (at, reverted) in reverted(&disk, end) {
        let error = assert_damaged(&reverted, &format!("{at} reverted"));
        assert_eq!(error.damage().unwrap().file, segment_path(0));
        refused += 1;
        reverted.delete(path("MARK")).unwrap();
        unseen += u32::from(open(&reverted).is_ok());
    }
    println!("sectors that revert after a rest: {refused} refused; with the mark gone as well: {unseen} unseen");
    assert!(refused >= 5 && unseen >= 2);
}

#[test]
fn r2_all_evidence_the_mark_included_goes_at_once() {
    let (disk, session) = marked();
    for (_, reverted) in reverted(&disk, session.durable.get()).skip(3) {
        // An earlier mark, of the same incarnation: what it proves is there.
        let mark = own_mark(&disk, session.issued[1].token.lsn);
        reverted.write_file(path("MARK"), &[mark.to_bytes(), [0; 512]].concat()).unwrap();
        assert_holds(&reverted, &session.records()[..2].to_vec(), "an earlier mark");
    }
}

/// A mark of the incarnation that wrote the one on `disk`.
fn own_mark(disk: &SimDisk, durable: Lsn) -> Mark {
    let bytes = disk.read_file(path("MARK")).unwrap();
    let (slots, _) = bytes.as_chunks::<512>();
    let newest = slots.iter().filter_map(|slot| Mark::decode(slot).ok()).max_by_key(|mark| mark.count);
    Mark { durable, ..newest.unwrap() }
}

#[test]
fn a_mark_that_is_gone_or_damaged_is_harmless_and_told() {
    let (disk, session) = marked();
    let bytes = disk.read_file(path("MARK")).unwrap();
    let found = |disk: &SimDisk, what: &str| {
        let opened = open(&copy(disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&opened.records, &session.records(), what);
        let found = opened.log.recovery().mark;
        assert_holds(&copy(disk), &session.records(), what);
        found
    };
    for length in (0..bytes.len()).step_by(64) {
        let disk = copy(&disk);
        disk.truncate(path("MARK"), length as u64).unwrap();
        let expected = if length < 1024 { MarkFound::Empty } else { MarkFound::Proves(session.durable) };
        assert_eq!(found(&disk, "cut"), expected, "cut to {length}");
    }
    let damaged = copy(&disk);
    damaged.write_file(path("MARK"), &payload(3, 1024)).unwrap();
    assert_eq!(found(&damaged, "garbage"), MarkFound::Invalid);
    damaged.delete(path("MARK")).unwrap();
    assert_eq!(found(&damaged, "deleted"), MarkFound::Absent);
    damaged.write_file(path("MARK"), &[bytes.clone(), payload(4, 5000)].concat()).unwrap();
    assert_eq!(found(&damaged, "longer"), MarkFound::Proves(session.durable));
    // The next incarnation makes it new.
    damaged.delete(path("MARK")).unwrap();
    let next = rested_session(&damaged, 72, &[(10, Sync, true)]);
    assert_eq!(
        open(&next.crash.power_loss(&Loss::Everything, Granularity::Word)).unwrap().log.recovery().mark,
        MarkFound::Proves(next.durable)
    );
}

#[test]
fn a_mark_binds_only_the_incarnation_that_it_names() {
    // A frame, and one above it that did not land whole.
    let mut sketch = Sketch::new();
    let first = sketch.frame(FIRST_FRAME, Kind::Full, b"there", 0);
    let torn = sketch.frame(first, Kind::Full, b"torn off", 0);
    sketch.unland(torn - 8, 8);
    let kept = vec![(Lsn::new(first), b"there".to_vec())];
    let entry = sketch.history.entries[0];
    let own = Mark { log_id: sketch.history.log_id, incarnation: entry.incarnation, count: 1, durable: Lsn::new(torn) };
    let with = |sketch: &Sketch, marks: [Option<Mark>; 2]| {
        let disk = sketch.disk();
        let slots = marks.map(|mark| mark.map_or([0; 512], Mark::to_bytes));
        disk.write_file(path("MARK"), &slots.concat()).unwrap();
        disk
    };
    for slots in [[Some(own), None], [None, Some(own)], [Some(own), Some(Mark { durable: Lsn::new(first), ..own })]] {
        assert_refused(&with(&sketch, slots), DamageCause::Unlanded, first, "its own");
    }
    assert_holds(&with(&sketch, [Some(Mark { durable: Lsn::new(first), ..own }), None]), &kept, "at its end");
    let mut strangers = [own; 2];
    strangers[0].incarnation.nonce ^= 1;
    strangers[1].log_id.0[0] ^= 1;
    for stranger in strangers {
        assert_holds(&with(&sketch, [Some(stranger), None]), &kept, "a stranger's");
        assert_eq!(open(&with(&sketch, [Some(stranger), None])).unwrap().log.recovery().mark, MarkFound::Foreign);
    }
    // A mark comes after the HISTORY that lists its incarnation, and no end is below it.
    let mut later = own;
    later.incarnation.number += 1;
    assert_refused(&with(&sketch, [Some(later), None]), DamageCause::BadHistory, torn, "of a incarnation to come");
    sketch.end(first, SEGMENT);
    assert_refused(&with(&sketch, [None, Some(own)]), DamageCause::BadHistory, torn, "above the end");
    // That of a former incarnation says nothing about the one that is open.
    let mut next = entry;
    (next.begin, next.incarnation.number) = (Lsn::new(SEGMENT), 2);
    sketch.history.entries.push(next);
    sketch.add_segment(SEGMENT);
    assert_holds(&with(&sketch, [Some(own), None]), &kept, "a former one's");
}

#[test]
fn a_mark_claims_what_is_durable_and_not_what_is_only_visible() {
    for pending in [Async, Written] {
        let session = rested_session(&SimDisk::new(), 73, &[(40, Sync, false), (700, pending, true)]);
        assert_eq!(session.durable_records(), 1);
        let disk = session.crash.power_loss(&Loss::Everything, Granularity::Sector);
        assert_eq!(open(&copy(&disk)).unwrap().log.recovery().mark, MarkFound::Proves(session.durable));
        assert_holds(&disk, &session.records()[..1].to_vec(), "what was pending is lost, legally");
    }
}

#[test]
fn a_failed_mark_stops_the_marks_and_nothing_else() {
    let sync_fails = FaultKind::SyncFails { pages: Pages::RevertOld };
    for (kind, fault) in [
        (OpKind::Write, FaultKind::Errno(5)),
        (OpKind::Write, FaultKind::FailedWrite(8)),
        (OpKind::Sync, sync_fails),
        (OpKind::Create, FaultKind::Errno(28)),
        (OpKind::Remove, FaultKind::Errno(13)),
    ] {
        let disk = SimDisk::new();
        let what = format!("{kind:?} {fault:?}");
        closed_session(&disk, 74, &[(1, Sync)]);
        let failure = Fault::once(OpSelector::of(kind).on("MARK"), fault);
        let kept = schedule::run(75, || {
            let opened = open(&disk).unwrap();
            disk.inject(failure);
            for rest in 0..3 {
                opened.log.append(b"before", Sync).unwrap();
                schedule::sleep(LONG_REST);
                assert_eq!(opened.log.stats().mark_failures, 1, "{what}, rest {rest}");
                assert_eq!(opened.log.stats().marks, 0, "{what}, rest {rest}");
            }
            assert!(opened.log.poisoned().is_none(), "{what}");
            let crash = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
            assert_eq!(open(&crash).unwrap().records.len(), 4, "{what}");
            opened.log.close().unwrap();
            open(&disk).unwrap().records.len()
        });
        assert_eq!((kept, disk.fault_hits()), (4, 1), "{what}");
    }
}

#[test]
fn after_a_failure_of_the_log_no_mark_is_written() {
    let disk = SimDisk::new();
    schedule::run(76, || {
        let opened = open(&disk).unwrap();
        opened.log.append(b"durable", Sync).unwrap();
        // The next segment is prepared by then: the fault is for the commit.
        schedule::sleep(Duration::from_millis(1));
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Errno(5)));
        assert!(opened.log.append(b"in doubt", Sync).is_err());
        let operations = count_mark_operations(&disk);
        schedule::sleep(LONG_REST);
        assert_eq!((operations.load(Ordering::Relaxed), opened.log.stats().marks), (0, 0));
    });
}

#[test]
fn every_moment_of_two_lives_with_rests() {
    let disk = SimDisk::new();
    let steps = [(0, Sync, true), (1200, Written, true), (700, Async, false), (1500, Sync, true), (10, Written, true)];
    let mut records = Records::new();
    let points = crash_points(&disk, || {
        for entry in 0..2 {
            records.extend(rested_session(&disk, 77 + entry, &steps).records());
        }
    });
    let mut states = HashSet::new();
    for (index, point) in points.iter().enumerate() {
        let mut least = 0;
        for loss in [Loss::Everything, Loss::Nothing].into_iter().chain((0..20).map(Loss::Seeded)) {
            for granularity in [Granularity::Sector, Granularity::Word] {
                let disk = point.power_loss(&loss, granularity);
                if !states.insert(disk.image_hash()) {
                    continue;
                }
                let what = format!("moment {index} of {}, {loss:?}, {granularity:?}", points.len());
                let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: a legal state is refused: {error}"));
                assert!(opened.records.len() >= least, "{what}: less than with everything lost");
                if loss == Loss::Everything {
                    least = opened.records.len();
                }
                assert_same(&opened.records, &records[..opened.records.len()].to_vec(), &what);
            }
        }
    }
    println!(
        "power loss at each of {} moments of two incarnations with rests: {} states opened",
        points.len(),
        states.len()
    );
    assert!(REST < LONG_REST);
}
