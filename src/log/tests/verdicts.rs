//! The decision table, row by row: real bytes in the frame at `p`, on each side of the durable position, with and
//! without a valid header above. A refusal names cause and LSN and changes no byte; what opens, opens to the same again.

use super::support::*;
use crate::base::error::DamageCause;
use crate::base::types::Lsn;
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector};
use crate::format::frame::{self, Kind};
use crate::format::verdict::FrameState;

/// Where the frame at `p` begins: two records stand before it.
const P: u64 = FIRST_FRAME + 136 + 136;
const PAYLOAD: usize = 200;

/// A log whose frame at `p` is in this state, and what is in it.
struct Case {
    sketch: Sketch,
    /// What stands below `p`.
    before: Records,
    /// The frame at `p`, if it is a record.
    at_p: (Lsn, Vec<u8>),
    /// What stands above, if there is a later header.
    later: Option<(Lsn, Vec<u8>)>,
    p: u64,
}

fn case(state: FrameState, below: bool, later: bool) -> Case {
    let mut sketch = Sketch::new();
    let mut before = Records::new();
    let mut position = FIRST_FRAME;
    for number in 0..2 {
        let payload = payload(number, 104);
        position = sketch.frame(position, Kind::Full, &payload, 0);
        before.push((Lsn::new(position), payload));
    }
    if state == FrameState::Missing {
        // A record up to the end of the segment, so that `p` is in the next one, which is not there.
        let payload = payload(9, usize::try_from(SEGMENT - position - 32).unwrap());
        position = sketch.frame(position, Kind::Full, &payload, 0);
        assert_eq!(position, SEGMENT);
        before.push((Lsn::new(position), payload));
        sketch.add_segment(SEGMENT);
        sketch.add_segment(2 * SEGMENT);
        position += FIRST_FRAME;
    }
    let p = position;
    let payload_at_p = payload(2, PAYLOAD);
    let end = sketch.frame(p, Kind::Full, &payload_at_p, 0);
    // D is `end`, or `p` exactly: the nearest position that counts as at or above.
    let durable = if below { end } else { p };
    if below && !later {
        sketch.history.oldest = Lsn::new(end);
    }
    let mut above = None;
    if later {
        let at = if state == FrameState::Missing { 2 * SEGMENT + FIRST_FRAME } else { end };
        let payload = payload(3, 40);
        let lsn = sketch.frame(at, Kind::Full, &payload, durable);
        above = Some((Lsn::new(lsn), payload));
    }
    match state {
        FrameState::Missing => drop(sketch.segments.remove(&SEGMENT)),
        FrameState::Unreadable | FrameState::Valid => {}
        FrameState::Unwritten => sketch.unland(p, 32),
        FrameState::HeaderTorn => sketch.unland(p + 8, 8),
        FrameState::HeaderRotten => sketch.at(p, 32)[9] ^= 4,
        FrameState::Impossible => drop(sketch.frame(p, Kind::Last, &payload_at_p, 0)),
        FrameState::PayloadTorn => sketch.unland(end - 8, 8),
        FrameState::PayloadRotten => sketch.at(p + 32, PAYLOAD)[PAYLOAD - 1] ^= 0x80,
    }
    Case { sketch, before, at_p: (Lsn::new(end), payload_at_p), later: above, p }
}

fn name(state: FrameState, below: bool, later: bool) -> String {
    format!("{state:?}, {}, later {later}", if below { "below D" } else { "at or above D" })
}

const BOTH: [bool; 2] = [false, true];

fn refuses(state: FrameState, belows: &[bool], cause: DamageCause) {
    for &below in belows {
        for later in BOTH {
            let case = case(state, below, later);
            let disk = case.sketch.disk();
            let lsn = match state {
                FrameState::Missing => case.sketch.history.oldest.get().max(SEGMENT),
                _ => case.p,
            };
            let error = assert_refused(&disk, cause, lsn, &name(state, below, later));
            let file = if state == FrameState::Missing { segment_path(SEGMENT) } else { segment_path(0) };
            assert_eq!(error.damage().unwrap().file, file);
            assert!(error.io_error().is_none(), "{error}");
        }
    }
}

