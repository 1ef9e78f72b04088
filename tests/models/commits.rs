//! Models of commits and their durability.

use std::sync::{Arc, Mutex};

use forelog::log::Log;
use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, Pages, Phase, SimDisk};
use forelog::{CommitMode, ErrorKind, LossBudget, Lsn, Outcome, Receipt};

use shuttle::rand::Rng;

use crate::run::check;
use crate::witness::{LONG, Promise, Shelf, Witness, name, open, options, records, settle, start};
use crashkit::kind_of;

/// A log that has begun.
fn begun(disk: &SimDisk) -> Log {
    let log = open(disk, options());
    log.append(b"first", CommitMode::Sync).unwrap();
    settle(|| log.stats().segments_prepared);
    log
}

#[test]
fn reserve_publish() {
    check("reserve_publish", || {
        let disk = SimDisk::new();
        let log = begun(&disk);
        let witness = Witness::of(&disk);
        let appenders: Vec<_> = [(0, CommitMode::Async), (1, CommitMode::Written), (2, CommitMode::Async)]
            .into_iter()
            .map(|(client, mode)| {
                let (log, witness) = (log.clone(), witness.clone());
                start("appender", move || {
                    [5, 40].map(|length| {
                        let payload = vec![client; length + usize::from(client)];
                        let lsn = log.append(&payload, mode).unwrap().lsn();
                        if mode == CommitMode::Written {
                            witness.note(lsn, Promise::Written);
                        }
                        (lsn, payload)
                    })
                })
            })
            .collect();
        let flushed = log.flush().unwrap();
        witness.note(flushed, Promise::Durable);
        let mut placed: Vec<_> = appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect();
        placed.sort();
        log.flush().unwrap();
        let log = records(&log);
        let mut end = log[0].lsn;
        for ((lsn, payload), record) in placed.iter().zip(&log[1..]) {
            end = Lsn::new(end.get() + 32 + payload.len().next_multiple_of(8) as u64);
            assert_eq!((record.lsn, &record.payload), (*lsn, payload));
            assert_eq!(*lsn, end, "a hole, or a place given twice");
        }
        assert_eq!(log.len(), 1 + placed.len());
        witness.check(&log);
    });
}

#[test]
fn ring_wrap() {
    check("ring_wrap", || {
        let disk = SimDisk::new();
        let log = open(&disk, options().loss_budget(LossBudget::default().max_commits(2)));
        log.append(b"first", CommitMode::Sync).unwrap();
        let appenders: Vec<_> = (0..3u8)
            .map(|client| {
                let log = log.clone();
                start("appender", move || {
                    for number in 0..3 {
                        let mode = if (client + number) % 3 == 0 { CommitMode::Written } else { CommitMode::Async };
                        log.append(&[client, number], mode).unwrap();
                    }
                })
            })
            .collect();
        appenders.into_iter().for_each(|appender| appender.join().unwrap());
        assert!(log.stats().largest_window.commits <= 2, "{:?}", log.stats());
        log.flush().unwrap();
        let mut payloads: Vec<_> = records(&log).into_iter().skip(1).map(|record| record.payload).collect();
        payloads.sort();
        let expected: Vec<_> = (0..3u8).flat_map(|client| (0..3).map(move |number| vec![client, number])).collect();
        assert_eq!(payloads, expected);
    });
}

/// Panics if two threads are inside an fsync of the log at a time.
fn watch_for_two_leaders(disk: &SimDisk) {
    let leader = Mutex::new(None);
    disk.on_op(move |_, op| {
        if op.kind == OpKind::Sync && name() != "forelog-prepare" {
            let mut leader = leader.lock().unwrap();
            match op.phase {
                Phase::Before => assert_eq!(leader.replace(name()), None, "two leaders"),
                Phase::InFlight => *leader = None,
            }
        }
    });
}

#[test]
fn leader_handoff() {
    check("leader_handoff", || {
        let disk = SimDisk::new();
        let log = begun(&disk);
        let witness = Witness::of(&disk);
        let before = log.stats().flushes;
        watch_for_two_leaders(&disk);
        let committers: Vec<_> = (0..3u8)
            .map(|client| {
                let (log, witness) = (log.clone(), witness.clone());
                start("committer", move || {
                    for number in 0..2 {
                        let receipt = log.append(&[client, number], CommitMode::Sync).unwrap();
                        witness.note(receipt.lsn(), Promise::Durable);
                        assert!(receipt.is_durable());
                    }
                })
            })
            .collect();
        committers.into_iter().for_each(|committer| committer.join().unwrap());
        disk.clear_on_op();
        let flushes = log.stats().flushes - before;
        assert!(flushes <= 6, "{flushes} flushes for 6 commits");
        assert_eq!(witness.check(&records(&log)), 6);
    });
}

