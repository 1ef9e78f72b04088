//! Commits that a task waits for (`src/txn/ASYNC.md`).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

#[cfg(feature = "sim")]
use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitFuture, CommitMode, Engine, ErrorKind, Keyspace, LossBudget, Lsn, Options, Outcome, Receipt};

use crashkit::{MODES, TempDir, Wakes, block_on, drive, get, in_memory, kind_of, open_on, put};

const SECOND: Duration = Duration::from_secs(1);

/// A commit of one value of `length` bytes.
fn write(engine: &Engine, keyspace: &Keyspace, key: &str, length: usize, mode: CommitMode) -> CommitFuture {
    let mut tx = engine.begin().unwrap();
    tx.put(keyspace, key, vec![b'v'; length]).unwrap();
    tx.commit_async(mode)
}

/// The same with the first deletion of a range in the life of a database, for which the helper replaces HISTORY.
fn write_by_the_helper(engine: &Engine, keyspace: &Keyspace, key: &str, mode: CommitMode) -> CommitFuture {
    let mut tx = engine.begin().unwrap();
    tx.put(keyspace, key, "v").unwrap();
    tx.delete_range(keyspace, "y".."z").unwrap();
    tx.commit_async(mode)
}

/// Polls once, with a waker that does nothing.
fn poll(future: &mut CommitFuture) -> Poll<forelog::Result<Receipt>> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn assert_pending(future: &mut CommitFuture) {
    assert!(poll(future).is_pending());
}

#[test]
fn each_mode_has_what_it_promises_when_it_completes() {
    let dir = TempDir::new("async-modes");
    let mut tokens = Vec::new();
    {
        let engine = Engine::open(dir.join("db")).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        for (number, mode) in MODES.into_iter().enumerate() {
            let mut future = write(&engine, &keyspace, &number.to_string(), 10, mode);
            assert_eq!(future.token(), None, "nothing happens before the first poll");
            let receipt = block_on(&mut future).unwrap();
            assert_eq!(future.token(), Some(receipt.token()));
            assert!(receipt.is_durable() || mode != CommitMode::Sync);
            assert_eq!(get(&engine, &keyspace, &number.to_string()).map(|value| value.len()), Some(10));
            tokens.push(receipt.token());
        }
        let mut batch = engine.batch().unwrap();
        batch.put(&keyspace, "batch", "1").unwrap();
        let receipts = drive(vec![batch.commit_async(CommitMode::Async), batch.commit_async(CommitMode::Sync)]);
        tokens.extend(receipts.iter().map(|receipt| receipt.as_ref().unwrap().token()));
        assert!(tokens.is_sorted_by_key(|token| token.lsn) && tokens.len() == MODES.len() + 2);
        // Without writes there is nothing to place.
        let read = block_on(engine.begin().unwrap().commit_async(CommitMode::Async)).unwrap();
        block_on(read).unwrap();
        engine.close().unwrap();
        let late = block_on(batch.commit_async(CommitMode::Async));
        assert_eq!(kind_of(late), ErrorKind::Closed);
    }
    let engine = Engine::open(dir.join("db")).unwrap();
    assert!(tokens.iter().all(|token| engine.outcome(token).unwrap() == Outcome::Durable));
}

#[test]
fn a_conflict_and_a_dropped_keyspace_are_told() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut tx = engine.begin().unwrap();
    assert!(tx.get(&keyspace, "read").unwrap().is_none());
    tx.put(&keyspace, "mine", "1").unwrap();
    put(&engine, &keyspace, "read", "1", CommitMode::Async).unwrap();
    assert_eq!(kind_of(block_on(tx.commit_async(CommitMode::Async))), ErrorKind::Conflict);
    let future = write(&engine, &keyspace, "late", 1, CommitMode::Async);
    engine.drop_keyspace("k").unwrap();
    assert_eq!(kind_of(block_on(future)), ErrorKind::KeyspaceDropped);
}

