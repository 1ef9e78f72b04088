//! Descriptors for event loops.
#![cfg(unix)]

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use forelog::limits::MAX_DURABLE_FDS;
use forelog::{CommitMode, DurableFd, Engine, ErrorKind, Lsn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crashkit::{in_memory, kind_of, put};

fn is_readable_within(fd: &impl AsFd, time: Duration) -> bool {
    let time = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap(), tv_nsec: i64::from(time.subsec_nanos()) };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&time)).unwrap() > 0
}

fn is_readable(fd: &impl AsFd) -> bool {
    is_readable_within(fd, Duration::ZERO)
}

/// What an event loop does. A descriptor that stays unreadable fails the test instead of holding it up.
fn wait_for(fd: &DurableFd, lsn: Lsn) {
    while fd.take().unwrap() < lsn {
        assert!(is_readable_within(fd, Duration::from_secs(20)), "nobody has told of LSN {lsn}");
    }
}

#[test]
fn it_is_readable_when_a_commit_of_any_mode_becomes_durable() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let fds = [(); 3].map(|()| engine.durable_fd().unwrap());
    assert!(fds.iter().all(|fd| !is_readable(fd)));
    for mode in [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(1))]
    {
        let receipt = put(&engine, &keyspace, "key", "value", mode).unwrap();
        for fd in &fds {
            wait_for(fd, receipt.lsn());
            assert!(receipt.is_durable());
            assert!(!is_readable(fd), "it was taken: {mode:?}");
        }
    }
}

/// What moved meanwhile is told once, however often and however long ago; and no flush waits for a reader.
#[test]
fn one_that_nobody_reads_holds_nobody_up() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let (read, unread) = (engine.durable_fd().unwrap(), engine.durable_fd().unwrap());
    let mut last = Lsn::ZERO;
    for _ in 0..3_000 {
        last = put(&engine, &keyspace, "key", "value", CommitMode::Sync).unwrap().lsn();
    }
    for fd in [&read, &unread] {
        assert!(is_readable(fd));
        assert_eq!(fd.take().unwrap(), last);
        assert!(!is_readable(fd));
        assert_eq!(fd.take().unwrap(), last, "it may be asked at any time");
    }
}

#[test]
fn a_close_is_told_behind_what_it_made_durable() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let fd = engine.durable_fd().unwrap();
    let receipt = put(&engine, &keyspace, "key", "value", CommitMode::Async).unwrap();
    engine.close().unwrap();
    assert!(is_readable(&fd));
    assert_eq!(fd.take().unwrap(), receipt.lsn());
    for _ in 0..3 {
        assert!(is_readable(&fd), "for ever, so that no loop sleeps on");
        assert_eq!(kind_of(fd.take()), ErrorKind::Closed);
    }
    assert_eq!(kind_of(engine.durable_fd()), ErrorKind::Closed);
}

#[test]
fn the_last_handle_is_a_close_too() {
    let engine = in_memory();
    let fd = engine.durable_fd().unwrap();
    drop(engine);
    assert!(is_readable_within(&fd, Duration::from_secs(20)));
    assert_eq!(kind_of(fd.take()), ErrorKind::Closed);
}

#[test]
fn there_are_so_many_and_no_more() {
    let engine = in_memory();
    let mut fds: Vec<DurableFd> = (0..MAX_DURABLE_FDS).map(|_| engine.durable_fd().unwrap()).collect();
    let refused = engine.durable_fd().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("256"), "{refused}");
    fds.pop();
    engine.durable_fd().unwrap();
}

/// Many flushes beside many waits: none of them is missed. A lost one makes the loop time out.
#[test]
fn no_loop_sleeps_through_a_flush() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    thread::scope(|scope| {
        for waiter in 0..3 {
            let (engine, keyspace) = (&engine, &keyspace);
            scope.spawn(move || {
                let fd = engine.durable_fd().unwrap();
                for number in 0..400 {
                    let key = format!("{waiter} {number}");
                    let receipt =
                        put(engine, keyspace, &key, "value", CommitMode::Within(Duration::from_micros(50))).unwrap();
                    wait_for(&fd, receipt.lsn());
                    assert!(receipt.is_durable());
                }
            });
        }
    });
}

