//! A write that was cut off within a word opens; the same word with one flipped bit does not.
//!
//! A program ignored SIGXFSZ and met its RLIMIT_FSIZE one to seven bytes before the end of a frame: the last word was
//! half new and half fill, no other word of the frame showed the fill, and the open called that damage, with every
//! acknowledged commit inside.

use super::support::*;
use crate::base::types::Lsn;
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector};
use crate::format::frame::Kind;

/// A log with one whole record of `before` bytes, and behind it a frame of `length` bytes of payload.
fn records_of(before: usize, length: usize) -> (Sketch, Records, u64, u64) {
    let mut sketch = Sketch::new();
    let first = sketch.frame(FIRST_FRAME, Kind::Full, &payload(before, before), 0);
    let end = sketch.frame(first, Kind::Full, &payload(length, length), 0);
    (sketch, vec![(Lsn::new(first), payload(before, before))], first, end)
}

fn two_records(length: usize) -> (Sketch, Records, u64, u64) {
    records_of(5, length)
}

/// Leaves `landed` bytes of the frame, and the fill behind them; in how many bits that differs from the whole frame.
fn cut_at(sketch: &mut Sketch, begin: u64, frame: usize, landed: usize) -> u32 {
    let bytes = sketch.at(begin, frame).to_vec();
    sketch.unland(begin, frame);
    sketch.at(begin, landed).copy_from_slice(&bytes[..landed]);
    sketch.at(begin, frame).iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum()
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
            let what = format!("{length} bytes of payload, {landed} of {frame} landed");
            match cut_at(&mut cut, begin, frame, landed) {
                0 => continue,
                1 if landed > 0 => {
                    ambiguous += 1;
                    assert_damaged(&cut.disk(), &what);
                }
                _ => {
                    opened += 1;
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

/// The fill is another at each position. With one frame, at one position, a header that was cut within its last word, in
/// a byte that differs from the fill in one bit, was not met: it was refused, though all of its payload was fill.
#[test]
fn a_cut_within_a_last_word_is_a_torn_tail_at_every_position() {
    let (mut opened, mut of_one_bit) = (0, 0);
    for before in (0..8 * 96).step_by(8) {
        for length in if before % 16 == 0 { [0, 8] } else { [1, 13] } {
            let (whole, expected, begin, end) = records_of(before, length);
            let frame = usize::try_from(end - begin).unwrap();
            for landed in (25..32).chain(frame - 7..frame) {
                let mut cut = whole.clone();
                let what = format!("{before} bytes, then {landed} of {frame} landed");
                match cut_at(&mut cut, begin, frame, landed) {
                    0 => continue,
                    1 => drop(assert_damaged(&cut.disk(), &what)),
                    _ => {
                        let in_last_header_word = landed < 32 && length > 0;
                        let bits = in_last_header_word.then(|| {
                            let (cut, whole) = (cut.at(begin, 32).to_vec(), whole.clone().at(begin, 32).to_vec());
                            cut.iter().zip(&whole).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
                        });
                        of_one_bit += u32::from(bits == Some(1));
                        opened += 1;
                        assert_holds(&cut.disk(), &expected, &what);
                    }
                }
            }
        }
    }
    println!("cut frames: {opened} opened, {of_one_bit} of them with one bit of the header changed");
    assert!(opened > 2000 && of_one_bit > 2, "{opened} and {of_one_bit}");
}

/// What landed behind a word, in the same sector, shows that no write was cut there. A byte that was changed to the fill
/// in the header of the last record that was acknowledged, with its whole payload behind it, was taken for a torn tail.
#[test]
fn fill_with_something_written_behind_it_is_damage() {
    let (mut refused, mut at_sectors) = (0, 0);
    for before in (0..8 * 70).step_by(8) {
        for length in [0, 5, 24] {
            let (mut whole, _, begin, end) = records_of(before, length);
            whole.frame(end, Kind::Full, b"of the same group", 0);
            for word_end in [begin + 32, end] {
                for missing in 1..8 {
                    let mut cut = whole.clone();
                    let bytes = cut.at(word_end - 8, 8).to_vec();
                    cut.unland(word_end - 8, 8);
                    let fill = cut.at(word_end - 8, 8).to_vec();
                    cut.at(word_end - 8, 8 - missing).copy_from_slice(&bytes[..8 - missing]);
                    // A whole word that reads as fill did not land.
                    if [bytes, fill].iter().any(|word| cut.at(word_end - 8, 8) == word) {
                        continue;
                    }
                    // The next sector may have landed alone.
                    if word_end.is_multiple_of(512) {
                        at_sectors += 1;
                        continue;
                    }
                    refused += 1;
                    let what = format!("{before} bytes, {length} bytes, {missing} of them fill before {word_end}");
                    assert_damaged(&cut.disk(), &what);
                }
            }
        }
    }
    println!("{refused} refused, {at_sectors} at the end of a sector");
    assert!(refused > 2000 && at_sectors > 0, "{refused} and {at_sectors}");
}

/// The word behind is in the next sector, which cannot be read: that says nothing of the frame before it, whose own bytes
/// were read.
#[test]
fn a_rotten_frame_before_a_sector_that_cannot_be_read_is_damage() {
    let (mut sketch, _, begin, end) = two_records(440);
    assert_eq!(end, 1024);
    let last = sketch.frame(end, Kind::Full, b"later", 0);
    sketch.end(last, 4096);
    sketch.at(begin + 40, 1)[0] ^= 1;
    let disk = sketch.disk();
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Read).on(".log").touching(1024..1536), FaultKind::Errno(5)));
    let error = assert_damaged(&disk, "the frame before");
    assert_eq!(error.damage().unwrap().lsn, Lsn::new(begin));
}
