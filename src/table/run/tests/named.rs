//! A run is opened as the one that a layer of MANIFEST names, and as no other.

use super::*;
use crate::base::error::{DamageCause, ErrorKind};
use crate::format::table::manifest::NamedFile;

const ID: LogId = LogId([7; 16]);

fn entries(value: u8) -> Vec<Entry> {
    (0..300_u32)
        .map(|number| (full(1, &number.to_be_bytes()), 8192 + 8 * u64::from(number), Some(vec![value; 40])))
        .collect()
}

#[track_caller]
fn foreign(dir: &dyn Dir, named: &NamedRun, log: (LogId, Interval)) {
    let error = Run::open_named(dir, Path::new("db/table"), named, log).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    let damage = error.damage().unwrap();
    assert_eq!(
        (&*damage.file, damage.cause),
        (&*Path::new("db/table").join(name(named.file.number)), DamageCause::ForeignTable)
    );
}

fn is_taken(dir: &dyn Dir, named: &NamedRun, interval: Interval) -> bool {
    Run::open_named(dir, Path::new("db/table"), named, (ID, interval)).is_ok()
}

/// A number and a nonce do not make it the same: its contents are told by the checksum of the footer.
#[test]
fn a_run_of_the_same_name_number_and_nonce_is_another_if_anything_in_it_differs() {
    let dir = dir();
    let theirs = write(&*dir, 5, &entries(1), Vec::new());
    dir.remove(OsStr::new(&name(5))).unwrap();
    let ours = write(&*dir, 5, &entries(2), Vec::new());
    let told_by_crc = NamedRun { file: NamedFile { crc: ours.file.crc, ..theirs.file }, ..theirs.clone() };
    assert_eq!(told_by_crc, ours, "nothing but the checksum tells them apart");
    assert!(is_taken(&*dir, &ours, INTERVAL));
    foreign(&*dir, &theirs, (ID, INTERVAL));
}

#[test]
fn a_run_has_everything_that_manifest_says_of_it() {
    let dir = dir();
    let named = write(&*dir, 5, &entries(1), vec![deleted(full(2, &[1]), full(2, &[2]), 9000)]);
    assert!(is_taken(&*dir, &named, INTERVAL));
    foreign(&*dir, &named, (LogId([8; 16]), INTERVAL));
    let changes: [fn(&mut NamedRun); 9] = [
        |named| named.file.nonce += 1,
        |named| named.file.length += 8,
        |named| named.file.crc ^= 1,
        |named| named.tail += 8,
        |named| named.entries += 1,
        |named| named.tombstones += 1,
        |named| named.range_tombstones += 1,
        |named| named.newest = Lsn::new(named.newest.get() + 8),
        |named| named.range.low.push(0),
    ];
    for change in changes {
        let mut named = named.clone();
        change(&mut named);
        foreign(&*dir, &named, (ID, INTERVAL));
    }
    // Under another number.
    replace(&*dir, 6, &bytes(&*dir, 5));
    let mut moved = named.clone();
    moved.file.number = 6;
    foreign(&*dir, &moved, (ID, INTERVAL));
}

/// A merge may take a run over: then its layer has a wider interval. It never has another one.
#[test]
fn a_run_lies_in_the_interval_of_its_layer() {
    let dir = dir();
    let named = write(&*dir, 5, &entries(1), Vec::new());
    let Interval { from, to } = INTERVAL;
    let (below, above) = (Lsn::new(from.get() - 8), Lsn::new(to.get() + 8));
    for interval in [INTERVAL, Interval { from: below, to: above }, Interval { from: Lsn::ZERO, to }] {
        assert!(is_taken(&*dir, &named, interval), "{interval:?}");
    }
    let (later, earlier) = (Lsn::new(from.get() + 8), Lsn::new(to.get() - 8));
    for interval in [
        Interval { from: later, to },
        Interval { from, to: earlier },
        Interval { from: Lsn::ZERO, to: from },
        Interval { from: to, to: above },
    ] {
        foreign(&*dir, &named, (ID, interval));
    }
}
