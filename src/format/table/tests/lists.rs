//! MANIFEST, keyspaces and footers that break a rule are refused, each for the rule that it breaks.

use super::super::data::Interval;
use super::super::keyspaces::Keyspaces;
use super::super::manifest::{Layer, Manifest, Role};
use super::super::run::{Footer, RunHeader};
use super::super::{FileKind, file_name, number_of};
use super::golden::{footer, keyspaces, manifest};
use crate::base::types::Lsn;
use crate::format::Refusal;

/// Each change makes the golden MANIFEST one that no writer writes.
#[test]
fn a_manifest_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut Manifest);
    let changes: &[(&str, Change)] = &[
        ("generation 0", |m| m.generation = 0),
        ("generation above 2^63", |m| m.generation = (1 << 63) + 1),
        ("oldest above to", |m| m.oldest = Lsn::new(12296)),
        ("an LSN within a word", |m| m.oldest = Lsn::new(4)),
        ("no incarnation", |m| m.branch.number = 0),
        ("M1: a layer is missing at the top", |m| drop(m.layers.remove(0))),
        ("M1: a layer is missing in the middle", |m| drop(m.layers.remove(2))),
        ("M1: the last layer is missing", |m| m.layers.truncate(1)),
        ("M1: to above the layers", |m| m.to = Lsn::new(12296)),
        ("M1: an empty interval", |m| m.layers[0].interval = Interval { from: Lsn::new(8192), to: Lsn::new(8192) }),
        ("M1: no layer", |m| m.layers.clear()),
        ("M2: inputs without an output", |m| drop(m.layers.pop())),
        ("M2: an output without inputs", |m| {
            m.layers[1].role = Role::Whole;
            m.layers[2].role = Role::Whole;
        }),
        ("M2: an output of another interval", |m| m.layers[3].interval.from = Lsn::new(8)),
        ("M3: an empty cursor", |m| m.layers[3].role = Role::Output { cursor: Vec::new() }),
        ("M3: runs that overlap", |m| m.layers[0].runs[1].range.low = vec![0, 0, 0, 1, b'b']),
        ("M3: runs out of order", |m| m.layers[0].runs.reverse()),
        ("M3: an empty range", |m| m.layers[0].runs[0].range.high = m.layers[0].runs[0].range.low.clone()),
        ("M3: output above the cursor", |m| m.layers[3].runs[0].range.high = vec![0, 0, 0, 2]),
        ("M3: output without an end", |m| m.layers[3].runs[0].range.high = Vec::new()),
        ("M3: an input that counts no more", |m| m.layers[1].runs[0].range.high = vec![0, 0, 0, 1, b'a', b'p']),
        ("M4: newer than its layer", |m| m.layers[0].runs[1].newest = Lsn::new(12296)),
        ("M4: older than its layer", |m| m.layers[0].runs[1].newest = Lsn::new(8192)),
        ("M4: no entry, and an LSN", |m| m.layers[3].runs[0].newest = Lsn::new(8)),
        ("M5: a number twice", |m| m.layers[0].runs[0].file.number = 10),
        ("M5: a number twice, aside", |m| m.aside[0].number = 10),
        ("M5: a number to come", |m| m.next_number = 10),
        ("M5: number 0", |m| m.aside[0].number = 0),
        ("M5: nonce 0", |m| m.aside[0].nonce = 0),
        ("M5: too short", |m| m.layers[0].runs[0].file.length = 1023),
        ("M5: more tombstones than entries", |m| m.layers[0].runs[0].tombstones = 11),
        ("a tail longer than the run", |m| m.layers[0].runs[0].tail = 2048),
        ("no keyspaces", |m| m.keyspaces.number = 0),
    ];
    assert_eq!(Manifest::decode(&manifest().to_bytes()), Ok(manifest()));
    for (name, change) in changes {
        let mut changed = manifest();
        change(&mut changed);
        assert_eq!(Manifest::decode(&changed.to_bytes()), Err(Refusal::Impossible), "{name}");
    }
}

#[test]
fn jobs_side_by_side_are_two_jobs() {
    let mut both = manifest();
    // The newest layer becomes a job of its own, whose output stands in front of the other job's first input.
    both.layers[0].role = Role::Input;
    let output = Layer {
        interval: both.layers[0].interval,
        role: Role::Output { cursor: vec![0, 0, 0, 1, b'c'] },
        runs: Vec::new(),
    };
    both.layers.insert(1, output);
    assert_eq!(Manifest::decode(&both.to_bytes()), Ok(both));
}

