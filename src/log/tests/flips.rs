//! Every bit of every file of a small log, flipped: refused, or harmless. Never fewer records, never others.

use std::collections::BTreeMap;

use super::support::*;
use crate::base::error::ErrorKind;
use crate::disk::sim::{CrashPoint, SimDisk};

struct Counts {
    refused: u64,
    harmless: u64,
    /// Ranges of bytes in which a flip was harmless, by file name.
    harmless_bytes: BTreeMap<String, Vec<(u64, u64)>>,
}

/// Flips each bit of each file in turn, and opens.
fn flip_every_bit(disk: &SimDisk, session: &Session) -> Counts {
    let expected = session.records();
    let whole: CrashPoint = disk.crash_point();
    let mut counts = Counts { refused: 0, harmless: 0, harmless_bytes: BTreeMap::new() };
    for (path, bytes) in disk.files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for bit in 0..bytes.len() as u64 * 8 {
            let flipped = whole.process_kill();
            flipped.flip_bit(&path, bit).unwrap();
            let before = flipped.image_hash();
            match open(&flipped) {
                Ok(opened) => {
                    assert!(opened.records == expected, "{name}, bit {bit}: other records");
                    assert_outcomes(&opened.log, &opened.records, &session.issued, &name);
                    counts.harmless += 1;
                    let ranges = counts.harmless_bytes.entry(name.clone()).or_default();
                    match ranges.last_mut() {
                        Some((_, last)) if *last + 1 >= bit / 8 => *last = bit / 8,
                        _ => ranges.push((bit / 8, bit / 8)),
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Damaged, "{name}, bit {bit}: {error}");
                    assert!(error.damage().is_some());
                    let lock_aside = flipped.files().len() == disk.files().len();
                    assert!(
                        !lock_aside || flipped.image_hash() == before,
                        "{name}, bit {bit}: the refusal changed a byte"
                    );
                    counts.refused += 1;
                }
            }
        }
    }
    counts
}

fn report(what: &str, counts: &Counts) {
    let Counts { refused, harmless, harmless_bytes } = counts;
    println!("bit flips, {what}: {} bits, {refused} refused, {harmless} harmless", refused + harmless);
    for (name, ranges) in harmless_bytes {
        let ranges: Vec<String> = ranges.iter().map(|(from, to)| format!("{from}..={to}")).collect();
        println!("  harmless in {name}: bytes {}", ranges.join(", "));
    }
}

#[test]
fn every_bit_of_a_crashed_log_is_refused_or_harmless() {
    let (disk, session) = crashed_twelve();
    let counts = flip_every_bit(&disk, &session);
    report("after a crash with everything durable", &counts);
    // Harmless is the fill above the end of the log, to the last bit, and nothing else.
    let end = session.issued.last().unwrap().token.lsn.get();
    let last = end / SEGMENT * SEGMENT;
    let expected: BTreeMap<String, Vec<(u64, u64)>> = [
        (format!("{last:016x}.log"), vec![(end - last, SEGMENT - 1)]),
        (format!("{:016x}.log", last + SEGMENT), vec![(512, SEGMENT - 1)]),
    ]
    .into();
    assert_eq!(counts.harmless_bytes, expected);
}

#[test]
fn every_bit_of_a_closed_log_is_refused() {
    let disk = SimDisk::new();
    let session = closed_session(&disk, 12, &twelve());
    let counts = flip_every_bit(&disk, &session);
    report("after a clean close", &counts);
    assert_eq!(counts.harmless, 0, "a closed log holds nothing but log");
}

#[test]
fn every_bit_of_a_log_with_two_lives_is_refused_or_harmless() {
    let disk = SimDisk::new();
    let first = closed_session(&disk, 12, &twelve()[..3]);
    let second = session(&disk, 13, &twelve()[..5]);
    let issued = [first.issued, second.issued].concat();
    let session = Session { issued, ..second };
    assert_eq!(session.durable_records(), 8);
    let crashed = session.crash.power_loss(&crate::disk::sim::Loss::Everything, Default::default());
    let counts = flip_every_bit(&crashed, &session);
    report("one incarnation closed and one crashed", &counts);
    assert!(counts.harmless_bytes.keys().all(|name| name.ends_with(".log")));
}
