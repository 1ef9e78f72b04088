//! A change of a run's bytes is found, and what lies behind it is shown all the same.

use std::collections::BTreeSet;

use super::*;
use crate::base::error::ErrorKind;

fn sample() -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..400_u32 {
        let value = (number % 7 != 0).then(|| vec![b'v'; 40]);
        entries.push((full(1 + number / 200, &number.to_be_bytes()), 8192 + 8 * u64::from(number), value));
    }
    entries
}

fn tombstones() -> Vec<RangeTombstone> {
    vec![deleted(full(2, &[200]), full(2, &[201]), 9000)]
}

#[test]
fn a_flipped_bit_is_found() {
    let dir = dir();
    write(&*dir, 5, &sample(), tombstones());
    let whole = bytes(&*dir, 5);
    let (all, mut refused, mut in_walk) = (BTreeSet::from_iter(sample()), 0, 0);
    // A bit of every third byte, and of fewer of the zeros, which are many and all the same.
    for at in 0..whole.len() {
        if !at.is_multiple_of(if whole[at] == 0 { 21 } else { 3 }) {
            continue;
        }
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        replace(&*dir, 5, &flipped);
        match open(&*dir, 5) {
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported), "byte {at}: {error}");
                refused += 1;
            }
            Ok(run) => {
                let (entries, bad) = walk(&run);
                assert!(bad > 0, "byte {at}");
                let error = read(run).expect_err("a cursor stops where a walk goes on");
                assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported), "byte {at}: {error}");
                // Of more than one block no entry is lost, and none is made up.
                assert!(entries.len() < 400 && entries.iter().all(|entry| all.contains(entry)), "byte {at}");
                in_walk += 1;
            }
        }
    }
    println!("{refused} refused, {in_walk} found by the walk");
    assert!(refused > 80 && in_walk > 1500);
}

#[test]
fn a_run_that_is_too_short_or_too_long_is_damage() {
    let dir = dir();
    write(&*dir, 5, &sample(), tombstones());
    let whole = bytes(&*dir, 5);
    for length in [0, 1, 511, 512, 1023, 1024, whole.len() / 2, whole.len() - 512, whole.len() - 1] {
        replace(&*dir, 5, &whole[..length]);
        assert_eq!(open(&*dir, 5).unwrap_err().kind(), ErrorKind::Damaged, "{length}");
    }
    replace(&*dir, 5, &[whole.as_slice(), &[0]].concat());
    assert_eq!(open(&*dir, 5).unwrap_err().kind(), ErrorKind::Damaged);
    replace(&*dir, 5, &[whole.as_slice(), &whole[whole.len() - 512..]].concat());
    assert_eq!(open(&*dir, 5).unwrap_err().kind(), ErrorKind::Damaged);
}

/// A block of another file, and one of another position: both check against themselves.
#[test]
fn a_misdirected_block_is_damage() {
    let dir = dir();
    write(&*dir, 5, &sample(), tombstones());
    write(&*dir, 6, &sample(), tombstones());
    let (whole, other) = (bytes(&*dir, 5), bytes(&*dir, 6));
    assert_eq!(whole.len(), other.len());
    let mut positions = Vec::new();
    open(&*dir, 5)
        .unwrap()
        .walk(|part| {
            if let Part::Block(indexed) = part {
                positions.push(indexed.block);
            }
            Ok::<(), Error>(())
        })
        .unwrap();
    assert!(positions.len() > 3);
    for block in &positions {
        let range = usize::try_from(block.position).unwrap()..usize::try_from(block.end().unwrap()).unwrap();
        let mut changed = whole.clone();
        changed[range.clone()].copy_from_slice(&other[range.clone()]);
        replace(&*dir, 5, &changed);
        let (entries, bad) = walk(&open(&*dir, 5).unwrap());
        assert_eq!(bad, 1);
        assert!(entries.len() < 400 && entries.len() > 200, "{}", entries.len());
    }
    let [first, second] = [positions[0], positions[1]].map(|block| usize::try_from(block.position).unwrap());
    let length = positions[0].length.min(positions[1].length) as usize;
    let mut swapped = whole.clone();
    swapped[first..first + length].copy_from_slice(&whole[second..second + length]);
    replace(&*dir, 5, &swapped);
    assert!(walk(&open(&*dir, 5).unwrap()).1 > 0);
    // The head of one file with the rest of another.
    for at in [512, whole.len() - 512] {
        let mixed = [&whole[..at], &other[at..]].concat();
        replace(&*dir, 5, &mixed);
        assert_eq!(open(&*dir, 5).unwrap_err().kind(), ErrorKind::Damaged, "{at}");
    }
}
