//! A disk that becomes full: the log ends while a checkpoint can still give room back (`table/FAULTS.md`, section 4).

use std::sync::Arc;

use super::background::{checkpoint, keys};
use crate::base::error::{Error, ErrorKind};
use crate::base::options::Checkpoints;
use crate::base::types::CommitMode;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::engine::{Engine, Options};
use crate::rt::schedule;

/// In bytes.
const DISK: u64 = 6 << 20;
const VALUE: usize = 10_000;

fn full(bytes: u64) -> SimDisk {
    let disk = SimDisk::new();
    disk.set_capacity(bytes);
    disk
}

fn open(disk: &SimDisk, checkpoints: Checkpoints) -> Engine {
    let options = Options::new().segment_bytes(1 << 20).checkpoint_bytes(1 << 20).checkpoints(checkpoints);
    options.commit_mode(CommitMode::Async).open_on(Arc::new(disk.clone()), "db").unwrap()
}

fn put(engine: &Engine, key: u32) -> Result<(), Error> {
    let keys = engine.create_keyspace("keys")?;
    let mut batch = engine.batch()?;
    batch.put(&keys, key.to_be_bytes(), vec![7; VALUE])?;
    batch.commit().map(drop)
}

/// Puts keys from `from` on until that fails. Returns the one that failed, and why.
fn fill(engine: &Engine, from: u32) -> (u32, Error) {
    (from..10_000).find_map(|key| put(engine, key).err().map(|error| (key, error))).expect("the disk became full")
}

/// Fills the disk until no checkpoint gives room back. Returns how many keys there are.
fn fill_up(engine: &Engine) -> u32 {
    let mut filled = 0;
    loop {
        let (next, error) = fill(engine, filled);
        assert_full(&error);
        if next == filled {
            return filled;
        }
        filled = next;
        checkpoint(engine);
    }
}

fn assert_full(error: &Error) {
    assert!(error.kind() == ErrorKind::DiskFull && error.is_retryable(), "{error}");
}

/// Everything fits into the log, and nothing is left for tables: without a rule no checkpoint could ever give room back.
#[test]
fn the_log_ends_while_a_checkpoint_can_give_room_back() {
    let disk = full(DISK);
    schedule::run(1, || {
        let engine = open(&disk, Checkpoints::OnRequest);
        let (mut filled, mut rounds) = (0, 0);
        loop {
            let (next, error) = fill(&engine, filled);
            assert_full(&error);
            assert!(error.to_string().contains("no room for more log"), "{error}");
            if next == filled {
                break;
            }
            (filled, rounds) = (next, rounds + 1);
            checkpoint(&engine);
        }
        assert!(rounds > 2, "room came back {rounds} times");
        let stored = u64::from(filled) * VALUE as u64;
        // Up to a segment less, as the threads have their turns.
        assert!(stored > DISK / 2, "{stored} bytes of {DISK}");
        engine.close().unwrap();
        let engine = open(&disk, Checkpoints::OnRequest);
        assert_eq!(keys(&engine), filled as usize);
        engine.close().unwrap();
    });
}

/// Checkpoints that come of their own accord come before a commit is refused, though none is due yet.
#[test]
fn no_commit_is_refused_while_a_checkpoint_gives_room_back() {
    let disk = full(DISK);
    schedule::run(1, || {
        let options = Options::new().segment_bytes(1 << 20).commit_mode(CommitMode::Async);
        let engine = options.open_on(Arc::new(disk.clone()), "db").unwrap();
        for number in 0..3000 {
            put(&engine, number % 50)
                .unwrap_or_else(|error| panic!("commit {number}: {error}, {:?}", engine.table_stats()));
        }
        let stats = engine.table_stats();
        assert!(stats.checkpoints > 5 && stats.checkpoint_failures == 0 && stats.merges > 2, "{stats:?}");
        engine.close().unwrap();
    });
}

/// What other programs took comes back: nobody has to reopen anything, and no checkpoint is needed.
#[test]
fn writing_goes_on_as_soon_as_there_is_room() {
    for choice in [Checkpoints::Automatic, Checkpoints::OnRequest, Checkpoints::Never] {
        let disk = full(DISK);
        schedule::run(1, || {
            let engine = open(&disk, choice);
            let (filled, error) = fill(&engine, 0);
            assert_full(&error);
            disk.set_capacity(2 * DISK);
            put(&engine, filled).unwrap();
            engine.close().unwrap();
            let engine = open(&disk, choice);
            assert_eq!(keys(&engine), filled as usize + 1);
        });
    }
}

/// Nobody could give room back: the log has all of the disk, as a bare log has.
#[test]
fn without_checkpoints_the_log_takes_all_of_the_disk() {
    let disk = full(DISK);
    schedule::run(1, || {
        let engine = open(&disk, Checkpoints::Never);
        let (_, error) = fill(&engine, 0);
        assert!(!error.to_string().contains("no room for more log"), "{error}");
        let free = disk.open_dir("db".as_ref()).unwrap().room().unwrap().unwrap();
        assert!(free < 1 << 20, "{free} bytes are free");
    });
}

/// A disk is not full because a segment is large.
#[test]
fn a_segment_that_does_not_fit_is_made_smaller() {
    let disk = full(8 << 20);
    schedule::run(1, || {
        let options = Options::new().checkpoints(Checkpoints::OnRequest).commit_mode(CommitMode::Async);
        let engine = options.open_on(Arc::new(disk.clone()), "db").unwrap();
        // Segments of 1 MiB and less; by itself the second one would have 2, and the third one 4.
        let (filled, error) = fill(&engine, 0);
        assert_full(&error);
        let pending = engine.table_stats().pending_bytes;
        assert!(pending > 1_300_000, "{pending} bytes in {filled} commits");
        checkpoint(&engine);
    });
}

