//! Merges beside everything else: in steps, over crashes, of dropped keyspaces, at a pace, and when they do not keep up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::background::{checkpoint, open};
use crate::base::options::Checkpoints;
use crate::base::types::CommitMode;
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::clock;
use crate::rt::schedule::{self, sleep};

/// Runs of 2 KiB.
pub(super) fn small(checkpoints: Checkpoints) -> Options {
    Options::new().segment_bytes(8192).checkpoint_bytes(4096).checkpoints(checkpoints).commit_mode(CommitMode::Async)
}

pub(super) fn open_small(disk: &SimDisk, checkpoints: Checkpoints) -> Engine {
    small(checkpoints).open_on(Arc::new(disk.clone()), "db").unwrap()
}

/// Puts this value under the keys from `first` on, of 100 bytes each.
pub(super) fn put(engine: &Engine, name: &str, first: u32, count: u32, value: u8) {
    let keys = engine.create_keyspace(name).unwrap();
    let mut batch = engine.batch().unwrap();
    for number in first..first + count {
        batch.put(&keys, number.to_be_bytes(), vec![value; 100]).unwrap();
    }
    batch.commit().unwrap();
}

pub(super) fn values(engine: &Engine, name: &str) -> Vec<u8> {
    let keys = engine.open_keyspace(name).unwrap();
    engine.snapshot().unwrap().iter(&keys).unwrap().map(|entry| entry.unwrap().1[0]).collect()
}

/// A merge was one piece, which needed as much room again as all the data, and nothing of it stayed when it was cut off.
#[test]
fn a_merge_gives_its_inputs_back_step_by_step_and_goes_on_after_a_crash() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 1000, 1);
        checkpoint(&engine);
        let before = engine.table_stats();
        assert!(before.runs > 20, "{before:?}");
        put(&engine, "k", 0, 700, 2);
        // After some steps the disk fails.
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run").skip(26), FaultKind::Errno(28)));
        checkpoint(&engine);
        let stats = engine.table_stats();
        assert!(stats.merge_steps > 3 && stats.merges == 0 && stats.merge_failures == 1, "{stats:?}");
        assert!(stats.bytes < before.bytes * 2, "what was read is given back: {stats:?}");
    });
    disk.clear_faults();
    let disk = disk.crash_point().power_loss(&Loss::Everything, Granularity::default());
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        assert_eq!(values(&engine, "k"), [vec![2; 700], vec![1; 300]].concat());
        put(&engine, "k", 999, 1, 3);
        checkpoint(&engine);
        while engine.table_stats().merges == 0 {
            checkpoint(&engine);
        }
        let stats = engine.table_stats();
        assert!(stats.merge_steps > 3, "it went on where it was: {stats:?}");
        let expected = [vec![2; 700], vec![1; 299], vec![3]].concat();
        assert_eq!(values(&engine, "k"), expected);
        engine.close().unwrap();
        assert_eq!(values(&open(&disk), "k"), expected);
    });
}

/// What a dropped keyspace has goes with the checkpoint that comes when the log rests, and nobody reads it.
#[test]
fn the_tables_of_a_dropped_keyspace_go_unread() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::Automatic);
        put(&engine, "small", 0, 10, 1);
        put(&engine, "large", 0, 2000, 1);
        put(&engine, "other", 0, 50, 1);
        sleep(Duration::from_secs(10));
        let before = engine.table_stats();
        assert!(before.bytes > 200_000 && before.pending_bytes == 0, "{before:?}");
        engine.drop_keyspace("large").unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        disk.on_op(move |_, op| {
            let is_data = op.kind == OpKind::Read && op.path.to_string_lossy().ends_with(".run");
            counted.fetch_add(usize::from(is_data), Ordering::Relaxed);
        });
        sleep(Duration::from_secs(10));
        let after = engine.table_stats();
        assert!(after.bytes < 25_000, "{after:?}");
        assert_eq!(reads.load(Ordering::Relaxed), 0, "nothing was read");
        engine.close().unwrap();
        let engine = open_small(&disk, Checkpoints::Automatic);
        assert_eq!(engine.keyspace_names().unwrap(), ["other", "small"]);
        assert_eq!((values(&engine, "small").len(), values(&engine, "other").len()), (10, 50));
    });
}

/// A merge that meets rot would fail for ever, and layers pile up: memory has what it cannot read.
#[test]
fn a_merge_that_meets_rot_has_all_written_again_from_memory() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 100, 1);
        checkpoint(&engine);
        let (path, mut bytes) =
            disk.files().into_iter().find(|(path, _)| path.to_string_lossy().ends_with(".run")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        disk.write_file(&path, &bytes).unwrap();
        put(&engine, "k", 0, 60, 2);
        checkpoint(&engine);
        let stats = engine.table_stats();
        assert_eq!((stats.healed, stats.merge_failures), (1, 1), "{stats:?}");
        assert!(stats.last_rot.is_some());
        put(&engine, "k", 60, 1, 3);
        checkpoint(&engine);
        assert!(engine.table_stats().last_failure.is_none());
        engine.close().unwrap();
        assert_eq!(values(&open(&disk), "k"), [vec![2; 60], vec![3], vec![1; 39]].concat());
    });
}

