//! What the walk reads of a log, a state of its bytes a line: the format, by example.

use std::sync::Arc;

use super::support::*;
use crate::disk::DirHandle;
use crate::format::WORD;
use crate::format::frame::{FRAME_HEADER, Kind, MIN_ROOM};
use crate::log::log_dir::LogDir;
use crate::log::read::reader::SegmentInfo;
use crate::log::read::walk::{Frames, Piece, Records};

/// The frames of every segment, opened.
fn opened(sketch: &Sketch) -> Vec<Frames> {
    let place = LogDir::new(Arc::new(DirHandle::open(&sketch.disk(), DIR.as_ref()).unwrap()));
    let info =
        |base: &u64, header| SegmentInfo { header, path: segment_path(*base), length: SEGMENT, end: base + SEGMENT };
    let infos = sketch.segments.iter().map(|(base, (header, _))| info(base, *header));
    infos.map(|info| Frames::open(&place, &info).unwrap()).collect()
}

/// What is read by a reader that goes on behind damage: the payload of each record, and what stands where no whole
/// frame does. `Unwritten` is where the log ends.
fn read_with(mut records: Records, sketch: &Sketch) -> String {
    let mut told = Vec::new();
    for mut frames in opened(sketch) {
        let end = frames.info().end;
        while let Some(frame) = frames.next(end) {
            let Some(header) = frame.whole() else {
                told.push(format!("{:?}", frame.state));
                let next = frames.next_whole(frame.start + WORD);
                frames.seek(next.map_or(end, |(start, _)| start));
                continue;
            };
            if records.skip(header.kind) {
                told.push("(retired)".to_owned());
                continue;
            }
            match records.add(frame.start, header.kind, frames.payload(header).unwrap()) {
                Piece::GoesOn => {}
                Piece::Headless => told.push("Headless".to_owned()),
                Piece::Record { payload, .. } => told.push(String::from_utf8_lossy(&payload).trim().to_owned()),
            }
        }
    }
    told.join(" ")
}

fn read(sketch: &Sketch) -> String {
    read_with(Records::default(), sketch)
}

/// A log of these records of one frame each, and where each of them begins, the next one's place included.
fn log_of(payloads: &[&str]) -> (Sketch, Vec<u64>) {
    let mut sketch = Sketch::new();
    let mut starts = vec![FIRST_FRAME];
    for payload in payloads {
        starts.push(sketch.frame(starts[starts.len() - 1], Kind::Full, payload.as_bytes(), 0));
    }
    (sketch, starts)
}

/// A log whose first segment is full up to its last `room` bytes, and whose second is empty.
fn with_room(room: u64) -> (Sketch, u64) {
    let mut sketch = Sketch::new();
    sketch.add_segment(SEGMENT);
    let spaces = vec![b' '; usize::try_from(SEGMENT - room - FIRST_FRAME - FRAME_HEADER).unwrap()];
    let end = sketch.frame(FIRST_FRAME, Kind::Full, &spaces, 0);
    assert_eq!(end, SEGMENT - room);
    (sketch, end)
}

#[test]
fn whole_frames_are_records() {
    assert_eq!(read(&log_of(&[]).0), "Unwritten");
    assert_eq!(read(&log_of(&["foo"]).0), "foo Unwritten");
    assert_eq!(read(&log_of(&["foo", "bar", "bazooka's"]).0), "foo bar bazooka's Unwritten");
    let (sketch, starts) = log_of(&["12345678", "123456789"]);
    assert_eq!(starts, [512, 552, 600], "32 bytes of header, and the payload in words of 8: {}", read(&sketch));
}

#[test]
fn a_word_of_fill_says_that_it_did_not_land() {
    let (whole, starts) = log_of(&["foo", "twenty-four bytes long..", "baz"]);
    let without = |offset: u64, length| {
        let mut sketch = whole.clone();
        sketch.unland(starts[1] + offset, length);
        read(&sketch)
    };
    assert_eq!(without(0, 32), "foo Unwritten baz Unwritten");
    assert_eq!(without(8, 8), "foo HeaderTorn baz Unwritten");
    assert_eq!(without(32, 24), "foo PayloadTorn baz Unwritten");
    assert_eq!(without(48, 8), "foo PayloadTorn baz Unwritten");
    assert_eq!(without(0, 56), "foo Unwritten baz Unwritten");
}

#[test]
fn anything_else_is_rot() {
    let (whole, starts) = log_of(&["foo", "twenty-one bytes long", "baz"]);
    let flipped = |offset: u64| {
        let mut sketch = whole.clone();
        sketch.at(starts[1] + offset, 1)[0] ^= 1;
        read(&sketch)
    };
    assert_eq!(flipped(0), "foo HeaderRotten baz Unwritten");
    assert_eq!(flipped(31), "foo HeaderRotten baz Unwritten");
    assert_eq!(flipped(32), "foo PayloadRotten baz Unwritten");
    assert_eq!(flipped(55), "foo PayloadRotten baz Unwritten", "the padding is zeros");
    let mut sketch = whole;
    sketch.at(starts[1], 56).fill(0);
    assert_eq!(read(&sketch), "foo HeaderRotten baz Unwritten", "zeros are no fill");
}

