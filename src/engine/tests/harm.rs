//! Checkpoints of a database that was harmed: rot in the log, files that were moved, restored or cannot be renamed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::background::{bytes_of_log, checkpoint, is_log, keys, open, open_on_request, options, put};
use crate::base::error::ErrorKind;
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use crate::engine::ReadOnlyOptions;
use crate::rt::schedule::{self, sleep};

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
                checkpoint(&engine);
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
                checkpoint(&engine);
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

/// A life without a commit has HISTORY in common with every copy made since the last close: its MANIFEST tells the two apart.
#[test]
fn a_copy_that_is_restored_over_a_life_without_commits_stays_whole() {
    for (by_close, merges) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = SimDisk::new();
        let mut copy = Vec::new();
        schedule::run(1, || {
            let open = || open_on_request(&disk);
            let engine = open();
            put(&engine, if merges { 1 } else { 50 });
            checkpoint(&engine);
            put(&engine, 20);
            engine.close().unwrap();
            copy = disk.files();
            let engine = open();
            engine.checkpoint().unwrap();
            assert_eq!(engine.table_stats().layers == 1, merges);
            let table = |path: &PathBuf| path.starts_with("db/table");
            for (path, _) in disk.files().iter().filter(|(path, _)| table(path)) {
                disk.delete(path).unwrap();
            }
            for (path, bytes) in copy.iter().filter(|(path, _)| table(path) || is_log(path)) {
                disk.write_file(path, bytes).unwrap();
            }
            if !by_close {
                assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
                assert_eq!(engine.poisoned().unwrap().cause.kind(), ErrorKind::Removed);
            }
            let _ = engine.close();
        });
        assert!(disk.files() == copy, "nothing of the copy has changed, {by_close} {merges}");
        schedule::run(1, || assert_eq!(keys(&open(&disk)), if merges { 20 } else { 50 }));
    }
}

/// They are moved between the look and the end of the checkpoint: the MANIFEST went there, and no segment may go.
#[test]
fn tables_that_are_moved_meanwhile_keep_the_log() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_on_request(&disk);
        put(&engine, 30);
        checkpoint(&engine);
        put(&engine, 40);
        engine.flush().unwrap();
        let before = bytes_of_log(&disk);
        disk.on_op(|disk, op| {
            if op.kind == OpKind::Rename && op.path.ends_with("MANIFEST.tmp") {
                disk.rename_dir("db/table", "db/away").unwrap();
            }
        });
        assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
        disk.clear_on_op();
        assert_eq!(bytes_of_log(&disk), before, "nothing is removed");
        let _ = engine.close();
        disk.rename_dir("db/away", "db/table").unwrap();
        assert_eq!(keys(&open(&disk)), 40);
    });
}

/// Nothing of this life is durable yet: a layer from memory ends with the life before.
#[test]
fn healing_before_the_first_flush_of_a_life_ends_with_the_one_before() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let open = || open_on_request(&disk);
        let engine = open();
        put(&engine, 30);
        engine.close().unwrap();
        let engine = open();
        let first = disk.files().into_iter().map(|(path, _)| path).find(|path| is_log(path));
        disk.flip_bit(first.unwrap(), 3000 * 8).unwrap();
        disk.drop_caches();
        let all = engine.open_keyspace("keys").unwrap();
        let mut batch = engine.batch().unwrap();
        batch.put(&all, "new", "value").unwrap();
        batch.commit().unwrap();
        assert!(engine.durable_lsn() < engine.visible_lsn(), "it is not flushed yet");
        engine.checkpoint().unwrap();
        assert_eq!(engine.table_stats().healed, 1);
        engine.close().unwrap();
        assert_eq!(keys(&open()), 31);
    });
}

/// Someone removes or cuts files of the tables. No commit may be lost by that: memory has what they held.
#[test]
fn tables_that_are_gone_are_written_again() {
    for suffix in [".run", ".keys"] {
        for is_cut in [false, true] {
            let disk = SimDisk::new();
            schedule::run(1, || {
                let engine = open(&disk);
                put(&engine, 30);
                checkpoint(&engine);
                let mut names = disk.files().into_iter().map(|(path, _)| path);
                let name = names.find(|path| path.to_str().unwrap().ends_with(suffix)).unwrap();
                if is_cut {
                    disk.truncate(&name, 100).unwrap();
                } else {
                    disk.delete(&name).unwrap();
                }
                put(&engine, 40);
                checkpoint(&engine);
                let stats = engine.table_stats();
                assert_eq!((stats.healed, stats.pending_bytes), (1, 0));
                assert!(stats.last_rot.unwrap().to_string().contains(suffix));
                engine.close().unwrap();
                assert_eq!(keys(&open(&disk)), 40);
            });
        }
    }
}

