//! An open that finds more log behind the layers than a checkpoint takes in, or than memory may hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::background::bytes_of_log;
use super::merging::{open_small, put, small};
use crate::base::error::Result;
use crate::base::options::Checkpoints;
use crate::base::types::CommitMode;
use crate::disk::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::engine::Engine;
use crate::rt::schedule;
use crate::rt::sync::Mutex;

fn delete(engine: &Engine, number: u32) {
    let keys = engine.open_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.delete(&keys, number.to_be_bytes()).unwrap();
    batch.commit().unwrap();
}

/// No commit came through that would have started the thread which takes the log in.
#[test]
fn commits_go_on_behind_an_open_with_a_long_log() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 400, 1);
        engine.close().unwrap();
        drop(engine);
        let engine = open_small(&disk, Checkpoints::Automatic);
        assert!(engine.table_stats().pending_ops > 5 * 4096 / 160);
        put(&engine, "k", 0, 10, 2);
        assert!(engine.table_stats().checkpoints > 0);
        engine.close().unwrap();
    });
}

/// The layers had the put and not yet the deletion, of which a load had left no record: memory had it forgotten, and the layers
/// brought the key back. (A debug build asks the layers wherever memory says "absent".)
#[test]
fn a_deletion_that_was_replayed_is_not_forgotten_before_layers_have_it() {
    // Searched for, and built anew.
    for filler in [20, 400] {
        let pieces = (1..40).filter(|runs| is_left_to_a_later_piece(filler, *runs)).count();
        assert!(pieces > 0, "no piece came through without the next one");
    }
}

/// Whether a piece came through before the file of the run with this number could not be made, and the next one did not.
fn is_left_to_a_later_piece(filler: u32, runs: u64) -> bool {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 1, 1);
        put(&engine, "k", 10, filler, 1);
        put(&engine, "k", 10, 100, 1);
        delete(&engine, 0);
        engine.close().unwrap();
        drop(engine);
        let engine = open_small(&disk, Checkpoints::OnRequest);
        let keys = engine.open_keyspace("k").unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run").skip(runs), FaultKind::Errno(28)));
        let has_failed = engine.checkpoint().is_err();
        let read = || engine.snapshot().unwrap().get(&keys, 0_u32.to_be_bytes()).unwrap();
        assert!(read().is_none(), "{runs}");
        let index = engine.pipeline().index();
        for tree in index.trees_from(0) {
            tree.forget(&[], 1000, index.installed());
        }
        assert!(read().is_none(), "{runs}");
        has_failed && engine.table_stats().layers > 0
    })
}

type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fn contents(engine: &Engine) -> Contents {
    let snapshot = engine.snapshot().unwrap();
    let entries = |name: &String| {
        let keyspace = snapshot.keyspace(name).unwrap().unwrap();
        snapshot.iter(&keyspace).unwrap().map(|entry| entry.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec()))
    };
    snapshot.keyspace_names().unwrap().into_iter().map(|name| (name.clone(), entries(&name).collect())).collect()
}

/// A log of about 200 KB that no checkpoint has ever looked at, with what every kind of record does. It is closed.
fn without_tables() -> (SimDisk, Contents) {
    let disk = SimDisk::new();
    let engine = open_small(&disk, Checkpoints::Never);
    for round in 1..5_u8 {
        for first in (0..400).step_by(50) {
            put(&engine, "k", first + u32::from(round), 50, round);
        }
        let name = format!("of round {round}");
        put(&engine, &name, 0, 20, round);
        let keys = engine.open_keyspace("k").unwrap();
        let mut batch = engine.batch().unwrap();
        let low = u32::from(round) * 40;
        batch.delete_range(&keys, low.to_be_bytes()..(low + 15).to_be_bytes()).unwrap();
        batch.put(&keys, low.to_be_bytes(), [round]).unwrap();
        batch.commit().unwrap();
        delete(&engine, low + 20);
        if round % 3 == 0 {
            engine.drop_keyspace(&name).unwrap();
        }
    }
    let expected = contents(&engine);
    engine.close().unwrap();
    (disk, expected)
}

/// With room for nothing in memory beyond what a life may leave in its log.
fn open_in_no_memory(disk: &SimDisk) -> Result<Engine> {
    small(Checkpoints::Automatic).records_bytes(0).open_on(Arc::new(disk.clone()), "db")
}