#[test]
fn a_frame_stands_in_its_place_only() {
    let (mut sketch, starts) = log_of(&["foo", "bar", "baz"]);
    let foo = sketch.at(starts[0], 40).to_vec();
    sketch.at(starts[1], 40).copy_from_slice(&foo);
    assert_eq!(read(&sketch), "foo Impossible baz Unwritten");
}

#[test]
fn the_next_frame_begins_in_the_next_segment_if_this_one_has_no_room() {
    let (mut sketch, _) = with_room(0);
    sketch.frame(SEGMENT + FIRST_FRAME, Kind::Full, b"foo", 0);
    assert_eq!(read(&sketch).trim(), "foo Unwritten", "full to its last byte");
    let (mut sketch, end) = with_room(MIN_ROOM - WORD);
    sketch.frame(SEGMENT + FIRST_FRAME, Kind::Full, b"foo", 0);
    assert_eq!(read(&sketch).trim(), "foo Unwritten");
    sketch.frame(end, Kind::Full, b"bar", 0);
    assert_eq!(read(&sketch).trim(), "foo Unwritten", "no frame may stand there");
    let (mut sketch, end) = with_room(MIN_ROOM);
    sketch.frame(SEGMENT + FIRST_FRAME, Kind::Full, b"foo", 0);
    assert_eq!(read(&sketch).trim(), "Unwritten foo Unwritten", "the log ends there");
    sketch.frame(end, Kind::Full, b"bar", 0);
    assert_eq!(read(&sketch).trim(), "bar foo Unwritten");
}

#[test]
fn a_record_goes_on_in_the_next_segments() {
    let (mut sketch, end) = with_room(64);
    sketch.add_segment(2 * SEGMENT);
    sketch.frame(end, Kind::First, b"from one segment, over the next ", 0);
    let mut middle = vec![b' '; usize::try_from(SEGMENT - FIRST_FRAME - FRAME_HEADER).unwrap()];
    middle[..10].copy_from_slice(b"one to the");
    assert_eq!(sketch.frame(SEGMENT + FIRST_FRAME, Kind::Middle, &middle, 0), 2 * SEGMENT);
    let last = sketch.frame(2 * SEGMENT + FIRST_FRAME, Kind::Last, b"third", 0);
    sketch.frame(last, Kind::Full, b"foo", 0);
    let one_space = |told: String| told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(one_space(read(&sketch)), "from one segment, over the next one to the third foo Unwritten");
    let retired = one_space(read_with(Records::after_retired(), &sketch));
    assert_eq!(retired, "from one segment, over the next one to the third foo Unwritten", "none of it is");
    sketch.segments.remove(&0);
    assert_eq!(read(&sketch), "Headless Headless foo Unwritten");
    assert_eq!(read_with(Records::after_retired(), &sketch), "(retired) (retired) foo Unwritten");
}

#[test]
fn what_may_follow_depends_on_the_record_before() {
    use Kind::{First, Full, Last, Middle};
    let may_follow = |records: &Records| [Full, First, Middle, Last].map(|kind| records.may_follow(kind));
    let between = [true, true, false, false];
    let mut records = Records::default();
    assert_eq!(may_follow(&records), between);
    assert_eq!(records.add(8, First, b"a"), Piece::GoesOn);
    assert_eq!(may_follow(&records), [false, false, true, true]);
    assert_eq!(records.add(16, Middle, b"b"), Piece::GoesOn);
    assert_eq!(may_follow(&records), [false, false, true, true]);
    assert_eq!(records.add(24, Last, b"c"), Piece::Record { begin: 8, payload: b"abc".into() });
    assert_eq!(may_follow(&records), between);
    assert_eq!(may_follow(&Records::after_retired()), [true; 4]);
    for next in [Full, First, Last] {
        let mut records = Records::after_retired();
        assert!(records.skip(Middle));
        assert_eq!(records.skip(next), next == Last);
        assert!(may_follow(&records) == between && !records.skip(Last), "the retired record is over");
    }
}

#[test]
fn a_walk_ends_where_it_is_told_to() {
    let (sketch, starts) = log_of(&["foo", "bar"]);
    let mut frames = opened(&sketch).remove(0);
    assert!(frames.next(starts[0]).is_none());
    assert_eq!(frames.next(starts[1]).unwrap().start, starts[0]);
    assert!(frames.next(starts[1]).is_none());
    frames.seek(0);
    assert_eq!(frames.next(u64::MAX).unwrap().start, starts[0], "no frame begins below the first one's place");
}

#[cfg(feature = "unstable")]
#[test]
fn behind_damage_there_is_a_next_header_and_a_next_whole_frame() {
    let (mut sketch, starts) = log_of(&["foo", "bar", "baz"]);
    sketch.at(starts[0], 1)[0] ^= 1;
    sketch.at(starts[1] + 32, 1)[0] ^= 1;
    let mut frames = opened(&sketch).remove(0);
    let first = frames.next(u64::MAX).unwrap();
    assert_eq!(frames.next(u64::MAX).unwrap().start, first.start, "no frame that is not whole is passed");
    frames.seek_header(first.start + WORD).unwrap();
    assert_eq!(frames.next(u64::MAX).unwrap().start, starts[1]);
    assert_eq!(frames.next_whole(first.start + WORD).unwrap().0, starts[2]);
    frames.seek_header(starts[2] + WORD).unwrap();
    assert!(frames.next(frames.info().end).is_none(), "there is none");
}