#[test]
fn keyspaces_are_made_and_everything_is_flushed() {
    let dir = TempDir::new("async-calls");
    let engine = Engine::open(dir.join("db")).unwrap();
    let made = drive((0..20).map(|number| Box::pin(made(&engine, number % 5))).collect());
    put(&engine, &made[0], "one", "1", CommitMode::Async).unwrap();
    assert!([5, 10, 15].iter().all(|number| get(&engine, &made[*number], "one").is_some()));
    let mut batch = engine.batch().unwrap();
    batch.put(&made[0], "k", "1").unwrap();
    let receipt = block_on(batch.commit_async(CommitMode::Async)).unwrap();
    assert!(block_on(engine.flush_async()).unwrap() >= receipt.lsn() && receipt.is_durable());
    assert_eq!(kind_of(block_on(engine.create_keyspace_async(""))), ErrorKind::InvalidInput);
    put(&engine, &made[1], "two", "2", CommitMode::Async).unwrap();
    let snapshot = engine.snapshot().unwrap();
    block_on(snapshot.wait_durable_async()).unwrap();
    assert!(snapshot.is_durable());
    assert!(block_on(engine.drop_keyspace_async("k4")).unwrap().is_durable());
    assert_eq!(kind_of(block_on(engine.drop_keyspace_async("k4"))), ErrorKind::NoSuchKeyspace);
    engine.close().unwrap();
    assert_eq!(kind_of(block_on(engine.flush_async())), ErrorKind::Closed);
    assert_eq!(kind_of(block_on(engine.create_keyspace_async("new"))), ErrorKind::Closed);

    async fn made(engine: &Engine, number: usize) -> Keyspace {
        engine.create_keyspace_async(&format!("k{number}")).await.unwrap()
    }
}

/// It was handed out, and nothing is left.
#[test]
#[should_panic(expected = "polled after it was ready")]
fn a_result_is_handed_out_once() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut future = write(&engine, &keyspace, "a", 1, CommitMode::Async);
    block_on(&mut future).unwrap();
    let _ = poll(&mut future);
}

/// The calls that a thread made to a simulated disk, and which thread is watched.
#[cfg(feature = "sim")]
fn count_calls_of_this_thread(disk: &SimDisk) -> Arc<AtomicU64> {
    let (count, watched): (Arc<AtomicU64>, ThreadId) = (Arc::default(), thread::current().id());
    let counts = Arc::clone(&count);
    disk.on_op(move |_, _| {
        counts.fetch_add(u64::from(thread::current().id() == watched), Ordering::Relaxed);
    });
    count
}

/// A device on which each sync takes a second, an engine that has prepared its log unless it is new, and a budget for two commits.
#[cfg(feature = "sim")]
fn slow(is_new: bool) -> (SimDisk, Engine, Keyspace) {
    let disk = SimDisk::new();
    let options = || Options::new().loss_budget(LossBudget::default().max_commits(2));
    let mut engine = open_on(&disk, options()).unwrap();
    let mut keyspace = engine.create_keyspace("k").unwrap();
    sim::sleep(SECOND);
    if is_new {
        engine.close().unwrap();
        engine = open_on(&disk, options()).unwrap();
        keyspace = engine.open_keyspace("k").unwrap();
    }
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Stall(SECOND)));
    (disk, engine, keyspace)
}

