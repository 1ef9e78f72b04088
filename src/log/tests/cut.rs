//! A write that was cut off within a word opens; the same word with one flipped bit does not.
//!
//! A program ignored SIGXFSZ and met its RLIMIT_FSIZE one to seven bytes before the end of a frame: the last word was
//! half new and half fill, no other word of the frame showed the fill, and the open called that damage, with every
//! acknowledged commit inside.

use super::support::*;
use crate::base::types::Lsn;
use crate::format::frame::Kind;

/// A log with one whole record, and behind it a frame of `length` bytes of payload.
fn two_records(length: usize) -> (Sketch, Records, u64, u64) {
    let mut sketch = Sketch::new();
    let first = sketch.frame(FIRST_FRAME, Kind::Full, b"whole", 0);
    let end = sketch.frame(first, Kind::Full, &payload(length, length), 0);
    (sketch, vec![(Lsn::new(first), b"whole".to_vec())], first, end)
}

/// Only where a single flipped bit explains the word as well, a cut is refused.
#[test]
fn a_frame_that_was_cut_at_any_byte_is_a_torn_tail() {
    let (mut opened, mut ambiguous) = (0, 0);
    for length in 0..=24 {
        let (whole, expected, begin, end) = two_records(length);
        let frame = usize::try_from(end - begin).unwrap();
        for landed in 0..frame {
            let mut cut = whole.clone();
            let bytes = cut.at(begin, frame).to_vec();
            cut.unland(begin, frame);
            let fill = cut.at(begin, frame).to_vec();
            cut.at(begin, landed).copy_from_slice(&bytes[..landed]);
            let differ: u32 = cut.at(begin, frame).iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
            let what = format!("{length} bytes of payload, {landed} of {frame} landed");
            match differ {
                0 => continue,
                1 if landed > 0 => {
                    ambiguous += 1;
                    assert_damaged(&cut.disk(), &what);
                }
                _ => {
                    opened += 1;
                    assert!(landed > 0 || cut.at(begin, frame) == fill, "{what}");
                    assert_holds(&cut.disk(), &expected, &what);
                }
            }
        }
    }
    println!("cut frames: {opened} opened, {ambiguous} refused since a flipped bit explains them");
    assert!(opened > 1000 && ambiguous < opened / 100, "{opened} and {ambiguous}");
}

/// Below what is proven durable it is damage, as any word that went back.
#[test]
fn a_cut_word_below_the_durable_lsn_is_damage() {
    for length in [0, 5, 8, 21] {
        let (mut sketch, _, begin, end) = two_records(length);
        sketch.frame(end, Kind::Full, b"later", end);
        sketch.unland(end - 8, 8);
        let whole = two_records(length).0.at(end - 8, 8).to_vec();
        sketch.at(end - 8, 3).copy_from_slice(&whole[..3]);
        let error = assert_damaged(&sketch.disk(), "below the durable LSN");
        assert_eq!(error.damage().unwrap().lsn, Lsn::new(begin));
    }
}

/// Whatever else changes in a frame whose last word looks cut: the checksum does not agree, and it is damage.
#[test]
fn a_flipped_bit_elsewhere_in_a_cut_frame_is_damage() {
    for length in [1, 7, 8, 15, 16] {
        let (mut sketch, _, begin, end) = two_records(length);
        let last = usize::try_from(end - begin).unwrap() - 1;
        let old = {
            let mut blank = sketch.clone();
            blank.unland(begin, last + 1);
            blank.at(begin, last + 1)[last]
        };
        sketch.at(begin, last + 1)[last] = old;
        for byte in 0..last {
            for bit in 0..8 {
                let mut flipped = sketch.clone();
                flipped.at(begin, last + 1)[byte] ^= 1 << bit;
                assert_damaged(&flipped.disk(), &format!("{length} bytes of payload, byte {byte}, bit {bit}"));
            }
        }
    }
}