/// The descriptor of a bare log, and what a program prints of it.
#[test]
fn a_bare_log_has_them_too() {
    let dir = crashkit::TempDir::new("durable-fd");
    let log = forelog::log::Log::open(dir.path()).unwrap();
    let fd = log.durable_fd().unwrap();
    let receipt = log.append(b"record", CommitMode::Async).unwrap();
    wait_for(&fd, receipt.lsn());
    assert!(format!("{fd:?}").len() < 60);
    log.close().unwrap();
}

/// A program that comes and goes leaves none behind.
#[test]
fn a_descriptor_goes_with_its_value() {
    let engine: Engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    for _ in 0..3 * MAX_DURABLE_FDS {
        let fd = engine.durable_fd().unwrap();
        let receipt = put(&engine, &keyspace, "key", "value", CommitMode::Sync).unwrap();
        assert_eq!(fd.take().unwrap(), receipt.lsn());
    }
}

/// Its descriptor is the parent's: a child that cleared it would keep the parent asleep.
#[test]
fn a_child_takes_nothing_from_its_parent() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut fd = Some(engine.durable_fd().unwrap());
    let receipt = put(&engine, &keyspace, "key", "value", CommitMode::Sync).unwrap();
    let child = crate::forked::fork(|| {
        let refused = kind_of(fd.as_ref().unwrap().take()) == ErrorKind::Forked;
        let another = kind_of(engine.durable_fd()) == ErrorKind::Forked;
        drop(fd.take());
        i32::from(refused) + i32::from(another)
    });
    assert_eq!(crate::forked::end_of(child), Some(2));
    let fd = fd.unwrap();
    assert!(is_readable(&fd));
    assert_eq!(fd.take().unwrap(), receipt.lsn());
}

/// A failed fsync: what was durable before is told first, and then that nothing follows.
#[cfg(feature = "sim")]
#[test]
fn a_failure_is_told() {
    use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, Pages, SimDisk};
    let disk = SimDisk::new();
    let engine = crashkit::open_on(&disk, forelog::Options::new()).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let fd = engine.durable_fd().unwrap();
    let durable = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    let fails = FaultKind::SyncFails { pages: Pages::KeepNew };
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on(".log.tmp"), fails));
    assert_eq!(kind_of(put(&engine, &keyspace, "b", "2", CommitMode::Sync)), ErrorKind::Indeterminate);
    assert!(is_readable(&fd));
    assert_eq!(fd.take().unwrap(), durable.lsn());
    for _ in 0..3 {
        assert!(is_readable(&fd));
        assert_eq!(kind_of(fd.take()), ErrorKind::Poisoned);
    }
    // One that comes later learns it, too.
    let late = engine.durable_fd().unwrap();
    assert!(is_readable(&late));
    assert_eq!(kind_of(late.take()), ErrorKind::Poisoned);
}

/// A life that has written nothing has no flusher; who waits for its end is told all the same.
#[test]
fn a_failure_before_the_first_commit_is_told() {
    let dir = crashkit::TempDir::new("durable-fd-removed");
    let path = dir.join("db");
    let options = || forelog::Options::new().checkpoints(forelog::Checkpoints::OnRequest);
    let engine = options().open(&path).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "key", "value", CommitMode::Sync).unwrap();
    std::fs::copy(path.join("HISTORY"), dir.join("older")).unwrap();
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    let fd = engine.durable_fd().unwrap();
    // Somebody puts an older HISTORY in its place.
    std::fs::rename(dir.join("older"), path.join("HISTORY")).unwrap();
    assert_eq!(kind_of(engine.checkpoint()), ErrorKind::Poisoned);
    assert!(engine.poisoned().is_some());
    assert!(is_readable_within(&fd, Duration::from_secs(20)));
    assert_eq!(kind_of(fd.take()), ErrorKind::Poisoned);
}
