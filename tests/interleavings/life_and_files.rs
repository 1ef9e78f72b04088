//! Interleavings that once broke it: begin, close, retirement, threads that end.

use super::*;

/// A preparation failed while a committer's write was in flight. The owner closed the log, which gave the lock up at
/// once, and reopened it; then the write landed in the files of the new owner.
#[test]
fn nothing_lands_after_the_close_of_a_poisoned_log() {
    let in_flight = AtomicU32::new(0);
    for seed in 0..SEEDS {
        let closed = Arc::new(AtomicBool::new(false));
        let late = Arc::new(Mutex::new(Vec::new()));
        let disk = disk();
        let (is_closed, noted) = (Arc::clone(&closed), Arc::clone(&late));
        sim::run(seed, || {
            let log = open_log(&disk);
            log.append(&[0; 1500], CommitMode::Sync).unwrap();
            sim::sleep(Duration::from_millis(100));
            disk.on_op(move |_, op| {
                if std::thread::current().name() == Some("writer") && op.kind == OpKind::Write {
                    sim::sleep(STALL);
                }
                if is_closed.load(Ordering::SeqCst) && op.kind != OpKind::Lock {
                    noted.lock().unwrap().push(format!("{:?} {}", op.kind, op.path.display()));
                }
            });
            disk.inject(Fault::once(OpSelector::of(OpKind::Rename), FaultKind::Errno(5)));
            let other = log.clone();
            // It rolls, which has the next segment prepared.
            let writer = sim::start("writer", move || drop(other.append(&[1; 3000], CommitMode::Written)));
            while log.poisoned().is_none() {
                sim::sleep(DEVICE);
            }
            in_flight.fetch_add(u32::from(log.written_lsn() < log.appended_lsn()), Ordering::Relaxed);
            assert_eq!(kind_of(log.close()), ErrorKind::Poisoned);
            closed.store(true, Ordering::SeqCst);
            writer.join();
        });
        disk.clear_on_op();
        assert_eq!(*late.lock().unwrap(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(in_flight.into_inner() > 100, "a write was in flight");
}

/// A reader learned of a segment that was retired before it could open it, and called the log damaged; so did a
/// second retirement, which looks for the end of a record there.
#[test]
fn a_retirement_is_not_damage() {
    let met = AtomicU32::new(0);
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let log = open_log(&disk());
            let lsns: Vec<_> = (0..30u8).map(|n| log.append(&[n; 500], CommitMode::Written).unwrap().lsn()).collect();
            log.flush().unwrap();
            let retirers: Vec<_> = (0..2)
                .map(|client| {
                    let (log, lsns) = (log.clone(), lsns.clone());
                    sim::start("retire", move || {
                        let mut random = seed + client;
                        for &lsn in lsns.iter().skip(usize::try_from(client).unwrap()).step_by(5) {
                            log.retire(lsn).unwrap();
                            pause(&mut random, 40);
                        }
                    })
                })
                .collect();
            for _ in 0..6 {
                let mut next = None;
                for record in log.scan(Lsn::ZERO).unwrap() {
                    match record {
                        Ok(record) => {
                            assert!(next.is_none_or(|next| next == record.payload[0]), "skipped without a word");
                            next = Some(record.payload[0] + 1);
                            // A retirement takes the time of its fsyncs, and no reader waits for it: a slow one is overtaken.
                            sim::sleep(2 * DEVICE);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Retired, "{error}");
                            met.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
            retirers.into_iter().for_each(sim::Simulated::join);
        });
    }
    assert!(met.into_inner() > 100, "readers and retirements met");
}

/// A retirement held the list of segments over the replacement of HISTORY, its removals and its directory fsync, and the
/// thread that prepares segments enters each new one there: a commit past a segment's midpoint waited for all of that.
#[test]
fn a_commit_that_needs_the_next_segment_does_not_wait_for_a_retirement() {
    let mut stalled = Vec::new();
    for number in 0.. {
        let waited = commits_beside_a_retirement_stalled_at(number);
        let Some((kind, was_over, prepared)) = waited else { break };
        assert!(!was_over, "operation {number}, {kind:?}: a commit waited for the retirement");
        assert!(prepared > 2, "operation {number}, {kind:?}: {prepared} segments were needed");
        stalled.push(kind);
    }
    let count = |kind| stalled.iter().filter(|stalled| **stalled == kind).count();
    assert!(count(OpKind::Rename) == 1 && count(OpKind::Remove) > 2 && count(OpKind::SyncDir) == 2, "{stalled:?}");
}

/// Has operation `number` of a retirement stall, and commits meanwhile; says which that was, whether the retirement was
/// over by then, and how many segments the commits needed. `None` if it has fewer operations.
fn commits_beside_a_retirement_stalled_at(number: u32) -> Option<(OpKind, bool, u64)> {
    let disk = disk();
    let stalled = Arc::new(Mutex::new(None));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut found = None;
    sim::run(u64::from(number), || {
        let log = open_log(&disk);
        let append = || log.append(&[0; 500], CommitMode::Sync).unwrap().lsn();
        let lsns: Vec<_> = (0..30).map(|_| append()).collect();
        sim::sleep(Duration::from_millis(100));
        let (noted, passed) = (Arc::clone(&stalled), AtomicU32::new(0));
        disk.on_op(move |_, op| {
            let is_its_own = std::thread::current().name() == Some("retire") && op.phase == Phase::Before;
            if is_its_own && passed.fetch_add(1, Ordering::SeqCst) == number {
                *noted.lock().unwrap() = Some(op.kind);
                sim::sleep(LONG);
            }
        });
        let (other, over) = (log.clone(), Arc::clone(&is_over));
        let retirement = sim::start("retire", move || {
            other.retire(lsns[20]).unwrap();
            over.store(true, Ordering::SeqCst);
        });
        while stalled.lock().unwrap().is_none() && !is_over.load(Ordering::SeqCst) {
            sim::sleep(DEVICE);
        }
        let before = log.stats().segments_prepared;
        (0..30).for_each(|_| _ = append());
        // A scan reads the same list.
        assert!(log.scan(Lsn::ZERO).unwrap().all(|record| record.is_ok()));
        let prepared = log.stats().segments_prepared - before;
        found = stalled.lock().unwrap().map(|kind| (kind, is_over.load(Ordering::SeqCst), prepared));
        retirement.join();
        log.close().unwrap();
    });
    disk.clear_on_op();
    found
}

/// A pin is taken while records are retired: either it is refused, or every record above it stays.
#[test]
fn what_is_pinned_stays_beside_a_retirement() {
    let (kept, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let log = open_log(&disk());
            let ends: Vec<_> = (0..30u8).map(|n| log.append(&[n; 500], CommitMode::Sync).unwrap().end()).collect();
            let (other, retired) = (log.clone(), ends.clone());
            let retirement = sim::start("retire", move || {
                let mut random = seed;
                for end in &retired[..28] {
                    other.retire(*end).unwrap();
                    pause(&mut random, 20);
                }
            });
            let mut random = !seed;
            for (index, end) in ends.iter().enumerate().step_by(4) {
                pause(&mut random, 60);
                sim::sleep(DEVICE * u32::try_from(random >> 33 & 15).unwrap());
                match log.pin(*end) {
                    Ok(pin) => {
                        let above: Vec<_> = log.scan(*end).unwrap().map(|record| record.unwrap().end()).collect();
                        assert_eq!(above, ends[index + 1..]);
                        assert!(log.oldest_lsn() <= pin.lsn());
                        kept.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Retired, "{error}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            retirement.join();
        });
    }
    assert!(kept.into_inner() > 100 && refused.into_inner() > 100, "pins and retirements met");
}

/// A transaction that wrote nothing commits without waiting; to name what it read, it waited for the lock that the
/// first commit after an open holds while it creates a segment.
#[test]
fn a_reader_does_not_wait_for_the_first_commit() {
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let disk = disk();
            let engine = open_on(&disk, small()).unwrap();
            let keys = engine.create_keyspace("k").unwrap();
            let token = put(&engine, &keys, "a", "1", CommitMode::Sync).unwrap().token();
            engine.close().unwrap();
            let engine = open_on(&disk, small()).unwrap();
            let keys = engine.open_keyspace("k").unwrap();
            disk.inject(Fault::lasting(OpSelector::of(OpKind::Create), FaultKind::Stall(STALL)));
            let (other, others) = (engine.clone(), keys.clone());
            let first = sim::start("first", move || drop(put(&other, &others, "b", "2", CommitMode::Sync).unwrap()));
            sim::sleep(Duration::from_millis(1 + seed));
            let start = now();
            let mut tx = engine.begin().unwrap();
            assert_eq!(tx.get(&keys, "a").unwrap().unwrap(), b"1");
            let receipt = tx.commit().unwrap();
            assert!(receipt.is_durable() && now().since(start) < Duration::from_millis(1));
            assert_eq!(receipt.token(), token);
            disk.clear_faults();
            first.join();
        });
    }
}

/// Model `load_with_a_worker`: the log is long enough for a thread that applies what was read while more is read.
#[test]
fn what_two_threads_load_is_what_was_committed() {
    let segments = || Options::new().segment_bytes(4096);
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let disk = SimDisk::new();
            let engine = open_on(&disk, segments()).unwrap();
            let keys = engine.create_keyspace("k").unwrap();
            let mut expected = BTreeMap::new();
            for number in 0..40 {
                let (key, value) = ((number % 3).to_string(), format!("{number:0>600}"));
                put(&engine, &keys, &key, &value, CommitMode::Async).unwrap();
                expected.insert(key.into_bytes(), value.into_bytes());
            }
            engine.flush().unwrap();
            let killed = open_on(&disk.crash_point().process_kill(), segments()).unwrap();
            let keys = killed.open_keyspace("k").unwrap();
            let entries = killed.snapshot().unwrap().iter(&keys).unwrap().map(|entry| entry.unwrap());
            let entries: BTreeMap<_, _> = entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            assert!(entries == expected && killed.versions_in_memory() == expected.len(), "seed {seed}");
        });
    }
}

