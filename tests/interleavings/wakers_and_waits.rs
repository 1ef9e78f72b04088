//! Interleavings that once broke it: wakers, callbacks and those who wait.

use super::*;

/// A flush served a task and the background flusher. Its leader woke the task first, whose waker dropped the last
/// engine, and so joined the flusher, which slept until the leader, of all threads, would wake it. Threads are woken
/// before any user's code runs.
#[test]
fn a_waker_on_the_leader_drops_the_last_engine() {
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let disk = disk();
            let engine = open_on(&disk, small()).unwrap();
            let keys = engine.create_keyspace("k").unwrap();
            sim::sleep(Duration::from_millis(100));
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, "sync", "x").unwrap();
            let mut receipt = put(&engine, &keys, "async", "x", CommitMode::Async).unwrap();
            let leader = sim::start("leader", move || drop(batch.commit_with(CommitMode::Sync)));
            pause(&mut { seed }, 30);
            if poll(&mut receipt, &waker(move || drop(engine))).is_pending() {
                receipt.wait().unwrap();
            }
            leader.join();
            sim::sleep(STALL);
            assert!(open_on(&disk, small()).unwrap().recovery().crashed.is_none(), "it was closed");
        });
    }
}

/// A waker that panicked took the waiters behind it along, who then slept for ever, and the background flusher, after
/// which no commit became durable by itself.
#[test]
fn a_panic_in_a_waker_is_nobody_elses() {
    simulate(&small(), |_, engine, keys| {
        let (wakes, counting) = Wakes::new();
        let mut panicking = put(engine, keys, "a", "x", CommitMode::Async).unwrap();
        let mut counted = put(engine, keys, "b", "x", CommitMode::Async).unwrap();
        // Without the panic hook, which would fill the output.
        let _ = poll(&mut panicking, &waker(|| resume_unwind(Box::new("on purpose"))));
        let pending = poll(&mut counted, &counting).is_pending();
        let committers: Vec<_> = (0..2)
            .map(|client| {
                let (engine, keys) = (engine.clone(), keys.clone());
                sim::start("committer", move || {
                    put(&engine, &keys, &format!("c{client}"), "x", CommitMode::Sync).unwrap();
                })
            })
            .collect();
        committers.into_iter().for_each(sim::Simulated::join);
        sim::sleep(Duration::from_millis(1));
        assert_eq!(wakes.count(), usize::from(pending));
        let later = put(engine, keys, "d", "x", CommitMode::Async).unwrap();
        sim::sleep(Duration::from_millis(20));
        assert!(later.is_durable() && engine.poisoned().is_none(), "the flusher is gone");
    });
}

/// A poll dropped the waker that it replaced under the lock of the waiters. The last reference to a task may be its
/// waker, and the task may hold other receipts, which take that lock to withdraw.
#[test]
fn a_replaced_waker_owns_other_receipts() {
    simulate(&small(), |_, engine, keys| {
        let mut receipts: Vec<_> =
            (0..4).map(|key| put(engine, keys, &key.to_string(), "x", CommitMode::Async).unwrap()).collect();
        for receipt in &mut receipts {
            let mut owned = put(engine, keys, "owned", "x", CommitMode::Async).unwrap();
            let _ = poll(&mut owned, Waker::noop());
            let _ = poll(receipt, &waker(move || drop(owned)));
            sim::yield_point();
            let _ = poll(receipt, Waker::noop());
            let mut owned = put(engine, keys, "owned", "x", CommitMode::Async).unwrap();
            let _ = poll(&mut owned, Waker::noop());
            let _ = poll(receipt, &waker(move || drop(owned)));
            // Durable, but the leader has not come to its waiters yet: the last poll takes the waker out by itself.
            while !receipt.is_durable() {
                sim::yield_point();
            }
            assert!(poll(receipt, Waker::noop()).is_ready());
        }
    });
}

/// A close found everything durable and ended the queue of the callbacks, before the leader of the last flush, a
/// committer whom a close does not wait for, had put them there; or between the two steps of a registration. They were
/// dropped without having been called. (For that a thread had to stand still for the whole close, which no seed here
/// draws: the queue now ends with the last receipt, and this shows what is called around a close.)
#[test]
fn no_callback_is_lost_to_a_close() {
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let disk = disk();
            let engine = open_on(&disk, small().flush_interval(Duration::from_secs(1))).unwrap();
            let keys = engine.create_keyspace("k").unwrap();
            sim::sleep(Duration::from_millis(100));
            let called = Arc::new(Mutex::new(Vec::new()));
            let register = {
                let called = Arc::clone(&called);
                move |receipt: &Receipt| {
                    let (called, lsn) = (Arc::clone(&called), receipt.lsn());
                    receipt.on_durable(move |verdict| called.lock().unwrap().push((lsn, verdict.is_ok()))).unwrap();
                }
            };
            let receipt = put(&engine, &keys, "async", "x", CommitMode::Async).unwrap();
            register(&receipt);
            let (late, register_late) = (receipt.clone(), register.clone());
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, "sync", "x").unwrap();
            let leader = sim::start("leader", move || {
                if let Ok(receipt) = batch.commit_with(CommitMode::Sync) {
                    register_late(&receipt);
                }
                register_late(&late);
            });
            pause(&mut { seed }, 60);
            while !receipt.is_durable() && seed % 4 != 0 {
                sim::yield_point();
            }
            engine.close().unwrap();
            register(&receipt);
            leader.join();
            drop(register);
            let expected = if receipt.lsn() < engine.durable_lsn() { 4 } else { 3 };
            sim::sleep(Duration::from_millis(1));
            let called = called.lock().unwrap();
            assert_eq!(called.len(), expected, "{called:?}");
            assert!(called.iter().all(|&(_, durable)| durable));
        });
    }
}

/// A tail that waited slept out its time when the log was closed, since nothing more became durable; and one that met
/// a failure was told of an indeterminate commit that never was.
#[test]
fn a_waiting_tail_hears_of_the_end() {
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let disk = disk();
            let log = open_log(&disk);
            log.append(b"first", CommitMode::Sync).unwrap();
            sim::sleep(Duration::from_millis(100));
            let mut tail = log.tail(Lsn::ZERO).unwrap();
            let (fails, appends) = (seed % 3 == 0, seed % 3 == 1);
            let reader = sim::start("tail", move || {
                let mut read = Vec::new();
                loop {
                    match tail.next_timeout(LONG) {
                        Ok(record) => read.push(record.expect("nobody waits that long").payload),
                        Err(error) => {
                            let kind = if fails { ErrorKind::Poisoned } else { ErrorKind::Closed };
                            return assert_eq!((error.kind(), read.len()), (kind, 1 + usize::from(appends)));
                        }
                    }
                }
            });
            pause(&mut { seed }, 40);
            let start = now();
            if fails {
                let fault = FaultKind::SyncFails { pages: Pages::KeepNew };
                disk.inject(Fault::once(OpSelector::of(OpKind::Sync), fault));
                log.append(b"second", CommitMode::Sync).unwrap_err();
            } else {
                if appends {
                    log.append(b"second", CommitMode::Async).unwrap();
                }
                log.close().unwrap();
            }
            reader.join();
            assert!(now().since(start) < Duration::from_secs(1), "it slept on");
        });
    }
}
