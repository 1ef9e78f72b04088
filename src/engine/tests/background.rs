//! Checkpoints that nobody asks for: when they come, when not, and what becomes of one that fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::base::error::ErrorKind;
use crate::base::options::Checkpoints;
use crate::base::types::{CommitMode, Lsn};
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::schedule::{self, sleep};

/// In bytes.
const CHECKPOINT: u64 = 64 << 10;

pub(super) fn options() -> Options {
    Options::new().segment_bytes(8192).checkpoint_bytes(CHECKPOINT).commit_mode(CommitMode::Async)
}

pub(super) fn open(disk: &SimDisk) -> Engine {
    options().open_on(Arc::new(disk.clone()), "db").unwrap()
}

/// The same, and no checkpoint comes of its own accord.
pub(super) fn open_on_request(disk: &SimDisk) -> Engine {
    options().checkpoints(Checkpoints::OnRequest).open_on(Arc::new(disk.clone()), "db").unwrap()
}

/// Takes in everything that was committed.
pub(super) fn checkpoint(engine: &Engine) {
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
}

/// Commits so many kilobytes, over and over to the same 50 keys.
pub(super) fn put(engine: &Engine, kilobytes: u32) {
    let keys = engine.create_keyspace("keys").unwrap();
    for number in 0..kilobytes {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, (number % 50).to_be_bytes(), vec![7; 1000]).unwrap();
        batch.commit().unwrap();
        // So that other threads come to run, and flushes fall due.
        sleep(Duration::from_millis(1));
    }
}

pub(super) fn keys(engine: &Engine) -> usize {
    let keys = engine.open_keyspace("keys").unwrap();
    engine.snapshot().unwrap().iter(&keys).unwrap().count()
}

pub(super) fn bytes_of_log(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|(path, _)| is_log(path)).map(|(_, bytes)| bytes.len()).sum()
}

pub(super) fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn has_tables(disk: &SimDisk) -> bool {
    disk.files().iter().any(|(path, _)| path.starts_with("db/table"))
}

#[test]
fn the_log_does_not_grow_for_ever() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        for _ in 0..10 {
            put(&engine, 150);
            let (stats, log) = (engine.table_stats(), bytes_of_log(&disk));
            assert!(stats.pending_bytes < 3 * CHECKPOINT && log < 6 * 65536, "{log} bytes of log, {stats:?}");
        }
        let stats = engine.table_stats();
        assert!((10..=30).contains(&stats.checkpoints) && stats.merges > 0, "{stats:?}");
        assert!(stats.checkpoint_failures == 0 && stats.bytes < 300_000, "{stats:?}");
        engine.close().unwrap();
        let engine = open(&disk);
        assert_eq!(keys(&engine), 50);
    });
}

#[test]
fn a_log_that_rests_is_taken_in_and_a_short_one_is_left() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 2);
        sleep(Duration::from_secs(60));
        assert!(!has_tables(&disk), "a sixteenth of a checkpoint is worth one, and no less");
        put(&engine, 4);
        sleep(Duration::from_secs(4));
        assert_eq!((engine.table_stats().checkpoints, engine.table_stats().pending_bytes), (1, 0));
        let ops = disk.ops();
        sleep(Duration::from_secs(3600));
        assert_eq!(disk.ops(), ops, "what rests costs nothing");
    });
}

#[test]
fn a_close_takes_in_what_is_cheap() {
    for (kilobytes, takes) in [(1, false), (10, true), (40, false)] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open(&disk);
            put(&engine, kilobytes);
            engine.close().unwrap();
            assert_eq!(has_tables(&disk), takes, "{kilobytes} kB");
            let engine = open(&disk);
            assert_eq!(keys(&engine), kilobytes as usize);
            assert_eq!(engine.table_stats().pending_bytes == 0, takes);
        });
    }
}

