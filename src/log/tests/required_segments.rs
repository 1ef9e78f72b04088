//! Which files must be there, and how long (specification, section 3): everything missing, short, swapped or stale is
//! refused, and everything that a crash may leave over is not.

use super::support::*;
use crate::base::error::{DamageCause, ErrorKind};
use crate::base::types::{CommitMode, Incarnation, Lsn, Outcome};
use crate::disk::sim::{Granularity, Loss, SimDisk};
use crate::format::features::TABLES;
use crate::format::frame::Kind;
use crate::format::history::{End, Entry, History};
use crate::format::segment::SegmentHeader;
use crate::log::no_tables;
use crate::log::open::decide::CheckOnly;
use crate::log::open::verify;

fn segments_on(disk: &SimDisk) -> Vec<u64> {
    let names = disk.files().into_iter().filter_map(|(path, _)| path.file_name()?.to_str().map(str::to_owned));
    names.filter_map(|name| crate::format::segment::base_of(&name)).collect()
}

/// Two incarnations: one closed, with two segments, and one that a crash left open, with records in two.
fn two_lives() -> (SimDisk, Records) {
    use CommitMode::Sync;
    let disk = SimDisk::new();
    let first = closed_session(&disk, 1, &[(2000, Sync), (2500, Sync), (300, Sync)]);
    let second = session(&disk, 2, &[(1500, Sync), (2500, Sync), (100, Sync)]);
    let records = [first.records(), second.records()].concat();
    (second.crash.power_loss(&Loss::Everything, Granularity::Sector), records)
}

#[test]
fn a_missing_segment_is_damage_wherever_it_is() {
    let (disk, session) = crashed_twelve();
    let bases = segments_on(&disk);
    assert_eq!(bases, [0, 4096, 8192, 12288], "the last one was prepared ahead");
    assert_holds(&copy(&disk), &session.records(), "whole");
    for base in [0, 4096, 8192] {
        let disk = copy(&disk);
        disk.delete(segment_path(base)).unwrap();
        assert_refused(&disk, DamageCause::MissingSegment, base, "one");
        assert!(verify(&disk, DIR.as_ref(), &mut no_tables, &mut CheckOnly).is_err());
    }
    for gone in [&[8192, 12288][..], &[4096, 8192, 12288], &[0, 4096], &[0, 4096, 8192, 12288]] {
        let disk = copy(&disk);
        gone.iter().for_each(|base| disk.delete(segment_path(*base)).unwrap());
        assert_refused(&disk, DamageCause::MissingSegment, gone[0], "several");
    }
    // What lies above was only prepared: no LSN past the midpoint of the third was handed out (residue R5).
    let end = session.issued.last().unwrap().token.lsn.get();
    assert!(end <= 8192 + 2048);
    disk.delete(segment_path(12288)).unwrap();
    assert_holds(&disk, &session.records(), "without the prepared one");
}

#[test]
fn a_header_past_the_midpoint_demands_the_next_segment() {
    let mut sketch = Sketch::new();
    let first = sketch.frame(FIRST_FRAME, Kind::Full, b"below", 0);
    let length = usize::try_from(2048 - first - 32).unwrap();
    let expected = vec![(Lsn::new(first), b"below".to_vec()), (Lsn::new(2048), payload(1, length))];
    let at_midpoint = sketch.frame(first, Kind::Full, &payload(1, length), 0);
    assert_eq!(at_midpoint, 2048);
    assert_holds(&sketch.disk(), &expected, "at the midpoint");
    // One word more, as the last valid frame of the walk.
    let mut past = sketch.clone();
    past.frame(2048, Kind::Full, b"", 0);
    assert_refused(&past.disk(), DamageCause::MissingSegment, 4096, "walked");
    // The same, seen by the search only, behind a torn frame.
    let mut searched = past.clone();
    searched.unland(first, 8);
    assert_refused(&searched.disk(), DamageCause::MissingSegment, 4096, "searched");
    for sketch in [&mut past, &mut searched] {
        sketch.add_segment(4096);
        assert!(open(&sketch.disk()).is_ok(), "with the next segment it opens");
    }
    // A segment that is full to its end has a successor, too.
    let mut full = Sketch::new();
    full.frame(FIRST_FRAME, Kind::Full, &payload(1, usize::try_from(4096 - FIRST_FRAME - 32).unwrap()), 0);
    assert_refused(&full.disk(), DamageCause::MissingSegment, 4096, "full");
}

