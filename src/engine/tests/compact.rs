//! Compactions: what they give back, beside everything else, and cut off at each operation of the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::background::checkpoint;
use super::merging::{open_small, put, values};
use crate::base::error::ErrorKind;
use crate::base::options::Checkpoints;
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::engine::{CompactOptions, Engine, ReadOnlyOptions};
use crate::rt::schedule;

/// 240 keys, of which 30 is gone, in several layers that no merge is due for.
fn fill(engine: &Engine) -> Vec<u8> {
    put(engine, "k", 0, 240, 1);
    checkpoint(engine);
    let keys = engine.open_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    for number in (0_u32..90).step_by(3) {
        batch.delete(&keys, number.to_be_bytes()).unwrap();
    }
    batch.commit().unwrap();
    checkpoint(engine);
    put(engine, "k", 100, 20, 2);
    let left = (0..240).filter(|number| *number >= 90 || number % 3 != 0);
    left.map(|number| if (100..120).contains(&number) { 2 } else { 1 }).collect()
}

/// Layers, runs, and entries that are not what somebody reads.
fn shape(engine: &Engine) -> (usize, u64) {
    let stack = engine.inner.tables.stack().unwrap();
    let runs = stack.manifest.layers.iter().flat_map(|layer| &layer.runs);
    (stack.manifest.layers.len(), runs.map(|run| run.entries).sum())
}

#[test]
fn a_compaction_leaves_one_layer_with_what_is_there() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        let expected = fill(&engine);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let options = CompactOptions::new().on_progress(move |progress| tell.lock().unwrap().push(progress));
        let report = engine.compact_with(options).unwrap();
        assert_eq!(shape(&engine), (1, 210));
        assert_eq!(values(&engine, "k"), expected);
        assert_eq!(report.lsn, engine.durable_lsn());
        assert!(report.bytes_after < report.bytes_before, "{report:?}");
        let told = told.lock().unwrap();
        assert!(told.len() > 3 && told.is_sorted_by_key(|progress| progress.bytes), "{told:?}");
        assert_eq!(told.last().unwrap().bytes, told[0].total_bytes);
        engine.close().unwrap();
        assert_eq!(values(&open_small(&disk, Checkpoints::OnRequest), "k"), expected);
    });
}

/// What a snapshot reads stays as long as it is held, and goes with the next compaction, also from a single layer.
#[test]
fn a_compaction_keeps_what_a_held_snapshot_reads() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 60, 1);
        let snapshot = engine.snapshot().unwrap();
        put(&engine, "k", 0, 30, 2);
        engine.compact().unwrap();
        assert_eq!(shape(&engine), (1, 90));
        let keys = engine.open_keyspace("k").unwrap();
        assert_eq!(snapshot.get(&keys, 0_u32.to_be_bytes()).unwrap().unwrap()[0], 1);
        drop(snapshot);
        engine.compact().unwrap();
        assert_eq!(shape(&engine), (1, 60));
        assert_eq!(values(&engine, "k"), [vec![2; 30], vec![1; 30]].concat());
    });
}

/// A merge that is under way is ended first, also one that had another horizon.
#[test]
fn a_compaction_goes_on_with_the_merge_that_is_under_way() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 600, 1);
        checkpoint(&engine);
        put(&engine, "k", 0, 500, 2);
        // A merge begins, and fails after a step.
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run").skip(17), FaultKind::Errno(28)));
        checkpoint(&engine);
        assert!(shape(&engine).0 > 2, "a job is under way: {:?}", shape(&engine));
        disk.clear_faults();
        put(&engine, "k", 0, 100, 3);
        engine.compact().unwrap();
        assert_eq!(shape(&engine), (1, 600));
        assert_eq!(values(&engine, "k"), [vec![3; 100], vec![2; 400], vec![1; 100]].concat());
    });
}