/// Polls each of them, as a task of its own: a task that waits for several is woken once.
#[cfg(feature = "sim")]
fn poll_each(futures: &mut [CommitFuture]) -> Vec<Arc<Wakes>> {
    let polled = futures.iter_mut().map(|future| {
        let (wakes, waker) = Wakes::new();
        assert!(Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
        wakes
    });
    polled.collect()
}

#[cfg(feature = "sim")]
fn fill_the_budget(engine: &Engine, keyspace: &Keyspace) {
    for number in 0.. {
        let mut tx = engine.begin().unwrap();
        tx.put(keyspace, format!("fill {number}"), "1").unwrap();
        if tx.try_commit_with(CommitMode::Async).is_err() {
            return;
        }
    }
}

/// In every mode, for the first commit of a life, the first deletion of a range, a full budget, a segment that is not ready, and a
/// commit that is large.
#[cfg(feature = "sim")]
#[test]
fn a_poll_makes_no_call_to_the_disk_and_takes_no_time() {
    for (mode, seed) in MODES.into_iter().flat_map(|mode| (0..4).map(move |seed| (mode, seed))) {
        sim::run(seed, move || {
            let (disk, engine, keyspace) = slow(seed < 2);
            let calls = count_calls_of_this_thread(&disk);
            let mut ranges = engine.begin().unwrap();
            ranges.delete_range(&keyspace, .."3").unwrap();
            // The first one finds nothing in its way, whatever it is.
            let mut futures = vec![ranges.commit_async(mode)];
            if seed % 2 == 0 {
                futures.insert(0, write(&engine, &keyspace, "large", 3 << 20, mode));
            }
            futures.extend((0..8).map(|number| write(&engine, &keyspace, &number.to_string(), 100, mode)));
            futures.extend((0..60).map(|number| write(&engine, &keyspace, &number.to_string(), 60_000, mode)));
            let (mut left, begin) = (futures.len(), sim::now().unwrap());
            let mut done: Vec<Option<Receipt>> = futures.iter().map(|_| None).collect();
            while left > 0 {
                let before = sim::now().unwrap();
                for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
                    if let Poll::Ready(result) = poll(future) {
                        *done = Some(result.unwrap());
                        left -= 1;
                    }
                }
                // Each change of threads takes a microsecond.
                assert!(sim::now().unwrap().since(before) < SECOND / 100, "{mode:?}");
                assert_eq!(calls.load(Ordering::Relaxed), 0, "{mode:?}");
                sim::sleep(Duration::from_millis(1));
                assert!(sim::now().unwrap().since(begin) < 300 * SECOND, "{mode:?}: {left} are left");
            }
            let receipts: Vec<_> = done.into_iter().flatten().collect();
            assert!(mode != CommitMode::Sync || receipts.iter().all(Receipt::is_durable));
            disk.clear_on_op();
            engine.close().unwrap();
            assert!(receipts.iter().all(Receipt::is_durable));
        });
    }
}

#[cfg(feature = "sim")]
#[test]
fn dropped_before_its_place_nothing_is_committed_and_after_it_it_is() {
    for mode in MODES {
        sim::run(2, move || {
            let (disk, engine, keyspace) = slow(false);
            drop(write(&engine, &keyspace, "never polled", 1, mode));
            // With its place, and polled no more.
            let mut placed = write(&engine, &keyspace, "placed", 1, mode);
            let is_over = poll(&mut placed).is_ready();
            assert!(is_over || placed.token().is_some(), "there was room");
            drop(placed);
            // It waits for room behind one that does.
            fill_the_budget(&engine, &keyspace);
            let mut waiting = write(&engine, &keyspace, "waiting", 1, CommitMode::Async);
            let mut queued = write(&engine, &keyspace, "queued", 1, mode);
            assert_pending(&mut waiting);
            assert_pending(&mut queued);
            assert_eq!((waiting.token(), queued.token()), (None, None));
            // The helper has the first one in hand.
            sim::sleep(Duration::from_millis(10));
            drop((waiting, queued));
            sim::sleep(10 * SECOND);
            for key in ["never polled", "waiting", "queued"] {
                assert_eq!(get(&engine, &keyspace, key), None, "{mode:?}: {key}");
            }
            assert!(get(&engine, &keyspace, "placed").is_some());
            disk.clear_faults();
            engine.close().unwrap();
        });
    }
}

/// Nobody else commits, and no poll comes after the one that placed it.
#[cfg(feature = "sim")]
#[test]
fn the_flush_of_a_sync_commit_that_was_dropped_is_due() {
    sim::run(9, || {
        let (_disk, engine, keyspace) = slow(false);
        let mut future = write(&engine, &keyspace, "a", 1, CommitMode::Sync);
        // Not even the poll that places it: that one asks as well, if it goes on.
        assert_pending(&mut future);
        let token = future.token().unwrap();
        drop(future);
        sim::sleep(5 * SECOND);
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Durable);
        // Placed by the helper, and never polled again.
        let mut future = write_by_the_helper(&engine, &keyspace, "b", CommitMode::Sync);
        assert_pending(&mut future);
        assert_eq!(future.token(), None);
        while future.token().is_none() {
            sim::sleep(Duration::from_millis(1));
        }
        let token = future.token().unwrap();
        drop(future);
        sim::sleep(20 * SECOND);
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Durable);
        engine.close().unwrap();
    });
}