#[test]
fn a_segment_of_another_length_is_damage() {
    let (disk, session) = crashed_twelve();
    for base in [0, 4096, 8192, 12288] {
        let bytes = disk.read_file(segment_path(base)).unwrap();
        for length in [0, 8, 511, 512, 520, 2048, 4088, 4095] {
            let disk = copy(&disk);
            disk.truncate(segment_path(base), length).unwrap();
            let error = assert_damaged(&disk, &format!("{base} cut to {length}"));
            assert_eq!(error.damage().unwrap().cause, DamageCause::WrongLength);
        }
        for added in [1, 8, 512, 4096] {
            let disk = copy(&disk);
            disk.write_file(segment_path(base), &[bytes.clone(), vec![0; added]].concat()).unwrap();
            let error = assert_damaged(&disk, &format!("{base} longer by {added}"));
            assert_eq!(error.damage().unwrap().cause, DamageCause::WrongLength);
        }
    }
    assert_holds(&disk, &session.records(), "whole");
}

#[test]
fn a_wrong_header_is_damage() {
    let (disk, _) = two_lives();
    let bases = segments_on(&disk);
    assert!(bases.len() >= 4, "{bases:?}");
    let all: Vec<Vec<u8>> = bases.iter().map(|base| disk.read_file(segment_path(*base)).unwrap()).collect();
    for (index, base) in bases.iter().enumerate() {
        // Swapped, and a copy of each other segment under this name.
        for (other, bytes) in all.iter().enumerate().filter(|(other, _)| *other != index) {
            let copied = copy(&disk);
            copied.write_file(segment_path(*base), bytes).unwrap();
            assert_damaged(&copied, "a copy");
            copied.write_file(segment_path(bases[other]), &all[index]).unwrap();
            let error = assert_damaged(&copied, "swapped");
            assert_eq!(error.damage().unwrap().cause, DamageCause::BadHeader);
        }
        let zeroed = copy(&disk);
        zeroed.overwrite(segment_path(*base), 0, &[0; 512]).unwrap();
        assert_refused(&zeroed, DamageCause::BadHeader, *base, "zeroed");
        // A copy under a name where nothing is.
        let extra = copy(&disk);
        extra.write_file(segment_path(1 << 20), &all[index]).unwrap();
        assert_refused(&extra, DamageCause::BadHeader, 1 << 20, "a copy under a new name");
    }
    // The same log's segment, but of another writer that began the same incarnation on a copy of the directory.
    for change in 0..3 {
        let mut sketch = Sketch::new();
        let own = sketch.history.clone();
        match change {
            0 => sketch.history.entries[0].key ^= 1,
            1 => sketch.history.entries[0].incarnation.nonce ^= 1,
            _ => sketch.history.log_id.0[0] ^= 1,
        }
        sketch.add_segment(0);
        sketch.history = own;
        assert_refused(&sketch.disk(), DamageCause::BadHeader, 0, "another writer's");
    }
}

#[test]
fn a_missing_history_is_damage_and_an_empty_directory_is_none() {
    let (disk, session) = crashed_twelve();
    let history = disk.read_file(path("HISTORY")).unwrap();
    disk.delete(path("HISTORY")).unwrap();
    assert_refused(&disk, DamageCause::BadHistory, 0, "missing");
    // A temporary one is never read.
    disk.write_file(path("HISTORY.tmp"), &history).unwrap();
    assert_refused(&disk, DamageCause::BadHistory, 0, "temporary only");
    for length in 0..history.len() {
        disk.write_file(path("HISTORY"), &history[..length]).unwrap();
        assert_refused(&disk, DamageCause::BadHistory, 0, "cut");
    }
    disk.write_file(path("HISTORY"), &history).unwrap();
    assert_holds(&disk, &session.records(), "back again");
    let empty = SimDisk::new();
    empty.write_file(path("HISTORY.tmp"), &history[..20]).unwrap();
    assert_holds(&empty, &Records::new(), "a creation that was cut off");
    let stranger = SimDisk::new();
    stranger.write_file(path("precious.txt"), b"data").unwrap();
    let before = files(&stranger);
    assert_eq!(open(&stranger).err().unwrap().kind(), ErrorKind::NotADatabase);
    assert_eq!(files(&stranger), before);
}