/// Opens with what stands below `p`, and says whether something was dropped.
fn ends(state: FrameState, laters: &[bool], dropped: impl Fn(bool) -> u64) {
    for &later in laters {
        let what = name(state, false, later);
        let case = case(state, false, later);
        let disk = case.sketch.disk();
        let opened = open(&copy(&disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let report = opened.log.recovery();
        assert_eq!(report.dropped_frames, dropped(later), "{what}");
        assert_eq!(report.recovered_to, Lsn::new(P), "{what}");
        assert_eq!(report.proven_durable, Lsn::new(if later { P } else { 0 }), "{what}");
        assert_eq!(report.crashed, Some(case.sketch.history.entries[0].incarnation), "{what}");
        drop(opened);
        assert_holds(&disk, &case.before, &what);
    }
}

#[test]
fn row_01_missing_is_damage() {
    refuses(FrameState::Missing, &BOTH, DamageCause::MissingSegment);
}

#[test]
fn row_02_unreadable_is_refused_and_not_called_damage() {
    for below in BOTH {
        for later in BOTH {
            let case = case(FrameState::Unreadable, below, later);
            let what = name(FrameState::Unreadable, below, later);
            for errno in [5, 116] {
                let disk = case.sketch.disk();
                let bad = OpSelector::of(OpKind::Read).on(".log").touching(case.p..case.p + 32);
                disk.inject(Fault::lasting(bad, FaultKind::Errno(errno)));
                let error = assert_unreadable(&disk, &what);
                let text = error.to_string();
                assert!(text.contains(&Lsn::new(case.p).to_string()) && text.contains("0000.log"), "{what}: {text}");
                assert!(text.contains(&format!("os error {errno}")), "{what}: {text}");
            }
        }
    }
}

#[test]
fn row_03_unwritten_below_is_damage() {
    refuses(FrameState::Unwritten, &[true], DamageCause::Unlanded);
}

#[test]
fn row_04_unwritten_with_nothing_above_is_the_end_of_the_log() {
    ends(FrameState::Unwritten, &[false], |_| 0);
}

#[test]
fn row_05_unwritten_with_a_header_above_is_a_torn_tail() {
    ends(FrameState::Unwritten, &[true], |_| 1);
}

#[test]
fn row_06_header_torn_below_is_damage() {
    refuses(FrameState::HeaderTorn, &[true], DamageCause::Unlanded);
}

#[test]
fn row_07_header_torn_at_or_above_is_a_torn_tail() {
    ends(FrameState::HeaderTorn, &BOTH, u64::from);
}

#[test]
fn row_08_header_rotten_is_damage() {
    refuses(FrameState::HeaderRotten, &BOTH, DamageCause::Rotten);
}

#[test]
fn row_09_impossible_is_damage() {
    refuses(FrameState::Impossible, &BOTH, DamageCause::Impossible);
}

#[test]
fn row_10_payload_torn_below_is_damage() {
    refuses(FrameState::PayloadTorn, &[true], DamageCause::Unlanded);
}

#[test]
fn row_11_payload_torn_at_or_above_is_a_torn_tail() {
    ends(FrameState::PayloadTorn, &BOTH, |later| 1 + u64::from(later));
}

#[test]
fn row_12_payload_rotten_is_damage() {
    refuses(FrameState::PayloadRotten, &BOTH, DamageCause::Rotten);
}

#[test]
fn row_13_valid_is_accepted() {
    for below in BOTH {
        for later in BOTH {
            let case = case(FrameState::Valid, below, later);
            let mut expected = case.before;
            expected.push(case.at_p);
            expected.extend(case.later);
            let what = name(FrameState::Valid, below, later);
            let disk = case.sketch.disk();
            if case.sketch.history.oldest > Lsn::ZERO {
                // Shown once more, because nothing proved before that the segment ends at `oldest`; then gone.
                assert_same(&open(&disk).unwrap().records, &expected, &what);
                expected.clear();
            }
            assert_holds(&disk, &expected, &what);
        }
    }
}

#[test]
fn a_word_torn_off_anywhere_in_a_frame_is_a_tear_above_d_and_damage_below() {
    let words = (32 + PAYLOAD as u64) / 8;
    for word in 0..words {
        for below in BOTH {
            for later in BOTH {
                let what = format!("word {word}, {}", name(FrameState::HeaderTorn, below, later));
                let mut case = case(FrameState::Valid, below, later);
                case.sketch.unland(P + 8 * word, 8);
                if below {
                    assert_refused(&case.sketch.disk(), DamageCause::Unlanded, P, &what);
                } else {
                    assert_holds(&case.sketch.disk(), &case.before, &what);
                }
            }
        }
    }
}

#[test]
fn a_field_that_cannot_be_is_damage_where_the_walk_stands_and_nothing_to_the_search() {
    // A header with a matching checksum and a durable position above its own place.
    let mut sketch = Sketch::new();
    sketch.frame(FIRST_FRAME, Kind::Full, b"impossible", FIRST_FRAME + 8);
    assert_refused(&sketch.disk(), DamageCause::Impossible, FIRST_FRAME, "at the place of the walk");
    sketch.unland(FIRST_FRAME, 32);
    assert_holds(&sketch.disk(), &Records::new(), "nothing landed");
    let mut sketch = Sketch::new();
    sketch.frame(FIRST_FRAME + 64, Kind::Full, b"impossible", FIRST_FRAME + 72);
    assert_holds(&sketch.disk(), &Records::new(), "above the place of the walk");
}

#[test]
fn zeros_and_garbage_at_the_end_of_the_log_are_damage() {
    for byte in [0, 0x5A, 0xFF] {
        let mut case = case(FrameState::Valid, false, false);
        case.sketch.at(P, 512).fill(byte);
        assert_refused(&case.sketch.disk(), DamageCause::Rotten, P, "a sector of one byte");
        // A neighbour's fill is no fill here.
        let neighbour = case.sketch.segments[&0].1[1024..1536].to_vec();
        case.sketch.at(P, 512).copy_from_slice(&neighbour);
        assert_refused(&case.sketch.disk(), DamageCause::Rotten, P, "a neighbour's sector");
    }
}

#[test]
fn the_order_of_kinds_is_kept() {
    let refused = |kinds: &[Kind], at: usize| {
        let mut sketch = Sketch::new();
        let mut position = FIRST_FRAME;
        let mut places = Vec::new();
        for kind in kinds {
            places.push(position);
            position = sketch.frame(position, *kind, b"piece", 0);
        }
        assert_refused(&sketch.disk(), DamageCause::Impossible, places[at], &format!("{kinds:?}"));
    };
    refused(&[Kind::Middle], 0);
    refused(&[Kind::Last], 0);
    refused(&[Kind::Full, Kind::Last], 1);
    refused(&[Kind::Full, Kind::Middle], 1);
    // A record is split at the end of a segment only.
    refused(&[Kind::First, Kind::Last], 0);
    // And not begun anew before it ends.
    let mut sketch = Sketch::new();
    let room = usize::try_from(SEGMENT - FIRST_FRAME - 32).unwrap();
    sketch.add_segment(SEGMENT);
    sketch.frame(FIRST_FRAME, Kind::First, &payload(1, room), 0);
    for kind in [Kind::Full, Kind::First] {
        let mut sketch = sketch.clone();
        sketch.frame(SEGMENT + FIRST_FRAME, kind, b"piece", 0);
        assert_refused(&sketch.disk(), DamageCause::Impossible, SEGMENT + FIRST_FRAME, "begun inside another");
    }
    // A valid header of the next record does not stand in for the rest of this one.
    let end = sketch.frame(SEGMENT + FIRST_FRAME, Kind::Last, b"rest", 0);
    sketch.frame(end, Kind::Last, b"rest", 0);
    assert_refused(&sketch.disk(), DamageCause::Impossible, end, "ended twice");
    assert_eq!(end, SEGMENT + FIRST_FRAME + frame::frame_len(4));
}

#[test]
fn a_frame_of_another_log_incarnation_or_segment_is_no_frame() {
    for change in 0..5 {
        let mut stranger = Sketch::new();
        match change {
            0 => stranger.history.log_id.0[3] ^= 1,
            1 => stranger.history.entries[0].incarnation.number = 2,
            2 => stranger.history.entries[0].incarnation.nonce ^= 1,
            3 => stranger.history.entries[0].key ^= 1,
            // The frame's own fields are right for this place: only the segment that it was sealed for is another.
            _ => stranger.segments.clear(),
        }
        if change == 4 {
            let mut identity = stranger.identity(0);
            identity.base = SEGMENT;
            let mut frame = vec![0; 40];
            let lsn = P + 40;
            let payload_crc = frame::payload_crc(b"stranger");
            frame::Header { payload_crc, lsn, durable: 0, length: 8, kind: Kind::Full }.write(&mut frame);
            frame[32..].copy_from_slice(b"stranger");
            frame::seal(&mut frame, &identity.checksum(), 0);
            let mut own = case(FrameState::Unwritten, false, false);
            own.sketch.at(P, 40).copy_from_slice(&frame);
            assert_refused(&own.sketch.disk(), DamageCause::Rotten, P, "sealed for another segment");
            continue;
        }
        stranger.add_segment(0);
        stranger.frame(P, Kind::Full, &payload(2, PAYLOAD), 0);
        let bytes = stranger.at(P, 232).to_vec();
        // Where the walk stands it is rot: nothing of ours can read so.
        let mut own = case(FrameState::Unwritten, false, false);
        own.sketch.at(P, 232).copy_from_slice(&bytes);
        assert_refused(&own.sketch.disk(), DamageCause::Rotten, P, &format!("change {change}"));
        // Above, it proves nothing.
        let mut own = Sketch::new();
        own.at(P, 232).copy_from_slice(&bytes);
        let opened = open(&own.disk()).unwrap();
        assert_eq!((opened.records.len(), opened.log.recovery().dropped_frames), (0, 0), "change {change}");
    }
}