#[test]
fn a_compaction_is_refused_where_checkpoints_are_and_ends_with_the_engine() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::Never);
        put(&engine, "k", 0, 1, 1);
        assert_eq!(engine.compact().unwrap_err().kind(), ErrorKind::Unsupported);
        engine.close().unwrap();
        let engine = open_small(&disk, Checkpoints::OnRequest);
        let expected = fill(&engine);
        let closes = engine.clone();
        let options = CompactOptions::new().on_progress(move |_| closes.close().unwrap());
        assert_eq!(engine.compact_with(options).unwrap_err().kind(), ErrorKind::Closed);
        let engine = open_small(&disk, Checkpoints::OnRequest);
        assert_eq!(values(&engine, "k"), expected);
        // The rest of it is due.
        engine.compact().unwrap();
        assert_eq!(shape(&engine).0, 1);
        engine.close().unwrap();
    });
    let engine = Engine::in_memory().unwrap();
    put(&engine, "k", 0, 1, 1);
    engine.compact().unwrap();
    assert_eq!(values(&engine, "k"), [1]);
}

/// Each operation of the disk that changes something fails once, or is the last one before a power loss or a kill.
#[test]
fn a_compaction_that_is_cut_off_or_fails_anywhere_costs_nothing() {
    let base = SimDisk::new();
    let expected = schedule::run(1, || {
        let engine = open_small(&base, Checkpoints::OnRequest);
        let expected = fill(&engine);
        engine.close().unwrap();
        expected
    });
    for kind in [OpKind::Write, OpKind::Sync, OpKind::Create, OpKind::Rename, OpKind::SyncDir, OpKind::Remove] {
        for skip in 0.. {
            let disk = base.crash_point().power_loss(&Loss::Nothing, Granularity::default());
            let is_hit = schedule::run(1, || {
                let engine = open_small(&disk, Checkpoints::OnRequest);
                disk.inject(Fault::once(OpSelector::of(kind).skip(skip), FaultKind::Errno(5)));
                let compacted = engine.compact();
                let is_hit = disk.fault_hits() > 0;
                disk.clear_faults();
                if compacted.is_ok() {
                    assert_eq!(shape(&engine), (1, 210), "{kind:?} {skip}");
                }
                assert_eq!(values(&engine, "k"), expected, "{kind:?} {skip}");
                for loss in [Loss::Everything, Loss::Nothing] {
                    let after = disk.crash_point().power_loss(&loss, Granularity::default());
                    let engine = open_small(&after, Checkpoints::OnRequest);
                    assert_eq!(values(&engine, "k"), expected, "{kind:?} {skip}, {loss:?}");
                    engine.compact().unwrap();
                    assert_eq!(shape(&engine), (1, 210), "{kind:?} {skip}, {loss:?}");
                    engine.close().unwrap();
                }
                is_hit
            });
            if !is_hit {
                break;
            }
        }
    }
}

/// Who verifies a database beside the one that merges it reads runs that go meanwhile, and finds nothing wrong.
#[test]
fn a_database_is_verified_while_it_is_merged() {
    for seed in 0..8 {
        let disk = SimDisk::new();
        schedule::run(seed, || {
            let engine = open_small(&disk, Checkpoints::Automatic);
            put(&engine, "k", 0, 300, 1);
            let (merges, ended) = (engine.clone(), Arc::new(AtomicBool::new(false)));
            let over = Arc::clone(&ended);
            let writer = schedule::start("merges", move || {
                for round in 2..20 {
                    put(&merges, "k", u32::from(round) * 13 % 200, 100, round);
                    checkpoint(&merges);
                    merges.compact().unwrap();
                }
                over.store(true, Ordering::Relaxed);
            });
            let mut verified = 0;
            while !ended.load(Ordering::Relaxed) {
                let options = ReadOnlyOptions::new().beside_a_writer(true);
                options.verify_on(Arc::new(disk.clone()), "db").unwrap_or_else(|error| panic!("{seed}: {error}"));
                verified += 1;
            }
            writer.join();
            assert!(verified > 2 && engine.table_stats().merges > 10, "{verified}, {:?}", engine.table_stats());
            engine.close().unwrap();
        });
    }
}