#[cfg(feature = "sim")]
#[test]
fn a_close_ends_every_future_and_wakes_its_task() {
    sim::run(3, || {
        let (_disk, engine, keyspace) = slow(false);
        fill_the_budget(&engine, &keyspace);
        let mut futures: Vec<_> = MODES.map(|mode| write(&engine, &keyspace, "queued", 1, mode)).into();
        let wakes = poll_each(&mut futures);
        engine.close().unwrap();
        assert!(wakes.iter().all(|wakes| wakes.count() > 0));
        for mut future in futures {
            match poll(&mut future) {
                Poll::Ready(Err(error)) => assert_eq!((error.kind(), error.token()), (ErrorKind::Closed, None)),
                // The close's flush has made room for the one that the helper had in hand.
                Poll::Ready(Ok(receipt)) => assert!(receipt.is_durable()),
                Poll::Pending => panic!("nobody will ever wake it"),
            }
        }
    });
}

/// Wakes by doing something to the future that it is the waker of.
struct Does<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_waker_may_panic_drop_its_future_and_poll_it() {
    sim::run(4, || {
        let (_disk, engine, keyspace) = slow(false);
        fill_the_budget(&engine, &keyspace);
        let slot = |key: &str| Arc::new(Mutex::new(Some(write(&engine, &keyspace, key, 1, CommitMode::Written))));
        let (panics, drops, polls) = (slot("panics"), slot("drops"), slot("polls"));
        let (dropped, polled) = (Arc::clone(&drops), Arc::clone(&polls));
        let wakers = [
            Waker::from(Arc::new(Does(|| panic!("a waker")))),
            Waker::from(Arc::new(Does(move || drop(dropped.lock().unwrap().take())))),
            Waker::from(Arc::new(Does(move || {
                if let Some(future) = &mut *polled.lock().unwrap() {
                    let _ = poll(future);
                }
            }))),
        ];
        for (slot, waker) in [&panics, &drops, &polls].into_iter().zip(&wakers) {
            let mut slot = slot.lock().unwrap();
            assert!(Pin::new(slot.as_mut().unwrap()).poll(&mut Context::from_waker(waker)).is_pending());
        }
        sim::sleep(20 * SECOND);
        assert!(drops.lock().unwrap().is_none());
        for key in ["panics", "drops", "polls"] {
            assert!(get(&engine, &keyspace, key).is_some(), "{key}");
        }
        assert!(engine.poisoned().is_none());
        // The helper goes on.
        let mut after = write(&engine, &keyspace, "after", 1, CommitMode::Written);
        while poll(&mut after).is_pending() {
            sim::sleep(Duration::from_millis(10));
        }
        engine.close().unwrap();
    });
}

/// The verdict of a commit that has its place is never that it was not done.
#[cfg(feature = "sim")]
#[test]
fn a_failed_device_is_in_doubt_for_what_has_its_place_and_refuses_the_rest() {
    for mode in MODES {
        sim::run(5, move || {
            let (disk, engine, keyspace) = slow(false);
            let mut placed = write(&engine, &keyspace, "placed", 1, mode);
            let mut polled = poll(&mut placed);
            for kind in [OpKind::Sync, OpKind::Write] {
                disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Errno(5)));
            }
            let token = placed.token().expect("it has its place");
            while polled.is_pending() {
                sim::sleep(SECOND / 10);
                polled = poll(&mut placed);
            }
            let Poll::Ready(result) = polled else { unreachable!("it was waited for") };
            // What was acknowledged before it failed says so later.
            let error = result.and_then(|receipt| receipt.wait()).unwrap_err();
            assert_eq!((error.kind(), error.token()), (ErrorKind::Indeterminate, Some(token)), "{mode:?}");
            let mut late = write(&engine, &keyspace, "late", 1, mode);
            let Poll::Ready(Err(error)) = poll(&mut late) else { panic!("it waits for a log that has stopped") };
            assert_eq!((error.kind(), error.token()), (ErrorKind::Poisoned, None));
            assert_eq!(engine.outcome(&token).unwrap(), Outcome::Indeterminate);
            assert!(engine.close().is_err());
        });
    }
}

