//! Checkpoints that nobody asks for: when they come, when not, and what becomes of one that fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::base::error::ErrorKind;
use crate::base::options::Checkpoints;
use crate::base::types::{CommitMode, Lsn};
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::schedule::{self, sleep};

/// In bytes.
const CHECKPOINT: u64 = 64 << 10;

fn options() -> Options {
    Options::new().segment_bytes(8192).checkpoint_bytes(CHECKPOINT).commit_mode(CommitMode::Async)
}

fn open(disk: &SimDisk) -> Engine {
    options().open_on(Arc::new(disk.clone()), "db").unwrap()
}

/// Commits so many kilobytes, over and over to the same 50 keys.
fn put(engine: &Engine, kilobytes: u32) {
    let keys = engine.create_keyspace("keys").unwrap();
    for number in 0..kilobytes {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, (number % 50).to_be_bytes(), vec![7; 1000]).unwrap();
        batch.commit().unwrap();
        // So that other threads come to run, and flushes fall due.
        sleep(Duration::from_millis(1));
    }
}

fn keys(engine: &Engine) -> usize {
    let keys = engine.open_keyspace("keys").unwrap();
    engine.snapshot().unwrap().iter(&keys).unwrap().count()
}

fn bytes_of_log(disk: &SimDisk) -> usize {
    let is_log = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "log");
    disk.files().iter().filter(|(path, _)| is_log(path)).map(|(_, bytes)| bytes.len()).sum()
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
#[test]
fn what_is_pending_is_counted_whoever_makes_checkpoints() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let open = || options().checkpoints(Checkpoints::OnRequest).open_on(Arc::new(disk.clone()), "db").unwrap();
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
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
            disk.inject(Fault::once(OpSelector::of(OpKind::List).on("table").skip(list), FaultKind::Errno(24)));
            put(&engine, 3);
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
            assert_eq!(engine.table_stats().pending_bytes, 0);
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
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
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

/// Someone restores an older copy over the open database, in place. Nothing of the copy may go.
#[test]
fn a_copy_that_is_restored_over_open_tables_stays_whole() {
    for by_close in [false, true] {
        let disk = SimDisk::new();
        let mut copy = Vec::new();
        schedule::run(1, || {
            let engine = open(&disk);
            put(&engine, 5);
            engine.close().unwrap();
            copy = disk.files();
            let engine = open(&disk);
            for _ in 0..3 {
                put(&engine, 5);
                engine.flush().unwrap();
                engine.checkpoint().unwrap();
            }
            put(&engine, 6);
            engine.flush().unwrap();
            for (path, _) in disk.files() {
                if !path.ends_with("LOCK") {
                    disk.delete(path).unwrap();
                }
            }
            for (path, bytes) in copy.iter().filter(|(path, _)| !path.ends_with("LOCK")) {
                disk.write_file(path, bytes).unwrap();
            }
            if by_close {
                let _ = engine.close();
            } else {
                assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
                assert_eq!(engine.poisoned().unwrap().cause.kind(), ErrorKind::Removed);
                let _ = engine.close();
            }
        });
        let left = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
            files.into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
        };
        assert!(left(disk.files()) == left(copy), "nothing of the copy has changed");
        schedule::run(1, || assert_eq!(keys(&open(&disk)), 5));
    }
}

/// While the rename of MANIFEST fails, each try could leave a layer. It leaves one.
#[test]
fn a_rename_that_fails_for_an_hour_leaves_one_layer() {
    for has_tables in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open(&disk);
            put(&engine, 5);
            if has_tables {
                engine.flush().unwrap();
                engine.checkpoint().unwrap();
            }
            disk.inject(Fault::lasting(OpSelector::of(OpKind::Rename).on("MANIFEST.tmp"), FaultKind::Errno(5)));
            put(&engine, 60);
            sleep(Duration::from_secs(3600));
            let in_tables = |disk: &SimDisk| -> usize {
                disk.files().iter().filter(|(path, _)| path.starts_with("db/table")).map(|(_, bytes)| bytes.len()).sum()
            };
            assert!(engine.table_stats().checkpoint_failures > 50);
            let bytes = in_tables(&disk);
            assert!(bytes < if has_tables { 200_000 } else { 1_000_000 }, "{bytes} bytes");
            disk.clear_faults();
            sleep(Duration::from_secs(70));
            assert_eq!(engine.table_stats().pending_bytes, 0);
            assert!(in_tables(&disk) < 200_000, "what was in doubt is gone");
            engine.close().unwrap();
            assert_eq!(keys(&open(&disk)), 50);
        });
    }
}