/// An open writes nothing by itself: not before the first commit of its life.
#[test]
fn an_open_alone_makes_no_checkpoint() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 40);
        engine.close().unwrap();
        let engine = open(&disk);
        assert!(engine.table_stats().pending_bytes > 40_000);
        let ops = disk.ops();
        sleep(Duration::from_secs(3600));
        assert_eq!(disk.ops(), ops);
        put(&engine, 1);
        sleep(Duration::from_secs(4));
        assert_eq!((engine.table_stats().checkpoints, engine.table_stats().pending_bytes), (1, 0));
    });
}

/// A program that only reads leaves a database without tables as it is: an older version can still open it.
#[test]
fn a_close_without_a_commit_makes_no_first_checkpoint() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = options().checkpoints(Checkpoints::Never).open_on(Arc::new(disk.clone()), "db").unwrap();
        put(&engine, 10);
        engine.close().unwrap();
        let before = disk.files();
        let engine = open(&disk);
        assert_eq!(keys(&engine), 10);
        engine.close().unwrap();
        assert!(disk.files() == before);
    });
}

/// A close of a life without commits has HISTORY name MANIFEST if it can. It is no failure of the close if not.
#[test]
fn a_close_that_cannot_name_manifest_is_no_failure() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 3);
        checkpoint(&engine);
        put(&engine, 3);
        engine.close().unwrap();
        let engine = open(&disk);
        engine.checkpoint().unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on("HISTORY.tmp"), FaultKind::Errno(28)));
        engine.close().unwrap();
        assert_eq!(disk.fault_hits(), 1);
        disk.clear_faults();
        assert_eq!(keys(&open(&disk)), 3);
    });
}

/// A close takes in what is cheap, and merges nothing.
#[test]
fn a_close_does_not_merge() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_on_request(&disk);
        put(&engine, 50);
        checkpoint(&engine);
        put(&engine, 20);
        checkpoint(&engine);
        assert_eq!(engine.table_stats().layers, 2);
        engine.close().unwrap();
        let engine = open(&disk);
        put(&engine, 10);
        engine.close().unwrap();
        let engine = open(&disk);
        assert_eq!((engine.table_stats().layers, engine.table_stats().pending_bytes), (3, 0));
    });
}

#[test]
fn on_request_and_never_mean_it() {
    for choice in [Checkpoints::OnRequest, Checkpoints::Never] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = options().checkpoints(choice).open_on(Arc::new(disk.clone()), "db").unwrap();
            put(&engine, 100);
            sleep(Duration::from_secs(60));
            assert!(!has_tables(&disk));
            engine.flush().unwrap();
            match choice {
                Checkpoints::Never => {
                    assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Unsupported);
                    assert!(!has_tables(&disk));
                }
                _ => {
                    engine.checkpoint().unwrap();
                    assert!(has_tables(&disk));
                }
            }
            engine.close().unwrap();
        });
    }
}

/// Commits go on while the disk has no room for tables, and checkpoints when it has room again.
#[test]
fn a_checkpoint_that_fails_is_tried_again_and_less_and_less_often() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        disk.inject(Fault::lasting(OpSelector::any().on(".run"), FaultKind::Errno(28)));
        put(&engine, 200);
        sleep(Duration::from_secs(3600));
        let stats = engine.table_stats();
        assert!((60..80).contains(&stats.checkpoint_failures), "{stats:?}");
        let why = stats.last_failure.unwrap();
        assert_eq!(why.kind(), ErrorKind::DiskFull);
        assert!(why.to_string().contains(".run"), "{why}");
        disk.clear_faults();
        sleep(Duration::from_secs(70));
        let stats = engine.table_stats();
        assert!(stats.last_failure.is_none() && stats.pending_bytes == 0, "{stats:?}");
        let names =
            |suffix: &str| disk.files().iter().filter(|(path, _)| path.to_string_lossy().ends_with(suffix)).count();
        assert_eq!(names(".run"), stats.runs, "nothing is left of those that failed");
        assert_eq!(keys(&engine), 50);
    });
}

