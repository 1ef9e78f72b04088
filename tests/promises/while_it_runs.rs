//! Promises 7, 9, 10, 15 and 16: what holds while the engine runs.

use std::time::Duration;

use forelog::log::LogOptions;
use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector};
use forelog::{CommitMode, ErrorKind, Lsn};

use super::{count, open, power_loss, put, simulate, three_clients};

const STALL: Duration = Duration::from_secs(2);

#[test]
fn promise_7_a_written_commit_survives_the_process() {
    simulate(|disk, engine, keys| {
        for number in 0..10 {
            put(engine, keys, number, if number % 2 == 0 { CommitMode::Async } else { CommitMode::Written }).unwrap();
            if number % 2 == 1 {
                assert!(count(&open(&disk.crash_point().process_kill())) > number, "a Written commit died");
            }
        }
    });
}

/// While one fsync stalls: `Written` and `Async` commits of others return, and are not acknowledged as durable.
#[test]
fn promises_7_and_9_neighbours_do_not_wait_for_a_fsync() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Stall(STALL)));
        let (sync_engine, sync_keys) = (engine.clone(), keys.clone());
        let flusher = sim::start("sync", move || {
            put(&sync_engine, &sync_keys, 1, CommitMode::Sync).unwrap();
        });
        while engine.visible_lsn() == engine.durable_lsn() {
            sim::sleep(Duration::from_micros(10));
        }
        sim::sleep(Duration::from_millis(1));
        let start = sim::now().unwrap();
        let written = put(engine, keys, 2, CommitMode::Written).unwrap();
        let asynchronous = put(engine, keys, 3, CommitMode::Async).unwrap();
        assert!(sim::now().unwrap().since(start) < STALL, "waited for another commit's fsync");
        assert!(!written.is_durable() && !asynchronous.is_durable(), "no fsync has covered them");
        flusher.join();
    });
}

#[test]
fn promise_9_a_durable_commit_proves_every_earlier_one_durable() {
    simulate(|disk, engine, keys| {
        let earlier: Vec<_> = (0..5).map(|n| put(engine, keys, n, CommitMode::Async).unwrap()).collect();
        put(engine, keys, 5, CommitMode::Sync).unwrap();
        assert!(earlier.iter().all(forelog::Receipt::is_durable));
        assert_eq!(count(&open(&power_loss(disk))), 6);
    });
}

#[test]
fn promise_10_visible_is_not_durable_and_the_reader_can_tell() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        let receipt = put(engine, keys, 1, CommitMode::Async).unwrap();
        let durable = engine.durable_snapshot().unwrap();
        let visible = engine.snapshot().unwrap();
        assert!(visible.get(keys, 1u32.to_be_bytes()).unwrap().is_some(), "visible at once");
        assert_eq!(visible.lsn(), receipt.lsn());
        if !receipt.is_durable() {
            assert!(durable.get(keys, 1u32.to_be_bytes()).unwrap().is_none(), "not durable yet");
        }
        visible.wait_durable().unwrap();
        assert!(visible.is_durable() && receipt.is_durable());
        assert_eq!(count(&open(&power_loss(disk))), 2);
    });
}

#[test]
fn promise_15_what_is_read_from_a_file_is_checked() {
    let dir = crashkit::TempDir::new("checked");
    for mapped in [false, true] {
        let path = dir.join(if mapped { "mapped" } else { "read" });
        let log = LogOptions::new().segment_bytes(4096).mapped_reads(mapped).open(&path).unwrap();
        for number in 0..60u8 {
            log.append(&[number; 200], CommitMode::Sync).unwrap();
        }
        assert_eq!(log.scan(Lsn::ZERO).unwrap().filter(Result::is_ok).count(), 60);
        let (segment, mut bytes) =
            crashkit::contents_of(&path).into_iter().find(|(p, _)| p.extension().is_some()).unwrap();
        bytes[2000] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let read: Vec<_> = log.scan(Lsn::ZERO).unwrap().collect();
        let error = read.last().unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_eq!(error.damage().unwrap().file, segment);
        assert!(read.len() < 60, "it does not go on behind the damage");
    }
}

#[test]
fn promise_16_concurrent_increments_are_serializable() {
    simulate(|_, engine, keys| {
        three_clients(engine, keys, 5, |tx, keys| {
            let value = tx.get(keys, b"n")?.map_or(0, |value| value[0]);
            tx.put(keys, b"n", [value + 1])
        });
        assert_eq!(engine.snapshot().unwrap().get(keys, b"n").unwrap().unwrap(), [15]);
    });
}