#[test]
fn a_stale_history_is_damage() {
    use CommitMode::Sync;
    let disk = SimDisk::new();
    let mut versions = Vec::new();
    let mut records = Records::new();
    for entry in 0..4 {
        let session = session(&disk, entry, &[(700, Sync), (1500, Sync), (900, Sync)]);
        versions
            .push(session.crash.power_loss(&Loss::Everything, Granularity::Sector).read_file(path("HISTORY")).unwrap());
        versions.push(disk.read_file(path("HISTORY")).unwrap());
        records.extend(session.records());
    }
    let newest = versions.pop().unwrap();
    assert_eq!(disk.read_file(path("HISTORY")).unwrap(), newest);
    for (index, stale) in versions.iter().enumerate() {
        let disk = copy(&disk);
        disk.write_file(path("HISTORY"), stale).unwrap();
        assert_damaged(&disk, &format!("version {index}"));
    }
    assert_holds(&disk, &records, "newest");
}

#[test]
fn temporary_files_are_never_read() {
    for (disk, records) in [two_lives(), {
        let (disk, session) = crashed_twelve();
        (disk, session.records())
    }] {
        disk.write_file(path("HISTORY.tmp"), b"half of a history").unwrap();
        disk.write_file(path("0000000000100000.log.tmp"), b"half of a segment").unwrap();
        disk.write_file(path("0000000000000000.log.tmp"), &disk.read_file(segment_path(0)).unwrap()[..100]).unwrap();
        disk.write_file(path("notes.txt"), b"not ours").unwrap();
        assert_holds(&disk, &records, "with temporary files");
        let left: Vec<_> =
            disk.files().into_iter().filter(|(path, _)| path.extension() == Some("tmp".as_ref())).collect();
        assert!(left.is_empty(), "removed when convenient: {left:?}");
        assert_eq!(disk.read_file(path("notes.txt")).unwrap(), b"not ours");
    }
}

/// A segment that was prepared for an incarnation that HISTORY does not list.
fn orphan(closed: &SimDisk, used: bool) -> SimDisk {
    let history = History::decode(&closed.read_file(path("HISTORY")).unwrap()).unwrap();
    let begin = history.next_begin();
    let mut sketch = Sketch::new();
    sketch.segments.clear();
    let incarnation = Incarnation { number: history.next_number(), nonce: 99 };
    sketch.history = history;
    sketch.history.entries.push(Entry { incarnation, key: 98, begin, end: None });
    sketch.add_segment(begin.get());
    if used {
        sketch.frame(begin.get() + FIRST_FRAME + 8 * 200, Kind::Full, b"somewhere", begin.get());
    }
    let disk = copy(closed);
    disk.write_file(segment_path(begin.get()), &sketch.segments[&begin.get()].1).unwrap();
    disk
}

#[test]
fn an_empty_segment_of_a_incarnation_that_never_began_is_removed_and_a_used_one_is_damage() {
    let disk = SimDisk::new();
    let first = closed_session(&disk, 3, &[(2000, CommitMode::Sync), (2500, CommitMode::Sync)]);
    let used = orphan(&disk, true);
    let bases = segments_on(&used);
    assert_refused(&used, DamageCause::BadHistory, *bases.last().unwrap(), "used");
    let empty = orphan(&disk, false);
    assert_holds(&empty, &first.records(), "empty");
    assert_eq!(segments_on(&empty), bases[..bases.len() - 1]);
    // The next incarnation gets the same place, and none of the orphan's bytes.
    let second = closed_session(&orphan(&disk, false), 4, &[(100, CommitMode::Sync)]);
    assert!(second.issued[0].token.lsn.get() > *bases.last().unwrap());
    let mut short = orphan(&disk, false).read_file(segment_path(*bases.last().unwrap())).unwrap();
    short.truncate(2000);
    empty.write_file(segment_path(*bases.last().unwrap()), &short).unwrap();
    assert_damaged(&empty, "a short one");
}