/// With `OnRequest` the program decides by what is pending: it is told the truth, after an open too.
/// Commits went on without a bound while checkpoints failed, and what they wrote could not leave memory.
#[test]
fn commits_end_when_checkpoints_fail_and_memory_is_full_and_go_on_when_they_do_not() {
    for mode in [CommitMode::Sync, CommitMode::Written, CommitMode::Async] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let options = options().memory_bytes(16 << 20).segment_bytes(1 << 20);
            let engine = options.open_on(Arc::new(disk.clone()), "db").unwrap();
            let keys = engine.create_keyspace("keys").unwrap();
            let put = |number: u32| {
                sleep(Duration::from_millis(1));
                let mut batch = engine.batch().unwrap();
                batch.put(&keys, number.to_be_bytes(), vec![7; 1000]).unwrap();
                batch.commit_with(mode)
            };
            disk.inject(Fault::lasting(OpSelector::any().on(".run"), FaultKind::Errno(13)));
            let refused = (0..40_000).find_map(|number| Some((number, put(number).err()?)));
            let (number, error) = refused.expect("memory has room for a tenth of them");
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("checkpoints fail") && error.io_error().is_some(), "{error}");
            let cause = error.io_error().map(ToString::to_string).unwrap_or_default();
            assert_eq!(error.to_string().matches(&cause).count(), 1, "{error}");
            let stats = engine.memory_stats();
            assert!(stats.records < stats.records_limit + (1 << 20), "{mode:?}: {stats:?}");
            // Nothing is lost, reads go on, and commits once a checkpoint has come.
            assert!(engine.snapshot().unwrap().get(&keys, (number - 1).to_be_bytes()).unwrap().is_some());
            disk.clear_faults();
            sleep(Duration::from_secs(120));
            (number..number + 4000).for_each(|number| _ = put(number).unwrap());
            assert_eq!(self::keys(&engine), number as usize + 4000);
            engine.close().unwrap();
        });
    }
}

#[test]
fn what_is_pending_is_counted_whoever_makes_checkpoints() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let open = || open_on_request(&disk);
        let engine = open();
        put(&engine, 30);
        engine.close().unwrap();
        let engine = open();
        assert!(engine.table_stats().pending_bytes > 30_000);
        engine.checkpoint().unwrap();
        assert_eq!(engine.table_stats().pending_bytes, 0);
        put(&engine, 1);
        assert!((1000..1200).contains(&engine.table_stats().pending_bytes));
    });
}

/// A failure behind the moment at which a layer counts is no failure of the checkpoint, and leaves nothing due for ever.
#[test]
fn a_failure_behind_the_installation_is_not_the_checkpoints() {
    for list in 0..4 {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open(&disk);
            put(&engine, 3);
            checkpoint(&engine);
            disk.inject(Fault::once(OpSelector::of(OpKind::List).on("table").skip(list), FaultKind::Errno(24)));
            put(&engine, 3);
            checkpoint(&engine);
            assert_eq!(engine.table_stats().pending_bytes, 0);
            // The merge behind it.
            sleep(Duration::from_secs(10));
            let ops = disk.ops();
            sleep(Duration::from_secs(3600));
            assert!(disk.ops() - ops < 20, "{} calls in an hour of rest", disk.ops() - ops);
        });
    }
}

/// A life that only checkpoints has HISTORY name its MANIFEST, so that the opens after it write nothing, and need no room.
#[test]
fn opens_behind_a_life_of_checkpoints_write_nothing() {
    for by_close in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open(&disk);
            put(&engine, 3);
            checkpoint(&engine);
            put(&engine, 10);
            drop(engine);
            let engine = open(&disk);
            if !by_close {
                engine.checkpoint().unwrap();
            }
            engine.close().unwrap();
        });
        let changes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&changes);
        disk.on_op(move |_, op| {
            counted.fetch_add(usize::from(op.kind.mutates()), Ordering::Relaxed);
        });
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Write), FaultKind::Errno(28)));
        schedule::run(1, || {
            let engine = open(&disk);
            assert_eq!((keys(&engine), engine.table_stats().pending_bytes), (10, 0));
        });
        assert_eq!(changes.load(Ordering::Relaxed), 0);
        disk.clear_on_op();
    }
}