/// What a mode promises is there when it completes, and was not waited for longer.
#[cfg(feature = "sim")]
#[test]
fn what_was_promised_is_there_after_a_kill_and_after_a_power_loss() {
    for (mode, by_helper) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        sim::run(11, move || {
            let (disk, engine, keyspace) = slow(false);
            let begin = sim::now().unwrap();
            let mut future = match by_helper {
                true => write_by_the_helper(&engine, &keyspace, "a", mode),
                false => write(&engine, &keyspace, "a", 1, mode),
            };
            while poll(&mut future).is_pending() {
                sim::sleep(Duration::from_millis(1));
            }
            assert!(mode == CommitMode::Sync || sim::now().unwrap().since(begin) < SECOND / 2, "{mode:?}");
            let crash = disk.crash_point();
            let has = |disk: SimDisk| {
                let engine = open_on(&disk, Options::new()).unwrap();
                let keyspace = engine.open_keyspace("k").unwrap();
                get(&engine, &keyspace, "a").is_some()
            };
            assert!(has(crash.process_kill()) || !matches!(mode, CommitMode::Sync | CommitMode::Written), "{mode:?}");
            let lost = crash.power_loss(&sim::Loss::Everything, sim::Granularity::default());
            assert_eq!(has(lost), mode == CommitMode::Sync, "{mode:?}");
            engine.close().unwrap();
        });
    }
}

/// A stranger's place, which waits for room, is not to hold up what only has to be written.
#[cfg(feature = "sim")]
#[test]
fn a_written_commit_does_not_wait_behind_the_place_of_another() {
    sim::run(12, || {
        let (disk, engine, keyspace) = slow(false);
        disk.clear_faults();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Stall(100 * SECOND)));
        let mut written = write_by_the_helper(&engine, &keyspace, "written", CommitMode::Written);
        assert_pending(&mut written);
        while written.token().is_none() {
            sim::sleep(Duration::from_micros(1));
        }
        fill_the_budget(&engine, &keyspace);
        let mut stranger = write(&engine, &keyspace, "stranger", 1, CommitMode::Async);
        assert_pending(&mut stranger);
        sim::sleep(SECOND / 4);
        assert!(stranger.token().is_none());
        assert!(poll(&mut written).is_ready());
        disk.clear_faults();
        engine.close().unwrap();
    });
}

/// It says what has happened, and not that the engine was closed.
#[cfg(feature = "sim")]
#[test]
fn a_panic_on_the_helper_stops_the_log_and_ends_all_futures() {
    sim::run(13, || {
        let (disk, engine, keyspace) = slow(true);
        let panics = std::sync::atomic::AtomicBool::new(true);
        disk.on_op(move |_, _| assert!(!panics.swap(false, Ordering::Relaxed), "a disk that panics"));
        let mut futures: Vec<_> = MODES.map(|mode| write(&engine, &keyspace, "a", 1, mode)).into_iter().collect();
        futures.iter_mut().for_each(assert_pending);
        sim::sleep(SECOND);
        for mut future in futures {
            let Poll::Ready(Err(error)) = poll(&mut future) else { panic!("nobody will do it") };
            assert!(matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Internal), "{error}");
        }
        let mut late = write(&engine, &keyspace, "late", 1, CommitMode::Async);
        let Poll::Ready(Err(error)) = poll(&mut late) else { panic!("it waits for a helper that is dead") };
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert!(engine.close().is_err());
    });
}

/// A large one at the head of the queue waits for all of the budget, which small ones would take again and again.
#[cfg(feature = "sim")]
#[test]
fn small_commits_do_not_overtake_a_large_one_that_waits() {
    sim::run(6, || {
        let disk = SimDisk::new();
        let budget = LossBudget::default().max_bytes(100_000);
        let engine = open_on(&disk, Options::new().loss_budget(budget).flush_bytes(50_000)).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        sim::sleep(SECOND);
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Stall(SECOND / 10)));
        let mut futures = Vec::new();
        let mut large = None;
        for round in 0..400 {
            let mut small = write(&engine, &keyspace, &format!("{round}"), 10_000, CommitMode::Async);
            if poll(&mut small).is_pending() {
                futures.push(small);
            }
            if round == 20 {
                large = Some(write(&engine, &keyspace, "large", 90_000, CommitMode::Async));
            }
            if let Some(future) = &mut large
                && poll(future).is_ready()
            {
                return engine.close().unwrap();
            }
            sim::sleep(Duration::from_millis(10));
        }
        panic!("the large one has waited for four seconds");
    });
}