/// A power loss may take a HISTORY that has the bit and lists the incarnation, and leave the segment (F2 of `DECISIONS.md`).
#[test]
fn a_bit_that_history_has_not_is_damage_in_the_segment_of_an_incarnation_that_it_lists_and_only_there() {
    let set_bit = |disk: &SimDisk, base: u64| {
        let mut bytes = disk.read_file(segment_path(base)).unwrap();
        let header = SegmentHeader::decode(bytes[..512].try_into().unwrap()).unwrap();
        bytes[..512].copy_from_slice(&SegmentHeader { features: TABLES, ..header }.to_bytes());
        disk.write_file(segment_path(base), &bytes).unwrap();
    };
    let (disk, _) = two_lives();
    for base in segments_on(&disk) {
        let disk = copy(&disk);
        set_bit(&disk, base);
        assert_refused(&disk, DamageCause::BadHistory, base, "listed");
    }
    let disk = SimDisk::new();
    let session = closed_session(&disk, 3, &[(2000, CommitMode::Sync), (2500, CommitMode::Sync)]);
    for used in [false, true] {
        let disk = orphan(&disk, used);
        let base = *segments_on(&disk).last().unwrap();
        set_bit(&disk, base);
        if used {
            assert_refused(&disk, DamageCause::BadHistory, base, "used");
        } else {
            assert_holds(&disk, &session.records(), "not listed");
            assert!(!segments_on(&disk).contains(&base));
        }
    }
}

#[test]
fn an_ended_incarnation_that_is_longer_than_its_end_is_cut_after_the_verdict() {
    let mut sketch = Sketch::new();
    let end = sketch.frame(FIRST_FRAME, Kind::Full, b"kept", 0);
    let kept = vec![(Lsn::new(end), b"kept".to_vec())];
    sketch.frame(end, Kind::Full, b"dropped", 0);
    sketch.add_segment(4096);
    sketch.frame(4096 + FIRST_FRAME, Kind::Full, b"dropped too", 0);
    sketch.end(end, 8192);
    let disk = sketch.disk();
    assert_holds(&disk, &kept, "longer");
    assert_eq!(segments_on(&disk), [0]);
    assert_eq!(disk.read_file(segment_path(0)).unwrap().len() as u64, end);
    let next = closed_session(&disk, 5, &[(10, CommitMode::Sync)]);
    assert!(next.issued[0].token.lsn.get() > 8192, "nothing that was handed out is handed out again");
    assert_holds(&disk, &[kept.clone(), next.records()].concat(), "and goes on");
    // Cut too far, or not there.
    let mut disk = sketch.disk();
    disk.truncate(segment_path(0), end - 8).unwrap();
    assert_refused(&disk, DamageCause::WrongLength, end - 8, "one word short");
    disk = sketch.disk();
    disk.delete(segment_path(0)).unwrap();
    assert_refused(&disk, DamageCause::MissingSegment, 0, "not there");
    // In what has ended there is no torn tail, and no frame across the end.
    let mut torn = sketch.clone();
    torn.unland(FIRST_FRAME, 8);
    assert_refused(&torn.disk(), DamageCause::Unlanded, FIRST_FRAME, "torn");
    let mut across = sketch.clone();
    across.end(end - 8, 8192);
    assert_refused(&across.disk(), DamageCause::Impossible, FIRST_FRAME, "across the end");
    let mut unfinished = Sketch::new();
    let room = usize::try_from(4096 - FIRST_FRAME - 32).unwrap();
    unfinished.frame(FIRST_FRAME, Kind::First, &payload(0, room), 0);
    unfinished.end(4096, 4096);
    assert_refused(&unfinished.disk(), DamageCause::Impossible, 4096, "a record unfinished at the end");
}

