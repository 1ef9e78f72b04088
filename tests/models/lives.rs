//! Models of segments, snapshots, closing and retirement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forelog::log::Record;
use forelog::sim::SimDisk;
use forelog::{CommitMode, ErrorKind, Lsn, Options};
use shuttle::rand::Rng;

use crate::run::{check, check_often};
use crate::witness::{LONG, Promise, Shelf, Witness, open, options, records, settle, start};
use crashkit::{open_on, put};

fn small() -> Options {
    Options::new().segment_bytes(8192)
}

const SEGMENT: u64 = 4096;

#[test]
fn rotate_vs_inflight() {
    check("rotate_vs_inflight", || {
        let disk = SimDisk::new();
        let log = open(&disk, options().segment_bytes(SEGMENT));
        log.append(b"first", CommitMode::Sync).unwrap();
        let witness = Witness::of(&disk);
        let fillers: Vec<_> = [CommitMode::Async, CommitMode::Written]
            .into_iter()
            .map(|mode| {
                let log = log.clone();
                start("filler", move || (0..4u8).for_each(|number| drop(log.append(&[number; 900], mode).unwrap())))
            })
            .collect();
        for _ in 0..3 {
            let receipt = log.append(b"sync", CommitMode::Sync).unwrap();
            witness.note(receipt.lsn(), Promise::Durable);
        }
        fillers.into_iter().for_each(|filler| filler.join().unwrap());
        log.flush().unwrap();
        assert!(log.appended_lsn().get() > 2 * SEGMENT, "it rolled");
        assert_eq!(witness.check(&records(&log)), 3);
    });
}