#[test]
fn keyspaces_that_break_a_rule_are_refused() {
    type Change = fn(&mut Keyspaces);
    let changes: &[(&str, Change)] = &[
        ("ids out of order", |k| k.list.swap(0, 1)),
        ("an id to come", |k| k.next_id = 7),
        ("a name twice among the living", |k| k.list[2].name = "users".to_owned()),
        ("no name", |k| k.list[0].name = String::new()),
        ("a long name", |k| k.list[0].name = "x".repeat(256)),
        ("created above to", |k| k.to = Lsn::new(8184)),
        ("dropped before it was created", |k| k.list[1].dropped = Some(Lsn::new(600))),
        ("created by no commit", |k| k.list[0].created = Lsn::ZERO),
        ("number 0", |k| k.identity.number = 0),
    ];
    for (name, change) in changes {
        let mut changed = keyspaces();
        change(&mut changed);
        assert_eq!(Keyspaces::decode(&changed.to_bytes()), Err(Refusal::Impossible), "{name}");
    }
    let mut reused = keyspaces();
    reused.list[1].name = "users".to_owned();
    assert_eq!(Keyspaces::decode(&reused.to_bytes()), Ok(reused), "the name of a dropped one is free");
}

#[test]
fn footers_that_break_a_rule_are_refused() {
    type Change = fn(&mut Footer);
    let changes: &[(&str, Change)] = &[
        ("a shorter file", |f| f.length -= 8),
        ("a longer file", |f| f.length += 8),
        ("a gap before the root", |f| f.root.position += 8),
        ("range tombstones without their block", |f| f.range_tombstones = None),
        ("a block of range tombstones without one", |f| f.counts.range_tombstones = 0),
        ("newer than the interval", |f| f.counts.newest = Lsn::new(8200)),
        ("older than the interval", |f| f.counts.oldest = Lsn::new(4096)),
        ("oldest above newest", |f| f.counts.newest = Lsn::new(4096)),
        ("more tombstones than entries", |f| f.counts.tombstones = 5),
        ("an empty interval", |f| f.header.interval.from = Lsn::new(8192)),
        ("number 0", |f| f.header.identity.number = 0),
        ("a block within a word", |f| f.root.length += 1),
    ];
    for (name, change) in changes {
        let mut changed = footer();
        change(&mut changed);
        assert_eq!(Footer::decode(&changed.to_bytes()), Err(Refusal::Impossible), "{name}");
    }
}

#[test]
fn a_flipped_bit_is_refused() {
    let flips = |bytes: &[u8], is_refused: &dyn Fn(&[u8]) -> bool| {
        let mut flipped = bytes.to_vec();
        for bit in 0..8 * bytes.len() {
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_refused(&flipped), "bit {bit}");
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(!is_refused(&flipped));
    };
    flips(&manifest().to_bytes(), &|bytes| Manifest::decode(bytes).is_err());
    flips(&keyspaces().to_bytes(), &|bytes| Keyspaces::decode(bytes).is_err());
    flips(&footer().to_bytes(), &|bytes| Footer::decode(bytes.try_into().unwrap()).is_err());
    flips(&footer().header.to_bytes(), &|bytes| RunHeader::decode(bytes.try_into().unwrap()).is_err());
}

#[test]
fn a_list_that_was_cut_or_extended_is_refused() {
    let (manifest, keyspaces) = (manifest().to_bytes(), keyspaces().to_bytes());
    for length in 0..manifest.len() {
        assert!(Manifest::decode(&manifest[..length]).is_err(), "{length}");
    }
    for length in 0..keyspaces.len() {
        assert!(Keyspaces::decode(&keyspaces[..length]).is_err(), "{length}");
    }
    assert!(Manifest::decode(&[manifest.as_slice(), &[0; 8]].concat()).is_err());
    assert!(Keyspaces::decode(&[keyspaces.as_slice(), &[0; 8]].concat()).is_err());
}

#[test]
fn names_are_ours_in_one_form_only() {
    assert_eq!(file_name(10, FileKind::Run), "000000000000000a.run");
    assert_eq!(number_of("000000000000000a.run"), Some((10, FileKind::Run)));
    assert_eq!(number_of("8000000000000000.keys"), Some((1 << 63, FileKind::Keyspaces)));
    for name in [
        "000000000000000A.run",
        "a.run",
        "0000000000000000.run",
        "ffffffffffffffff.run",
        "000000000000000a.run.tmp",
        "+00000000000000a.run",
        "MANIFEST",
        ".run",
    ] {
        assert_eq!(number_of(name), None, "{name}");
    }
}