#[test]
fn retired_segments_may_be_there_or_not() {
    use CommitMode::Sync;
    let disk = SimDisk::new();
    closed_session(&disk, 6, &[(2000, Sync), (2500, Sync), (3000, Sync)]);
    let second = session(&disk, 7, &[(1000, Sync), (3000, Sync), (1000, Sync)]);
    let whole = second.crash.power_loss(&Loss::Everything, Granularity::Sector);
    let bases = segments_on(&whole);
    let mut history = History::decode(&whole.read_file(path("HISTORY")).unwrap()).unwrap();
    history.oldest = second.issued[1].token.lsn;
    whole.write_file(path("HISTORY"), &history.to_bytes()).unwrap();
    // The second record ends in the second segment of its incarnation: that one must be there, those before it need not.
    let needed = history.oldest.get() / SEGMENT * SEGMENT;
    let retired: Vec<u64> = bases.iter().copied().filter(|base| *base < needed).collect();
    assert_eq!(retired.len(), bases.iter().filter(|base| **base < needed).count());
    assert!(retired.len() >= 3, "{bases:?}");
    let expected = vec![second.records()[2].clone()];
    for subset in 0..1_u32 << retired.len() {
        let disk = copy(&whole);
        for (index, base) in retired.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1) {
            assert!(index < 32);
            disk.delete(segment_path(*base)).unwrap();
        }
        assert_holds(&disk, &expected, &format!("retired and gone: {subset:b}"));
        assert!(segments_on(&disk).iter().all(|base| *base >= needed), "the rest is removed");
        let opened = open(&disk).unwrap();
        second.issued.iter().for_each(|i| assert_eq!(opened.log.outcome(&i.token).unwrap(), Outcome::Durable));
    }
    whole.delete(segment_path(needed)).unwrap();
    let error =
        assert_refused(&whole, DamageCause::MissingSegment, history.oldest.get(), "the one that holds `oldest`");
    assert_eq!(error.damage().unwrap().file, segment_path(needed));
}

#[test]
fn a_incarnation_all_of_whose_records_are_retired_ends_where_they_ended() {
    // The record ends exactly where its segment does, is retired, and the next segment is still empty: nothing but
    // `oldest` is left to tell how far this incarnation came.
    let mut sketch = Sketch::new();
    let room = usize::try_from(4096 - FIRST_FRAME - 32).unwrap();
    let lsn = sketch.frame(FIRST_FRAME, Kind::Full, &payload(0, room), 0);
    assert_eq!(lsn, 4096);
    sketch.add_segment(4096);
    sketch.history.oldest = Lsn::new(lsn);
    sketch.segments.remove(&0);
    let disk = sketch.disk();
    assert_holds(&disk, &Records::new(), "all retired");
    let history = History::decode(&disk.read_file(path("HISTORY")).unwrap()).unwrap();
    let end = End { lsn: Lsn::new(4096), prepared: Lsn::new(8192), clean: false };
    assert_eq!(history.entries[0].end, Some(end));
}

#[test]
fn the_rest_of_a_record_that_begins_in_a_retired_segment_is_skipped_only_if_it_was_retired_too() {
    let mut sketch = Sketch::new();
    let room = usize::try_from(SEGMENT - FIRST_FRAME - 32).unwrap();
    sketch.frame(FIRST_FRAME, Kind::First, &payload(0, room), 0);
    sketch.add_segment(SEGMENT);
    sketch.frame(SEGMENT + FIRST_FRAME, Kind::Middle, &payload(1, room), 0);
    sketch.add_segment(2 * SEGMENT);
    let end = sketch.frame(2 * SEGMENT + FIRST_FRAME, Kind::Last, b"rest", 0);
    let next = sketch.frame(end, Kind::Full, b"next", end);
    let expected = vec![(Lsn::new(next), b"next".to_vec())];
    // `oldest` inside the record: the part of it that is left would go without a word.
    for (oldest, stands) in [(SEGMENT + 1024, SEGMENT), (2 * SEGMENT + 520, 2 * SEGMENT)] {
        sketch.history.oldest = Lsn::new(oldest);
        assert_refused(&sketch.disk(), DamageCause::Impossible, stands + FIRST_FRAME, "inside the record");
    }
    sketch.history.oldest = Lsn::new(end);
    assert_holds(&sketch.disk(), &expected, "at its end");
    sketch.segments.remove(&0);
    assert_holds(&sketch.disk(), &expected, "at its end, and its begin removed");
    sketch.segments.remove(&SEGMENT);
    assert_holds(&sketch.disk(), &expected, "at its end, and removed");
}