/// A step that could not write was taken for one that could not read, and all data were written again from memory.
#[test]
fn a_step_that_cannot_write_is_tried_again_and_heals_nothing() {
    for (kind, on, skip) in [(OpKind::Sync, ".run", 1), (OpKind::Sync, "MANIFEST.tmp", 1), (OpKind::Write, ".run", 1)] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open_small(&disk, Checkpoints::OnRequest);
            put(&engine, "k", 0, 15, 1);
            checkpoint(&engine);
            put(&engine, "k", 0, 9, 2);
            // Behind the one of the checkpoint.
            disk.inject(Fault::once(OpSelector::of(kind).on(on).skip(skip), FaultKind::Errno(5)));
            checkpoint(&engine);
            let stats = engine.table_stats();
            assert_eq!((stats.healed, stats.merge_failures, stats.merges), (0, 1, 0), "{on}: {stats:?}");
            assert!(stats.last_rot.is_none() && stats.last_failure.is_some(), "{on}: {stats:?}");
            put(&engine, "k", 0, 1, 3);
            checkpoint(&engine);
            let stats = engine.table_stats();
            assert!(stats.merges == 1 && stats.last_failure.is_none(), "{on}: {stats:?}");
            assert_eq!(values(&engine, "k"), [vec![3], vec![2; 8], vec![1; 6]].concat());
            engine.close().unwrap();
        });
    }
}

/// Nothing that the background writes comes faster than its pace, and a request does not wait for it.
#[test]
fn background_work_is_paced_and_a_request_is_not() {
    for by_request in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = Options::new().commit_mode(CommitMode::Async).open_on(Arc::new(disk.clone()), "db").unwrap();
            // Above a sixteenth of a checkpoint.
            put_large(&engine, 6);
            engine.flush().unwrap();
            let begin = schedule::now().unwrap();
            if by_request {
                engine.checkpoint().unwrap();
            } else {
                while engine.table_stats().checkpoints == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            let took = schedule::now().unwrap().since(begin);
            // 6 MiB, of which the first is free, at 16 MiB a second, behind 1 to 2 seconds of rest.
            let expected = Duration::from_millis(1000 + 5 * 1000 / 16);
            assert_eq!(took < Duration::from_millis(200), by_request, "{took:?}");
            assert_eq!(took >= expected, !by_request, "{took:?}");
            engine.close().unwrap();
        });
    }
}

/// What a request has written at once, the next checkpoint had to wait for.
#[test]
fn a_request_leaves_no_pause_behind() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = Options::new().commit_mode(CommitMode::Async).open_on(Arc::new(disk.clone()), "db").unwrap();
        put_large(&engine, 60);
        checkpoint(&engine);
        let before = engine.table_stats().checkpoints;
        put_large(&engine, 6);
        let begin = schedule::now().unwrap();
        while engine.table_stats().checkpoints == before {
            sleep(Duration::from_millis(1));
        }
        let took = schedule::now().unwrap().since(begin);
        assert!(took < Duration::from_millis(2700), "{took:?}");
        engine.close().unwrap();
    });
}

fn put_large(engine: &Engine, mebibytes: u32) {
    let keys = engine.create_keyspace("large").unwrap();
    for number in 0..mebibytes {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, number.to_be_bytes(), vec![7; 1 << 20]).unwrap();
        batch.commit().unwrap();
        sleep(Duration::from_millis(1));
    }
}

/// A close does not wait for what is paced.
#[test]
fn a_close_ends_the_pause_of_a_paced_checkpoint() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = Options::new().commit_mode(CommitMode::Async).open_on(Arc::new(disk.clone()), "db").unwrap();
        put_large(&engine, 20);
        while !disk.files().iter().any(|(path, _)| path.to_string_lossy().ends_with(".run")) {
            sleep(Duration::from_millis(10));
        }
        let begin = schedule::now().unwrap();
        engine.close().unwrap();
        let took = schedule::now().unwrap().since(begin);
        assert!(took < Duration::from_millis(50), "{took:?}");
    });
}