/// The drop of a snapshot looked for what only it had kept, while it was still held.
#[test]
fn the_last_snapshot_to_go_takes_its_versions_along() {
    simulate(&small(), |_, engine, keys| {
        put(engine, keys, "a", "1", CommitMode::Sync).unwrap();
        let snapshot = engine.snapshot().unwrap();
        put(engine, keys, "a", "2", CommitMode::Sync).unwrap();
        put(engine, keys, "b", "1", CommitMode::Sync).unwrap();
        assert_eq!(engine.versions_in_memory(), 3);
        let other = snapshot.clone();
        drop(snapshot);
        assert_eq!(engine.versions_in_memory(), 3, "somebody else still sees it");
        drop(other);
        assert_eq!(engine.versions_in_memory(), 2);
    });
}

// ---- stories on plain threads: a simulated thread that panics or ends cannot wait

/// A flush asked whether its thread was panicking, and took that for its own failure. A program that unwinds, and
/// whose engine is dropped or flushed by a destructor on the way, found its log poisoned and not closed.
#[test]
fn a_flush_while_the_thread_unwinds_has_not_failed() {
    let disk = SimDisk::new();
    let engine = open_on(&disk, small()).unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keys, "a", "1", CommitMode::Async).unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _engine = engine;
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(unwound.is_err() && receipt.wait().is_ok());
    let engine = open_on(&disk, small()).unwrap();
    assert!(engine.recovery().crashed.is_none(), "it was closed");
    assert_eq!(crashkit::get(&engine, &engine.open_keyspace("k").unwrap(), "a").unwrap(), "1");
}

