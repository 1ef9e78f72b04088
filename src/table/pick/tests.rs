use super::*;
use crate::base::types::Lsn;
use crate::format::table::data::Interval;
use crate::format::table::manifest::{NamedFile, NamedRun};
use crate::format::table::root::Range as KeyRange;

const MIB: u64 = 1 << 20;

fn layer(role: Role, bytes: u64) -> Layer {
    let file = NamedFile { number: 1, nonce: 1, length: bytes, crc: 0 };
    let range = KeyRange { low: Vec::new(), high: Vec::new() };
    let (tail, newest) = (0, Lsn::ZERO);
    let run = NamedRun { file, tail, entries: 0, tombstones: 0, range_tombstones: 0, newest, range };
    Layer { interval: Interval { from: Lsn::ZERO, to: Lsn::ZERO }, role, runs: vec![run] }
}

fn whole(mib: u64) -> Layer {
    layer(Role::Whole, mib * MIB)
}

fn input(mib: u64) -> Layer {
    layer(Role::Input, mib * MIB)
}

fn output(mib: u64) -> Layer {
    layer(Role::Output { cursor: vec![1] }, mib * MIB)
}

/// A last layer of 10 GB in entries of 1 MB was kept for ever beside the tombstones of all of them.
#[test]
fn a_tombstone_weighs_as_much_as_what_it_may_hide() {
    let mut last = whole(10_000);
    last.runs[0].entries = 10_000;
    let mut upper = layer(Role::Whole, 200_000);
    (upper.runs[0].entries, upper.runs[0].tombstones) = (4_000, 4_000);
    assert_eq!(due(&[upper.clone(), last.clone()]), None);
    (upper.runs[0].entries, upper.runs[0].tombstones) = (5_000, 5_000);
    assert_eq!(due(&[upper, last]), Some(0..2));
}

#[test]
fn a_merge_is_due_as_the_page_says() {
    let large = 100_000;
    for (layers, expected, why) in [
        (vec![], None, "nothing"),
        (vec![whole(40)], None, "one layer"),
        (vec![whole(1), whole(40)], None, "little above the last"),
        (vec![whole(20), whole(40)], Some(0..2), "half of the last"),
        (vec![whole(19), whole(1), whole(40)], Some(0..3), "half of it together"),
        (vec![whole(40), whole(40), whole(40), whole(large)], None, "three of a class"),
        (vec![whole(40), whole(30), whole(50), whole(16), whole(large)], Some(0..4), "four of a class"),
        (
            vec![whole(1), whole(2), whole(40), whole(40), whole(40), whole(large)],
            None,
            "three, and smaller ones above",
        ),
        (vec![whole(1), whole(2), whole(40), whole(40), whole(40), whole(40), whole(large)], Some(0..6), "with them"),
        (vec![whole(1), whole(2), whole(3), whole(1), whole(40), whole(large)], Some(0..4), "four small ones"),
        (vec![whole(40), whole(1), whole(1), whole(1), whole(large)], Some(0..4), "small ones below a larger one"),
        (vec![input(40), input(40), output(8), whole(large)], Some(0..3), "a job goes on"),
        (vec![whole(90), whole(40), input(40), output(8)], Some(2..4), "a job goes on, whatever is above it"),
        (vec![whole(1), whole(1), whole(1), whole(1), input(40), output(8)], Some(0..4), "a small one overtakes it"),
        (vec![input(4), output(1), input(40), input(40), output(8)], Some(0..2), "the first job goes on"),
        (vec![whole(0), whole(0)], Some(0..2), "layers without anything"),
    ] {
        assert_eq!(due(&layers), expected, "{why}");
    }
}