#[test]
fn a_log_that_is_more_than_memory_is_sorted_by_the_open() {
    schedule::run(1, || {
        let (disk, expected) = without_tables();
        let before = bytes_of_log(&disk);
        let cuts: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
        let noted = Arc::clone(&cuts);
        disk.on_op(move |disk, op| {
            if op.kind.mutates() {
                noted.lock().push(disk.crash_point());
            }
        });
        let engine = open_in_no_memory(&disk).unwrap();
        disk.clear_on_op();
        let stats = engine.table_stats();
        assert!((1..12).contains(&stats.layers) && stats.checkpoints > 12 && !stats.all_in_memory, "{stats:?}");
        assert_eq!((stats.pending_bytes, stats.pending_ops), (0, 0));
        assert!(bytes_of_log(&disk) < before / 4, "{} of {before} bytes of log are left", bytes_of_log(&disk));
        assert!(contents(&engine) == expected);
        put(&engine, "k", 1000, 1, 1);
        engine.close().unwrap();
        drop(engine);
        let engine = open_in_no_memory(&disk).unwrap();
        assert_eq!(contents(&engine)["k"].len(), expected["k"].len() + 1);
        engine.close().unwrap();
        let cuts = std::mem::take(&mut *cuts.lock());
        assert!(cuts.len() > 50, "{} cuts", cuts.len());
        for (number, cut) in cuts.iter().enumerate().step_by(cuts.len() / 40) {
            let loss = if number % 2 == 0 { Loss::Everything } else { Loss::Seeded(number as u64) };
            for left in [cut.process_kill(), cut.power_loss(&loss, Granularity::Sector)] {
                // With memory, and without once more.
                let again = left.crash_point().process_kill();
                let engine = open_small(&left, Checkpoints::Automatic);
                assert!(contents(&engine) == expected, "cut {number}, in memory");
                drop(engine);
                let engine = open_in_no_memory(&again).unwrap();
                assert!(contents(&engine) == expected, "cut {number}");
            }
        }
    });
}

/// What cannot be written costs memory, and is tried again as any checkpoint.
#[test]
fn an_open_that_cannot_sort_a_long_log_loads_it() {
    let (create, sync) = (OpKind::Create, OpKind::Sync);
    #[rustfmt::skip]
    let calls = [
        (create, ".run"), (OpKind::Write, ".run"), (sync, ".run"), (create, "MANIFEST.tmp"), (sync, "MANIFEST.tmp"),
        (OpKind::Rename, "MANIFEST.tmp"), (OpKind::SyncDir, "table"), (OpKind::CreateDir, "table"),
    ];
    for ((kind, on), skip) in calls.into_iter().flat_map(|call| [0, 1, 2, 5].map(|skip| (call, skip))) {
        for errno in [5, 28] {
            schedule::run(1, || {
                let (disk, expected) = without_tables();
                let fault = FaultKind::Errno(errno);
                disk.inject(Fault::lasting(OpSelector::of(kind).on(on).skip(skip), fault));
                let what = format!("{kind:?} of {on}, {skip} {errno}");
                let engine = open_in_no_memory(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
                let stats = engine.table_stats();
                assert!(disk.fault_hits() == 0 || stats.last_failure.is_some(), "{what}: {stats:?}");
                assert!(contents(&engine) == expected, "{what}");
                disk.clear_faults();
                // Nobody asks for a checkpoint, and commits that were refused for it go on.
                let is_through = (0..200).any(|_| {
                    schedule::sleep(Duration::from_secs(1));
                    let keys = engine.open_keyspace("k").unwrap();
                    let mut batch = engine.batch().unwrap();
                    batch.delete(&keys, [0; 9]).unwrap();
                    batch.put(&keys, 1_u32.to_be_bytes(), [1; 100]).unwrap();
                    batch.put(&keys, 1_u32.to_be_bytes(), &expected["k"][1_u32.to_be_bytes().as_slice()]).unwrap();
                    batch.commit_with(CommitMode::Sync).is_ok()
                });
                schedule::sleep(Duration::from_secs(120));
                let stats = engine.table_stats();
                assert!(is_through && stats.last_failure.is_none() && stats.pending_bytes < 4096, "{what}: {stats:?}");
                assert!(contents(&engine) == expected, "{what}, afterwards");
                engine.close().unwrap();
                drop(engine);
                assert!(contents(&open_small(&disk, Checkpoints::Automatic)) == expected, "{what}, reopened");
            });
        }
    }
}