#[test]
fn visible_watermark() {
    check("visible_watermark", || {
        let disk = SimDisk::new();
        let engine = open_on(&disk, small()).unwrap();
        let keys = engine.create_keyspace("k").unwrap();
        let committed = Shelf::new();
        // A Sync commit that is alone is on its way to the device before it is applied; the others come in between.
        let mut writers: Vec<_> = [(0, CommitMode::Sync), (1, CommitMode::Async)]
            .into_iter()
            .map(|(client, mode)| {
                let (engine, keys, committed) = (engine.clone(), keys.clone(), Arc::clone(&committed));
                start("writer", move || {
                    for number in 0..3 {
                        let key = format!("{client}-{number}");
                        let receipt = put(&engine, &keys, &key, "x", mode).unwrap();
                        assert!(engine.snapshot().unwrap().lsn() >= receipt.lsn(), "acknowledged and not visible");
                        committed.push((receipt.lsn(), key));
                    }
                })
            })
            .collect();
        let (other, others, noted) = (engine.clone(), keys.clone(), Arc::clone(&committed));
        writers.push(start("transaction", move || {
            for number in 0..2 {
                let (mut tx, key) = (other.begin().unwrap(), format!("tx-{number}"));
                let seen = tx.iter(&others).unwrap().count();
                tx.put(&others, &key, seen.to_string()).unwrap();
                match tx.commit_with([CommitMode::Sync, CommitMode::Async][number]) {
                    Ok(receipt) => noted.push((receipt.lsn(), key)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                }
            }
        }));
        let seen: Vec<_> = (0..6)
            .map(|round| {
                let snapshot = if round % 2 == 0 { engine.snapshot() } else { engine.durable_snapshot() }.unwrap();
                let at = snapshot.lsn();
                let Some(keys) = snapshot.keyspace("k").unwrap() else { return (at, BTreeSet::new()) };
                let entries = snapshot.iter(&keys).unwrap().map(|entry| entry.unwrap().0.to_vec());
                (at, entries.collect::<BTreeSet<_>>())
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let committed = committed.take();
        for (at, seen) in seen {
            let up_to = committed.iter().filter(|(lsn, _)| *lsn <= at);
            let expected: BTreeSet<_> = up_to.map(|(_, key)| key.clone().into_bytes()).collect();
            assert_eq!(seen, expected, "the snapshot at {at} of {committed:?}");
        }
    });
}

#[test]
fn drop_shutdown() {
    check("drop_shutdown", || {
        let disk = SimDisk::new();
        let engine = open_on(&disk, small()).unwrap();
        let keys = engine.create_keyspace("k").unwrap();
        // The next segment may still be on its way when it closes.
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            settle(|| engine.stats().segments_prepared);
        }
        let closed = Arc::new(AtomicBool::new(false));
        let (is_closed, late) = (Arc::clone(&closed), Shelf::new());
        let noted = Arc::clone(&late);
        disk.on_op(move |_, op| {
            if is_closed.load(Ordering::Relaxed) {
                noted.push(format!("{:?} {}", op.kind, op.path.display()));
            }
        });
        let committed = Shelf::new();
        let clients: Vec<_> = [CommitMode::Sync, CommitMode::Written, CommitMode::Async]
            .into_iter()
            .map(|mode| {
                // A batch keeps no engine open, so the drop below is the last one.
                let batches: Vec<_> = (0..3)
                    .map(|number| {
                        let (key, mut batch) = (format!("{mode:?}-{number}"), engine.batch().unwrap());
                        batch.put(&keys, &key, "x").unwrap();
                        (key, batch)
                    })
                    .collect();
                let committed = Arc::clone(&committed);
                start("client", move || {
                    for (key, batch) in batches {
                        match batch.commit_with(mode) {
                            Ok(receipt) => committed.push((key, receipt)),
                            Err(error) => {
                                assert_eq!((error.kind(), error.token()), (ErrorKind::Closed, None));
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        let dropped = shuttle::rand::thread_rng().gen_bool(0.5);
        if dropped {
            drop(engine);
        } else {
            engine.close().unwrap();
        }
        closed.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        disk.clear_on_op();
        assert_eq!(late.take(), Vec::<String>::new(), "after the close");
        let committed = committed.take();
        assert!(committed.iter().all(|(_, receipt)| receipt.is_durable() && receipt.wait().is_ok()));
        drop(keys);
        let engine = open_on(&disk, small()).unwrap();
        assert!(engine.recovery().crashed.is_none(), "it was closed");
        let keys = engine.open_keyspace("k").unwrap();
        let entries = engine.snapshot().unwrap().iter(&keys).unwrap().map(|entry| entry.unwrap().0.to_vec());
        let expected: BTreeSet<_> = committed.iter().map(|(key, _)| key.clone().into_bytes()).collect();
        assert_eq!(entries.collect::<BTreeSet<_>>(), expected);
    });
}

/// Follows a reader of records whose first byte counts up.
#[derive(Default)]
struct Follower {
    last: Option<Record>,
}

impl Follower {
    fn read(&mut self, record: Record) {
        if let Some(last) = &self.last {
            assert_eq!(record.payload[0], last.payload[0] + 1, "skipped without a word");
        }
        self.last = Some(record);
    }

    /// An error came instead of the next record, of which `lsns` are the ends.
    fn fail(&self, error: &forelog::Error, lsns: &[Lsn]) {
        assert_eq!(error.kind(), ErrorKind::Retired, "{error}");
        if let Some(last) = &self.last {
            let segment = |lsn: Lsn| (lsn.get() - 1) / SEGMENT;
            let next = lsns.iter().find(|lsn| **lsn > last.lsn).expect("there was more to read");
            assert_ne!(segment(*next), segment(last.lsn), "taken away while the reader was inside");
        }
    }
}

#[test]
fn recycle_vs_reader() {
    // A reader that is inside a segment while it goes: one schedule in a few hundred, and none of the random ones.
    check_often("recycle_vs_reader", 5, || {
        let disk = SimDisk::new();
        let log = open(&disk, options().segment_bytes(SEGMENT));
        let lsns: Vec<_> = (0..14u8).map(|n| log.append(&[n; 700], CommitMode::Async).unwrap().lsn()).collect();
        log.flush().unwrap();
        let retirers: Vec<_> = (0..2)
            .map(|client| {
                let (log, lsns) = (log.clone(), lsns.clone());
                start("retirer", move || {
                    lsns.iter().skip(4 + client).step_by(3).for_each(|&lsn| log.retire(lsn).unwrap());
                })
            })
            .collect();
        let (other, ends) = (log.clone(), lsns.clone());
        let scan = start("scan", move || {
            let mut follower = Follower::default();
            for record in other.scan(Lsn::ZERO).unwrap() {
                match record {
                    Ok(record) => follower.read(record),
                    Err(error) => follower.fail(&error, &ends),
                }
            }
        });
        let (mut tail, mut follower) = (log.tail(Lsn::ZERO).unwrap(), Follower::default());
        loop {
            match tail.next_timeout(LONG) {
                Ok(Some(record)) => follower.read(record),
                Ok(None) => break,
                Err(error) => break follower.fail(&error, &lsns),
            }
        }
        scan.join().unwrap();
        retirers.into_iter().for_each(|retirer| retirer.join().unwrap());
    });
}