/// A close does not wait for a merge, or for a checkpoint of the background.
#[test]
fn a_close_beside_a_checkpoint_loses_nothing() {
    for seed in 0..30 {
        let disk = SimDisk::new();
        schedule::run(seed, || {
            let engine = open(&disk);
            put(&engine, 65);
            sleep(Duration::from_micros(seed * 20));
            engine.close().unwrap();
            let ops = disk.ops();
            sleep(Duration::from_secs(10));
            assert_eq!(disk.ops(), ops, "nothing is done after a close");
            assert_eq!(keys(&open(&disk)), 50);
        });
    }
}

/// What lives in memory alone has nobody who reads its log.
#[test]
fn a_database_in_memory_gives_its_log_back() {
    schedule::run(1, || {
        let engine = options().in_memory().unwrap();
        for _ in 0..10 {
            put(&engine, 150);
            let (pending, segments) = (
                engine.table_stats().pending_bytes,
                engine.pipeline().log.incarnations().look(|known| known.segments.len()),
            );
            assert!(pending < 3 * CHECKPOINT && segments < 60, "{pending} bytes, {segments} segments");
        }
        assert_eq!(keys(&engine), 50);
        engine.checkpoint().unwrap();
        assert_eq!((engine.table_stats().pending_bytes, engine.table_stats().up_to), (0, Lsn::ZERO));
        put(&engine, 1);
        let token = {
            let mut batch = engine.batch().unwrap();
            batch.put(&engine.open_keyspace("keys").unwrap(), "k", "v").unwrap();
            batch.commit_with(CommitMode::Sync).unwrap().token()
        };
        assert_eq!(engine.outcome(&token).unwrap(), crate::Outcome::Durable);
        engine.close().unwrap();
    });
}

/// Nobody was told why there were no tables.
#[test]
fn a_thread_that_is_refused_is_the_failure_until_a_later_commit_has_one() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 1);
        schedule::refuse_a_thread_after(0);
        put(&engine, 7);
        let stats = engine.table_stats();
        let why = stats.last_failure.expect("the thread is refused").to_string();
        assert!(why.contains("thread for checkpoints") && why.contains("ulimit -u"), "{why}");
        assert_eq!((stats.checkpoints, stats.checkpoint_failures), (0, 0));
        put(&engine, 100);
        let stats = engine.table_stats();
        assert!(stats.checkpoints > 0 && stats.last_failure.is_none(), "{stats:?}");
        engine.close().unwrap();
    });
}

/// A program that commits once and ends: each of its lives left a file, and the sixteenth part of a checkpoint is a thousand of them.
#[test]
fn the_files_of_many_short_lives_go() {
    for is_killed in [false, true] {
        let mut disk = SimDisk::new();
        schedule::run(1, || {
            let logs = |disk: &SimDisk| disk.files().iter().filter(|(path, _)| is_log(path)).count();
            let mut most = 0;
            for _ in 0..200 {
                let engine = Options::new().open_on(Arc::new(disk.clone()), "db").unwrap();
                put_one(&engine);
                if is_killed {
                    // Once the log rests.
                    sleep(Duration::from_secs(5));
                    let left = disk.crash_point().process_kill();
                    engine.close().unwrap();
                    disk = left;
                } else {
                    engine.close().unwrap();
                }
                most = most.max(logs(&disk));
            }
            assert!((60..70).contains(&most), "{most} files, killed: {is_killed}");
        });
    }
}

fn put_one(engine: &Engine) {
    let keys = engine.create_keyspace("keys").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keys, [1], [7]).unwrap();
    batch.commit_with(CommitMode::Written).unwrap();
}