/// A program that commits once and ends, over and over: what is left for a checkpoint is not used up by the first segments
/// of its lives.
#[test]
fn short_lives_leave_room_for_a_checkpoint() {
    let disk = full(DISK);
    schedule::run(1, || {
        let mut filled = 0;
        loop {
            let engine = open(&disk, Checkpoints::OnRequest);
            match put(&engine, filled) {
                Ok(()) => filled += 1,
                Err(error) => break assert_full(&error),
            }
            engine.close().unwrap();
        }
        let engine = open(&disk, Checkpoints::OnRequest);
        engine.checkpoint().unwrap();
        put(&engine, filled).unwrap();
        assert_eq!(keys(&engine), filled as usize + 1);
        engine.close().unwrap();
    });
}

/// A quota shows in no look at the file system. It is met by a typed error, and what was refused can be tried again.
#[test]
fn a_quota_refuses_commits_and_stops_nothing() {
    for choice in [Checkpoints::Automatic, Checkpoints::OnRequest] {
        let disk = SimDisk::new();
        disk.set_quota(DISK);
        schedule::run(1, || {
            let engine = open(&disk, choice);
            let (filled, error) = fill(&engine, 0);
            assert_full(&error);
            assert!(engine.poisoned().is_none());
            assert!(u64::from(filled) * VALUE as u64 > DISK / 2, "{filled} commits");
            disk.set_quota(3 * DISK);
            put(&engine, filled).unwrap();
            checkpoint(&engine);
            engine.close().unwrap();
            let engine = open(&disk, choice);
            assert_eq!(keys(&engine), filled as usize + 1);
        });
    }
}

/// Nor is there a room that could be left for deletions and checkpoints: each of them may be refused, and nothing is lost by a close
/// and an open within the quota.
#[test]
fn within_a_quota_that_is_used_up_everything_is_refused_or_done() {
    let disk = SimDisk::new();
    disk.set_quota(DISK);
    schedule::run(1, || {
        let engine = open(&disk, Checkpoints::OnRequest);
        let (filled, error) = fill(&engine, 0);
        assert_full(&error);
        let mut left = filled as usize;
        for round in 0..3 {
            let engine = if round == 0 { engine.clone() } else { open(&disk, Checkpoints::OnRequest) };
            match delete(&engine, 0..40) {
                Ok(()) => left = filled as usize - 40,
                Err(error) => assert_full(&error),
            }
            engine.checkpoint().unwrap_or_else(|error| assert_full(&error));
            engine.flush().unwrap();
            assert_eq!(keys(&engine), left);
            engine.close().unwrap();
        }
        disk.set_quota(3 * DISK);
        let engine = open(&disk, Checkpoints::OnRequest);
        delete(&engine, 0..40).unwrap();
        checkpoint(&engine);
        assert_eq!(keys(&engine), filled as usize - 40);
        engine.close().unwrap();
    });
}

fn delete(engine: &Engine, keys: std::ops::Range<u32>) -> Result<(), Error> {
    let keyspace = engine.create_keyspace("keys")?;
    let mut batch = engine.batch()?;
    keys.into_iter().try_for_each(|key| batch.delete(&keyspace, key.to_be_bytes()))?;
    batch.commit().map(drop)
}

/// Who has filled a disk deletes first. Commits that put something do not take the room that is left for that.
#[test]
fn deletions_go_on_on_a_full_disk() {
    for choice in [Checkpoints::Automatic, Checkpoints::OnRequest] {
        let disk = full(DISK);
        schedule::run(1, || {
            let engine = open(&disk, choice);
            let mut filled = fill_up(&engine);
            for first in [0, 50, 100] {
                (first..first + 50).for_each(|key| delete(&engine, key..key + 40).unwrap());
                match put(&engine, filled) {
                    // A merge has given back what was deleted.
                    Ok(()) => filled += 1,
                    Err(error) => assert_full(&error),
                }
                checkpoint(&engine);
            }
            assert_eq!(keys(&engine), filled as usize - 189);
            engine.close().unwrap();
            // And as the first of a life.
            let engine = open(&disk, choice);
            delete(&engine, 200..201).unwrap();
            assert_eq!(keys(&engine), filled as usize - 190);
            engine.close().unwrap();
        });
    }
}

/// The same with a deletion of a range, the first of which replaces HISTORY, and with a keyspace that is dropped.
#[test]
fn ranges_and_keyspaces_are_deleted_on_a_full_disk() {
    for choice in [Checkpoints::Automatic, Checkpoints::OnRequest] {
        let disk = full(DISK);
        schedule::run(1, || {
            let engine = open(&disk, choice);
            engine.create_keyspace("other").unwrap();
            let filled = fill_up(&engine);
            let keyspace = engine.open_keyspace("keys").unwrap();
            let mut batch = engine.batch().unwrap();
            batch.delete_range(&keyspace, 0_u32.to_be_bytes()..100_u32.to_be_bytes()).unwrap();
            batch.commit().unwrap();
            checkpoint(&engine);
            assert_eq!(keys(&engine), filled as usize - 100);
            engine.drop_keyspace("keys").unwrap();
            checkpoint(&engine);
            let stats = engine.table_stats();
            assert!(stats.bytes < DISK / 4, "{choice:?}: {stats:?}");
            for key in 0..50 {
                if let Err(error) = put(&engine, key) {
                    assert_full(&error);
                    checkpoint(&engine);
                    put(&engine, key).unwrap_or_else(|error| panic!("{choice:?}, {key}: {error}; {stats:?}"));
                }
            }
            engine.close().unwrap();
            assert_eq!(keys(&open(&disk, choice)), 50);
        });
    }
}