/// The first checkpoint of a database heals, and its MANIFEST is in doubt: that must not end all healing.
#[test]
fn a_first_layer_from_memory_may_be_in_doubt() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 30);
        engine.flush().unwrap();
        let first = disk.files().into_iter().map(|(path, _)| path).find(|path| is_log(path));
        disk.flip_bit(first.unwrap(), 530 * 8).unwrap();
        disk.drop_caches();
        disk.inject(Fault::once(OpSelector::of(OpKind::Rename).on("MANIFEST.tmp"), FaultKind::Errno(5)));
        put(&engine, 3);
        sleep(Duration::from_secs(100));
        let stats = engine.table_stats();
        assert_eq!((stats.healed, stats.pending_bytes, disk.fault_hits()), (1, 0, 1), "{stats:?}");
        engine.close().unwrap();
        assert_eq!(keys(&open(&disk)), 30);
    });
}

/// "Would open", it said of what does not.
#[test]
fn verify_tells_what_stands_in_the_way_of_manifest() {
    let disk = SimDisk::new();
    let mut killed = None;
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 3);
        checkpoint(&engine);
        killed = Some(disk.crash_point());
    });
    let killed = killed.unwrap();
    for is_in_the_way in [false, true] {
        let image = killed.process_kill();
        if is_in_the_way {
            image.make_dir("db/table/MANIFEST.tmp").unwrap();
        }
        let verify = || ReadOnlyOptions::new().verify_on(Arc::new(image.clone()), "db").unwrap();
        let found = verify().obstacle;
        let opened = schedule::run(1, || options().open_on(Arc::new(image.clone()), "db").map(drop));
        assert_eq!(found.map(|error| error.kind()), opened.err().map(|error| error.kind()));
        assert_eq!(verify().obstacle.is_some(), is_in_the_way);
    }
}

/// What an earlier life has left may be all that fills the disk. Room for a MANIFEST is enough to give it back.
#[test]
fn a_little_room_is_enough_to_leave_a_full_disk() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open(&disk);
        put(&engine, 30);
        checkpoint(&engine);
        put(&engine, 3);
        engine.close().unwrap();
        disk.write_file("db/table/0000000000000077.run", &[7; 100_000]).unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Write).on("table/MANIFEST.tmp"), FaultKind::Errno(28)));
        let engine = open(&disk);
        disk.clear_faults();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Write).on(".run"), FaultKind::Errno(28)));
        assert!(engine.checkpoint().is_err());
        assert!(disk.read_file("db/table/0000000000000077.run").is_err(), "it is nobody's, and goes first");
        disk.clear_faults();
        engine.checkpoint().unwrap();
    });
}

/// Keyspaces come and go while the log is rotten, with commits that are not durable yet: the layer from memory ends where
/// the durable log does.
#[test]
fn healing_beside_commits_keeps_every_keyspace() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        schedule::run(seed, || {
            let engine = open_on_request(&disk);
            put(&engine, 30);
            engine.flush().unwrap();
            let logs = disk.files().into_iter().map(|(path, _)| path);
            let second = logs.filter(|path| is_log(path)).nth(1).unwrap();
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
                checkpoint(&engine);
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

/// The bits of a segment that was written long ago have rotted. Memory has what it held, and a checkpoint writes that.
#[test]
fn rot_behind_the_tables_is_healed() {
    for older in [false, true] {
        let disk = SimDisk::new();
        schedule::run(1, || {
            let engine = open_on_request(&disk);
            let gone = engine.create_keyspace("gone").unwrap();
            put(&engine, 30);
            if older {
                checkpoint(&engine);
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
            let logs: Vec<_> = disk.files().into_iter().filter(|(path, _)| is_log(path)).collect();
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
            checkpoint(&engine);
            assert_eq!(keys(&engine), 50);
        });
    }
}

/// Commits into a file that nobody will find are worse than none.
#[test]
fn a_segment_that_is_gone_stops_the_log() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_on_request(&disk);
        put(&engine, 30);
        engine.flush().unwrap();
        let first = disk.files().into_iter().map(|(path, _)| path).find(|path| is_log(path));
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
            let engine = open_on_request(&disk);
            put(&engine, 30);
            checkpoint(&engine);
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