#[test]
fn receipt_after_sync() {
    check("receipt_after_sync", || {
        let disk = SimDisk::new();
        let log = begun(&disk);
        let witness = Witness::of(&disk);
        let receipts: Arc<Shelf<Receipt>> = Shelf::new();
        let committers: Vec<_> = [CommitMode::Async, CommitMode::Written]
            .into_iter()
            .map(|mode| {
                let (log, witness, receipts) = (log.clone(), witness.clone(), Arc::clone(&receipts));
                start("committer", move || {
                    for _ in 0..2 {
                        let receipt = log.append(b"x", mode).unwrap();
                        let (told, lsn) = (witness.clone(), receipt.lsn());
                        receipt
                            .on_durable(move |verdict| {
                                if verdict.is_ok() {
                                    told.note(lsn, Promise::Durable);
                                }
                            })
                            .unwrap();
                        receipts.push(receipt);
                    }
                })
            })
            .collect();
        let (other, noted) = (log.clone(), witness.clone());
        let watcher = start("watcher", move || {
            for _ in 0..6 {
                noted.note(other.durable_lsn(), Promise::Durable);
            }
        });
        for _ in 0..3 {
            for receipt in receipts.take() {
                if receipt.is_durable() || receipt.wait_timeout(LONG).is_ok() {
                    witness.note(receipt.lsn(), Promise::Durable);
                }
            }
        }
        committers.into_iter().for_each(|committer| committer.join().unwrap());
        watcher.join().unwrap();
        for receipt in receipts.take() {
            receipt.wait().unwrap();
            witness.note(receipt.lsn(), Promise::Durable);
        }
        log.flush().unwrap();
        witness.check(&records(&log));
    });
}

#[test]
fn strictest_mode_wins() {
    check("strictest_mode_wins", || {
        let disk = SimDisk::new();
        let log = begun(&disk);
        let witness = Witness::of(&disk);
        let clients: Vec<_> = [CommitMode::Async, CommitMode::Written, CommitMode::Sync]
            .into_iter()
            .map(|mode| {
                let (log, witness) = (log.clone(), witness.clone());
                start("client", move || {
                    for _ in 0..2 {
                        let receipt = log.append(b"x", mode).unwrap();
                        match mode {
                            CommitMode::Sync => witness.note(receipt.lsn(), Promise::Durable),
                            CommitMode::Written => witness.note(receipt.lsn(), Promise::Written),
                            _ => {
                                // It makes this thread the leader of a flush for everybody.
                                receipt.wait().unwrap();
                                witness.note(receipt.lsn(), Promise::Durable);
                            }
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        log.flush().unwrap();
        assert_eq!(witness.check(&records(&log)), 6);
    });
}

#[test]
fn poison_broadcast() {
    check("poison_broadcast", || {
        let disk = SimDisk::new();
        let log = begun(&disk);
        let witness = Witness::of(&disk);
        // The second flush, or the second write, which may come while a flush is in flight. Of the log: a failed MARK
        // stops nobody.
        let second = |kind| OpSelector::of(kind).on(".log.tmp").skip(1);
        disk.inject(if shuttle::rand::thread_rng().gen_bool(0.5) {
            Fault::once(second(OpKind::Sync), FaultKind::SyncFails { pages: Pages::KeepNew })
        } else {
            Fault::once(second(OpKind::Write), FaultKind::Errno(5))
        });
        let (in_doubt, told) = (Shelf::new(), Shelf::new());
        let clients: Vec<_> = [CommitMode::Sync, CommitMode::Written, CommitMode::Async]
            .into_iter()
            .map(|mode| {
                let (log, witness) = (log.clone(), witness.clone());
                let (in_doubt, told) = (Arc::clone(&in_doubt), Arc::clone(&told));
                start("client", move || {
                    let mut registered = 0;
                    for _ in 0..4 {
                        let committed = log.append(b"x", mode).and_then(|receipt| {
                            let told = Arc::clone(&told);
                            receipt.on_durable(move |verdict| told.push(verdict))?;
                            registered += 1;
                            if mode == CommitMode::Written { receipt.wait_timeout(LONG) } else { receipt.wait() }
                                .map(|()| receipt)
                        });
                        match committed {
                            Ok(receipt) => witness.note(receipt.lsn(), Promise::Durable),
                            Err(error) if error.kind() == ErrorKind::TimedOut => {}
                            Err(error) if error.kind() == ErrorKind::Indeterminate => {
                                in_doubt.push(error.token().expect("names the commit"));
                            }
                            Err(error) => {
                                assert_eq!((error.kind(), error.token()), (ErrorKind::Poisoned, None), "{error}");
                                break;
                            }
                        }
                    }
                    registered
                })
            })
            .collect();
        let registered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        let poison = log.poisoned().expect("something failed").clone();
        for token in in_doubt.take() {
            assert!(token.lsn > poison.durable && token.lsn <= poison.appended, "{token:?} is not in doubt");
            assert_eq!(log.outcome(&token).unwrap(), Outcome::Indeterminate);
        }
        assert_eq!(log.durable_lsn(), poison.durable, "it moved after the failure");
        assert_eq!(log.appended_lsn(), poison.appended, "a place was given after the failure");
        assert_eq!(kind_of(log.append(b"late", CommitMode::Async)), ErrorKind::Poisoned);
        assert_eq!(kind_of(log.close()), ErrorKind::Poisoned);
        drop(log);
        let mut verdicts = 0;
        while verdicts < registered {
            verdicts += told.take().len();
            shuttle::thread::yield_now();
        }
        // What is in doubt may survive: a failed fsync dropped no page here.
        witness.check(&records(&open(&disk.crash_point().process_kill(), options())));
    });
}