/// Keyspaces come and go while the log is rotten, with commits that are not durable yet: the layer from memory ends where
/// the durable log does.
#[test]
fn healing_beside_commits_keeps_every_keyspace() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        schedule::run(seed, || {
            let engine = options().checkpoints(Checkpoints::OnRequest).open_on(Arc::new(disk.clone()), "db").unwrap();
            put(&engine, 30);
            engine.flush().unwrap();
            let logs = disk.files().into_iter().map(|(path, _)| path);
            let second = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).nth(1).unwrap();
            disk.flip_bit(second, 3000 * 8).unwrap();
            disk.drop_caches();
            let other = engine.clone();
            let beside = schedule::start("beside", move || {
                for number in 0..10 {
                    let name = format!("k{number}");
                    let keyspace = other.create_keyspace(&name).unwrap();
                    let mut batch = other.batch().unwrap();
                    batch.put(&keyspace, "key", name.as_bytes()).unwrap();
                    batch.commit().unwrap();
                    if number % 3 == 2 {
                        other.drop_keyspace(&name).unwrap();
                    }
                    sleep(Duration::from_millis(seed % 4));
                }
            });
            sleep(Duration::from_millis(seed % 7));
            engine.checkpoint().unwrap();
            assert_eq!(engine.table_stats().healed, 1);
            beside.join();
            let expected = engine.keyspace_names().unwrap();
            assert_eq!(expected.len(), 8);
            if seed % 2 == 0 {
                engine.flush().unwrap();
                engine.checkpoint().unwrap();
            }
            engine.close().unwrap();
            let engine = open(&disk);
            assert_eq!(engine.keyspace_names().unwrap(), expected);
            for name in expected.iter().filter(|name| *name != "keys") {
                let keyspace = engine.open_keyspace(name).unwrap();
                assert_eq!(engine.snapshot().unwrap().get(&keyspace, "key").unwrap().unwrap(), name.as_bytes());
            }
            assert_eq!(keys(&engine), 30);
        });
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

/// The bits of a segment that was written long ago have rotted. Memory has what it held, and a checkpoint writes that.
#[test]
fn rot_behind_the_tables_is_healed() {
    for older in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = options().checkpoints(Checkpoints::OnRequest).open_on(Arc::new(disk.clone()), "db").unwrap();
            let gone = engine.create_keyspace("gone").unwrap();
            put(&engine, 30);
            if older {
                engine.flush().unwrap();
                engine.checkpoint().unwrap();
            }
            let keys_ = engine.open_keyspace("keys").unwrap();
            let mut batch = engine.batch().unwrap();
            batch.delete(&keys_, 3_u32.to_be_bytes()).unwrap();
            batch.put(&gone, "k", "v").unwrap();
            batch.commit().unwrap();
            engine.drop_keyspace("gone").unwrap();
            put(&engine, 3);
            put(&engine, 20);
            engine.flush().unwrap();
            let (lsn, records) = (engine.durable_lsn(), keys(&engine));
            // Each segment that is there: in the middle of its frames.
            let logs: Vec<_> =
                disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")).collect();
            let (path, _) = &logs[1];
            disk.flip_bit(path, 3000 * 8).unwrap();
            disk.drop_caches();
            engine.checkpoint().unwrap();
            let stats = engine.table_stats();
            assert_eq!((stats.healed, stats.layers, stats.up_to), (1, 1, lsn), "{stats:?}");
            assert!(stats.last_rot.unwrap().damage().is_some());
            assert_eq!(stats.pending_bytes, 0);
            let lost = disk.crash_point().power_loss(&Loss::Everything, Granularity::default());
            let engine = open(&lost);
            assert_eq!((engine.visible_lsn(), keys(&engine)), (lsn, records));
            assert_eq!(engine.keyspace_names().unwrap(), ["keys"]);
            let again = engine.create_keyspace("gone").unwrap();
            assert_eq!(engine.snapshot().unwrap().iter(&again).unwrap().count(), 0);
            put(&engine, 50);
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
            assert_eq!(keys(&engine), 50);
        });
    }
}

/// Commits into a file that nobody will find are worse than none.
#[test]
fn a_segment_that_is_gone_stops_the_log() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = options().checkpoints(Checkpoints::OnRequest).open_on(Arc::new(disk.clone()), "db").unwrap();
        put(&engine, 30);
        engine.flush().unwrap();
        let first =
            disk.files().into_iter().map(|(path, _)| path).find(|path| path.extension().is_some_and(|e| e == "log"));
        disk.delete(first.unwrap()).unwrap();
        assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(engine.poisoned().unwrap().cause.kind(), ErrorKind::Removed);
    });
}

/// An operator has moved the tables away, or put older ones in their place: the MANIFEST went there, and the log must stay.
#[test]
fn tables_that_were_moved_keep_the_log() {
    for put_back in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = options().checkpoints(Checkpoints::OnRequest).open_on(Arc::new(disk.clone()), "db").unwrap();
            put(&engine, 30);
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
            let older = disk.files();
            put(&engine, 50);
            engine.flush().unwrap();
            disk.rename_dir("db/table", "db/away").unwrap();
            if put_back {
                disk.make_dir("db/table").unwrap();
                for (path, bytes) in older.iter().filter(|(path, _)| path.starts_with("db/table")) {
                    disk.write_file(path, bytes).unwrap();
                }
            }
            let before = bytes_of_log(&disk);
            assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
            assert_eq!(engine.poisoned().unwrap().cause.kind(), ErrorKind::Removed);
            assert_eq!(bytes_of_log(&disk), before, "nothing is removed");
            let _ = engine.close();
            if put_back {
                // The older tables and the log above them are all there is to have.
                assert_eq!(keys(&open(&disk)), 50);
            } else {
                disk.rename_dir("db/away", "db/table").unwrap();
                assert_eq!(keys(&open(&disk)), 50);
            }
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