/// The thread that prepares segments died in a panic of its disk, and every append that needed one waited for ever.
#[test]
fn a_panic_of_the_disk_in_a_preparation_stops_the_log() {
    let disk = SimDisk::new();
    let log = open_log(&disk);
    log.append(b"first", CommitMode::Sync).unwrap();
    crashkit::wait_until(|| log.stats().segments_prepared > 0);
    disk.on_op(|_, op| {
        if std::thread::current().name() == Some("forelog-prepare") && op.kind == OpKind::Rename {
            resume_unwind(Box::new("on purpose"));
        }
    });
    let failed = (0..20).find_map(|_| log.append_timeout(&[0; 1000], CommitMode::Async, Duration::from_secs(20)).err());
    assert_eq!(failed.expect("there is no room").kind(), ErrorKind::Poisoned);
    assert_eq!(kind_of(log.close()), ErrorKind::Poisoned);
}

/// A thread ended with the last engine in a thread-local of its own. What it waits with is a thread-local too, and was
/// gone by then: the process was aborted.
#[test]
fn the_last_engine_may_be_dropped_as_its_thread_ends() {
    thread_local! {
        static ENGINE: std::cell::RefCell<Option<Engine>> = const { std::cell::RefCell::new(None) };
    }
    let (disk, gate, engine, keys) = behind_a_gate(small());
    gate.close();
    let receipt = put(&engine, &keys, "a", "1", CommitMode::Async).unwrap();
    let waiting = receipt.clone();
    let last = std::thread::spawn(move || {
        ENGINE.set(Some(engine));
        // It has waited, and the flusher is inside a flush when the thread ends.
        waiting.wait_timeout(Duration::from_millis(50)).unwrap_err();
    });
    std::thread::sleep(Duration::from_millis(200));
    gate.open();
    last.join().unwrap();
    assert!(receipt.is_durable());
    drop(keys);
    assert!(open_on(&disk, small()).unwrap().recovery().crashed.is_none(), "it was closed");
}

/// A receipt polled in a forked child waited there for a flusher that was not copied.
#[cfg(unix)]
#[test]
fn a_receipt_polled_behind_a_fork_is_refused() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    let mut receipt = put(&engine, &keys, "a", "1", CommitMode::Sync).unwrap();
    // SAFETY: the child calls into the engine, which refuses before it takes a lock, and leaves by _exit.
    #[expect(unsafe_code, reason = "fork has no safe binding")]
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(poll(&mut receipt, Waker::noop()), Poll::Ready(Err(e)) if e.kind() == ErrorKind::Forked);
        // SAFETY: no destructor of the parent's may run here.
        #[expect(unsafe_code, reason = "_exit has no safe binding")]
        unsafe {
            libc::_exit(i32::from(!refused))
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status a place to write to.
    #[expect(unsafe_code, reason = "waitpid has no safe binding")]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
}
