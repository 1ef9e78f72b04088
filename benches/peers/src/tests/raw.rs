//! The raw limit writes as much as the engine, and the workloads are what they say.

use std::path::PathBuf;

use forelog::{CommitMode, Engine};

use crate::common::raw::Ring;
use crate::common::{KEYS, key, key_of, record_bytes};
use crate::workload::{Mix, Values, WORKLOADS};

/// Removed with what is in it.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("forelog-peers-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("a directory");
        Temporary(dir)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_raw_record_is_as_long_as_a_transaction_in_the_log() {
    let dir = Temporary::new("record");
    let engine = Engine::open(dir.0.join("engine")).expect("a new database");
    let keys = engine.create_keyspace("keys").expect("a keyspace");
    for (puts, value) in [(1, 100), (1, 4096), (100, 100)] {
        let before = engine.visible_lsn();
        let mut batch = engine.batch().expect("open");
        for number in 0..puts {
            batch.put(&keys, key_of(number as u64), vec![7; value]).expect("a write");
        }
        batch.commit_with(CommitMode::Sync).expect("a commit");
        let (logged, raw) = (engine.visible_lsn().get() - before.get(), record_bytes(puts, value) as u64);
        assert!(logged.abs_diff(raw) <= 8, "{puts} puts of {value}: {logged} bytes in the log, {raw} in the raw file");
    }
}

#[test]
fn a_ring_starts_anew_at_its_end() {
    let dir = Temporary::new("ring");
    let path = dir.0.join("ring");
    let ring = Ring::create(&path, 100).expect("a file");
    for record in [[1; 60], [2; 60]] {
        ring.write(&record).expect("a write");
    }
    assert_eq!(std::fs::read(&path).expect("the file")[..61], [[2; 60].as_slice(), &[0]].concat());
}

#[test]
fn keys_are_ordered_as_their_numbers_and_drawn_from_all() {
    assert!(key_of(1) < key_of(2) && key_of(255) < key_of(256));
    assert!((0..1000).all(|number| key(number) < key_of(KEYS)));
}

#[test]
fn values_are_as_long_as_asked_and_do_not_compress() {
    let values = Values::new();
    assert_eq!(values.value(u64::MAX, 4096).len(), 4096);
    let mut counts = [0; 256];
    values.value(3, 4096).iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    assert!(counts.iter().all(|count| *count < 64), "bytes are spread");
}

#[test]
fn every_tenth_commit_of_the_mix_is_sync() {
    let modes: Vec<_> = (0..20).map(|number| Mix::TenthSync.mode(number)).collect();
    assert_eq!(modes.iter().filter(|mode| **mode == crate::peer::Mode::Sync).count(), 2);
}

#[test]
fn workloads_have_names_of_their_own() {
    for workload in WORKLOADS {
        assert_eq!(WORKLOADS.iter().filter(|other| other.id == workload.id).count(), 1, "{}", workload.id);
    }
}
