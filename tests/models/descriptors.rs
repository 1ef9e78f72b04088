//! Models of descriptors for event loops (`src/log/receipts/bells.rs`), and of tails.

use std::sync::Arc;

use forelog::sim::SimDisk;
use forelog::tail::Horizon;
use forelog::{CommitMode, DurableFd, ErrorKind, Lsn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shuttle::rand::Rng;

use crate::run::check;
use crate::witness::{open, options, start};

fn is_readable(fd: &DurableFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).unwrap() > 0
}

/// Whoever takes in whatever moment: what it has not seen makes the descriptor readable, and so does the end.
#[test]
fn descriptor_and_flush() {
    check("descriptor_and_flush", || {
        let disk = SimDisk::new();
        let log = Arc::new(open(&disk, options()));
        let fd = log.durable_fd().unwrap();
        let appender = Arc::clone(&log);
        let commits = start("sync", move || {
            (0..3).for_each(|_| drop(appender.append(b"x", CommitMode::Sync).unwrap()));
        });
        let takes = start("loop", move || {
            let mut seen = Lsn::ZERO;
            for _ in 0..4 {
                let durable = fd.take().unwrap();
                assert!(durable >= seen, "it went back");
                seen = durable;
                shuttle::thread::yield_now();
            }
            (fd, seen)
        });
        commits.join().unwrap();
        let (fd, seen) = takes.join().unwrap();
        assert_eq!(is_readable(&fd), seen < log.durable_lsn(), "seen {seen}, durable {}", log.durable_lsn());
        let closes = start("close", move || log.close().unwrap());
        let ended = loop {
            if is_readable(&fd) {
                match fd.take() {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            }
            shuttle::thread::yield_now();
        };
        assert_eq!(ended.kind(), ErrorKind::Closed);
        assert!(is_readable(&fd));
        closes.join().unwrap();
    });
}

/// A tail that waits is told of each commit, whatever comes between its look and its wait, and of the end.
#[test]
fn tail_and_commits() {
    check("tail_and_commits", || {
        let disk = SimDisk::new();
        let engine = crashkit::open_on(&disk, forelog::Options::new().segment_bytes(8192)).unwrap();
        let keys = engine.create_keyspace("k").unwrap();
        let horizon = if shuttle::rand::thread_rng().gen_bool(0.7) { Horizon::Visible } else { Horizon::Durable };
        let mut tail = engine.tail(engine.visible_lsn(), horizon).unwrap();
        let follows = start("tail", move || {
            let shown: Vec<Lsn> = tail.by_ref().map(|commit| commit.unwrap().receipt.lsn()).collect();
            assert!(shown.is_sorted());
            shown.len()
        });
        let commits = start("commits", {
            let engine = engine.clone();
            move || {
                for (key, mode) in [("a", CommitMode::Async), ("b", CommitMode::Written), ("c", CommitMode::Sync)] {
                    crashkit::put(&engine, &keys, key, "1", mode).unwrap();
                }
            }
        });
        commits.join().unwrap();
        engine.close().unwrap();
        assert_eq!(follows.join().unwrap(), 3);
    });
}