/// The task may have moved to another one's waker.
#[cfg(feature = "sim")]
#[test]
fn the_waker_of_the_last_poll_is_woken() {
    for mode in MODES {
        sim::run(7, move || {
            let (_disk, engine, keyspace) = slow(false);
            fill_the_budget(&engine, &keyspace);
            let mut first = write(&engine, &keyspace, "first", 1, CommitMode::Written);
            assert_pending(&mut first);
            let mut future = write(&engine, &keyspace, "second", 1, mode);
            let ((old, old_waker), (new, new_waker)) = (Wakes::new(), Wakes::new());
            for waker in [&old_waker, &new_waker] {
                assert!(Pin::new(&mut future).poll(&mut Context::from_waker(waker)).is_pending());
            }
            // Some polls for the steps of one commit.
            let mut seen = 0;
            loop {
                while new.count() == seen {
                    sim::sleep(Duration::from_millis(10));
                }
                seen = new.count();
                if let Poll::Ready(receipt) = Pin::new(&mut future).poll(&mut Context::from_waker(&new_waker)) {
                    break drop(receipt.unwrap());
                }
            }
            assert_eq!(old.count(), 0, "{mode:?}");
            engine.close().unwrap();
        });
    }
}

/// While it was still locked, a waker that opens it again was told that it is open already.
#[cfg(feature = "sim")]
#[test]
fn a_waker_of_a_close_can_open_the_database() {
    for is_broken in [false, true] {
        sim::run(8, move || check_waker_of_a_close(is_broken));
    }
}

#[cfg(feature = "sim")]
fn check_waker_of_a_close(is_broken: bool) {
    let (disk, engine, keyspace) = slow(false);
    fill_the_budget(&engine, &keyspace);
    // One is in the helper's hand, one in its queue.
    let opened: Arc<Mutex<Vec<forelog::Result<Lsn>>>> = Arc::default();
    let opens = (Arc::clone(&opened), disk.clone());
    let waker = Waker::from(Arc::new(Does(move || {
        let engine = open_on(&opens.1, Options::new());
        opens.0.lock().unwrap().push(engine.map(|engine| engine.visible_lsn()));
    })));
    let mut futures = ["1", "2"].map(|key| write(&engine, &keyspace, key, 1, CommitMode::Async));
    assert_pending(&mut futures[0]);
    sim::sleep(Duration::from_millis(1));
    assert!(Pin::new(&mut futures[1]).poll(&mut Context::from_waker(&waker)).is_pending());
    if is_broken {
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Errno(5)));
    }
    assert_eq!(engine.close().is_err(), is_broken);
    let opened = opened.lock().unwrap();
    assert!(opened.len() == 1 && opened.iter().all(Result::is_ok), "{opened:?}");
}

/// The close finds them in the queue: the helper is still busy with a waker that takes its time.
#[cfg(feature = "sim")]
#[test]
fn a_close_ends_what_the_helper_has_not_come_to() {
    sim::run(10, || {
        let (_disk, engine, keyspace) = slow(false);
        let mut placed = write(&engine, &keyspace, "a", 1, CommitMode::Written);
        let sleeps = Waker::from(Arc::new(Does(|| sim::sleep(30 * SECOND))));
        assert!(Pin::new(&mut placed).poll(&mut Context::from_waker(&sleeps)).is_pending());
        sim::sleep(SECOND);
        fill_the_budget(&engine, &keyspace);
        let mut futures: Vec<_> = (0..2).map(|_| write(&engine, &keyspace, "b", 1, CommitMode::Async)).collect();
        let wakes = poll_each(&mut futures);
        engine.close().unwrap();
        assert!(wakes.iter().all(|wakes| wakes.count() > 0));
        for mut future in futures {
            let Poll::Ready(Err(error)) = poll(&mut future) else { panic!("it was not committed") };
            assert_eq!((error.kind(), error.token()), (ErrorKind::Closed, None));
        }
    });
}