/// Checkpoints that take longer than commits need to bring the next one hold the commits up, and not for ever: what the log
/// owes stays bounded, whoever commits, and however many do.
#[test]
fn commits_wait_for_checkpoints_that_do_not_keep_up() {
    for threads in [1, 8] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            // So that a checkpoint of 4 KiB takes longer than it takes to commit as much.
            disk.set_sync_latency(Duration::from_millis(5));
            let engine = open_small(&disk, Checkpoints::Automatic);
            let keys = engine.create_keyspace("k").unwrap();
            let workers: Vec<_> = (0..threads)
                .map(|thread: u32| {
                    let (engine, keys) = (engine.clone(), keys.clone());
                    schedule::start("worker", move || {
                        for number in 0..4000 / threads {
                            let mut batch = engine.batch().unwrap();
                            batch.put(&keys, ((thread << 16) | (number % 50)).to_be_bytes(), [7; 100]).unwrap();
                            batch.commit().unwrap();
                            sleep(Duration::from_micros(10));
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(schedule::Simulated::join);
            let stats = engine.table_stats();
            assert!(stats.waits > 100 && stats.waited > Duration::from_millis(100), "{stats:?}");
            // Two checkpoints without a wait, as much again, one under way, and what came before it was known.
            assert!(stats.pending_bytes < 30_000, "{} threads: {stats:?}", threads);
            engine.close().unwrap();
        });
    }
}

/// Beside others who wanted the processors, checkpoints became far slower than they had been measured, and commits went on: a log of
/// 500 MiB in memory that was to have 128.
#[test]
fn commits_stop_for_checkpoints_that_have_become_slow() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::Automatic);
        let keys = engine.create_keyspace("k").unwrap();
        let mut most = 0;
        for number in 0..3000_u32 {
            if number == 1000 {
                let slow = FaultKind::Stall(Duration::from_millis(300));
                disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run"), slow));
            }
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, (number % 50).to_be_bytes(), [7; 100]).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
            sleep(Duration::from_micros(10));
            most = most.max(engine.table_stats().pending_ops);
        }
        // Five checkpoints of 4 KiB, for which an operation counts as 160 bytes, and one commit.
        assert!((100..=5 * 4096 / 160 + 2).contains(&most), "{most}");
        assert!(engine.table_stats().waits > 100, "{:?}", engine.table_stats());
        engine.close().unwrap();
    });
}

/// A disk that takes minutes for one sync of a checkpoint: commits go on until the log is as long as it may be, wait, and go on again.
/// Reads do not wait at all, nor do commits that come while the log is short.
#[test]
fn a_sync_in_the_background_that_stalls_holds_up_commits_late_and_reads_never() {
    let stalls = [(OpKind::Sync, ".run"), (OpKind::Sync, "MANIFEST.tmp"), (OpKind::SyncDir, "table")];
    let modes = [CommitMode::Sync, CommitMode::Written, CommitMode::Async];
    for ((kind, on), mode) in stalls.into_iter().flat_map(|stall| modes.map(|mode| (stall, mode))) {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open_small(&disk, Checkpoints::Automatic);
            let keys = engine.create_keyspace("k").unwrap();
            let (second, minutes) = (Duration::from_secs(1), Duration::from_secs(300));
            let begin = clock::now();
            let mut longest = (Duration::ZERO, Duration::ZERO);
            for number in 0..2000_u32 {
                if number == 100 {
                    disk.inject(Fault::once(OpSelector::of(kind).on(on), FaultKind::Stall(minutes)));
                }
                let before = clock::now();
                let mut batch = engine.batch().unwrap();
                batch.put(&keys, (number % 50).to_be_bytes(), [7; 100]).unwrap();
                batch.commit_with(mode).unwrap();
                let committed = clock::now();
                assert!(engine.snapshot().unwrap().get(&keys, (number % 50).to_be_bytes()).unwrap().is_some());
                let read = clock::now().since(committed);
                sleep(Duration::from_micros(10));
                let took = committed.since(before);
                assert!(took < second || engine.table_stats().pending_ops > 100, "{mode:?}, {on}: commit {number}");
                longest = (longest.0.max(took), longest.1.max(read));
            }
            let stats = engine.table_stats();
            assert!(disk.fault_hits() > 0 && stats.waits > 0 && stats.checkpoints > 3, "{mode:?}, {on}: {stats:?}");
            assert!(longest.0 < minutes + second && longest.1 < second, "{mode:?}, {on}: {longest:?}");
            assert!(clock::now().since(begin) < 2 * minutes);
            engine.close().unwrap();
        });
    }
}

/// Nobody waits for what cannot come.
#[test]
fn commits_do_not_wait_for_checkpoints_that_fail() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        disk.set_sync_latency(Duration::from_millis(5));
        let engine = open_small(&disk, Checkpoints::Automatic);
        put(&engine, "k", 0, 400, 1);
        sleep(Duration::from_secs(10));
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run"), FaultKind::Errno(28)));
        for number in 0..300 {
            put(&engine, "k", number, 1, 2);
            sleep(Duration::from_millis(1));
        }
        assert!(engine.table_stats().checkpoint_failures > 0);
        let waits = engine.table_stats().waits;
        for number in 0..300 {
            put(&engine, "k", number, 1, 3);
            sleep(Duration::from_millis(1));
        }
        assert_eq!(engine.table_stats().waits, waits);
        engine.close().unwrap();
    });
}
