//! Promise 6, in virtual time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::sim::{self, Fault, FaultKind, Moment, OpKind, OpSelector, Phase, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, LossBudget, Options};

use super::{DIR, put, simulate, simulate_with};

const STALL: Duration = Duration::from_secs(2);

fn now() -> Moment {
    sim::now().expect("inside a simulation")
}

/// A device that stalls for 2 s cannot widen the window: commits wait instead.
#[test]
fn promise_6_a_stalled_device_makes_commits_wait_and_cannot_widen_the_window() {
    let budget = LossBudget::default().max_bytes(4000).max_commits(20).max_age(Duration::from_millis(50));
    let cases = [
        ("bytes", LossBudget::default().max_bytes(1000)),
        ("commits", LossBudget::default().max_commits(7)),
        ("age", LossBudget::default().max_age(Duration::from_millis(30))),
        ("all", budget),
    ];
    for (name, budget) in cases {
        let options = Options::new().segment_bytes(16384).flush_bytes(500).loss_budget(budget);
        let largest = Arc::new(Mutex::new((0, 0, Duration::ZERO)));
        let seen = Arc::clone(&largest);
        simulate_with(&options, move |disk, engine, keys| {
            disk.inject(Fault::once(OpSelector::of(OpKind::Sync).skip(3), FaultKind::Stall(STALL)));
            let start = now();
            let done = Arc::new(AtomicBool::new(false));
            let watcher = watch(engine, budget, Arc::clone(&done), Arc::clone(&seen));
            let clients: Vec<_> = (0..3).map(|client| client_of(engine, keys, client)).collect();
            for client in clients {
                client.join();
            }
            done.store(true, Ordering::Relaxed);
            watcher.join();
            assert!(now().since(start) >= STALL, "the stall was met");
            let window = engine.stats().largest_window;
            assert!(window.bytes <= budget.max_bytes && window.commits <= budget.max_commits, "{window:?}");
            assert!(window.age <= budget.max_age, "{window:?}");
            assert!(engine.stats().stalls > 0, "nobody waited");
        });
        let (commits, bytes, age) = *largest.lock().unwrap();
        println!("{name}: largest window {commits} commits, {bytes} bytes, {age:?}; limit {budget:?}");
    }
}

/// Commits in every mode that counts against the budget, for longer than the stall.
fn client_of(engine: &Engine, keys: &forelog::Keyspace, client: u32) -> sim::Simulated {
    let (engine, keys) = (engine.clone(), keys.clone());
    sim::start("client", move || {
        let modes = [CommitMode::Async, CommitMode::Written, CommitMode::Within(Duration::from_millis(3))];
        for number in 0..120 {
            put(&engine, &keys, client * 1000 + number, modes[number as usize % 3]).unwrap();
            sim::sleep(Duration::from_millis(20));
        }
    })
}

/// Samples `at_risk` from outside, as a second opinion beside the engine's own record.
fn watch(
    engine: &Engine,
    budget: LossBudget,
    done: Arc<AtomicBool>,
    largest: Arc<Mutex<(u64, u64, Duration)>>,
) -> sim::Simulated {
    let engine = engine.clone();
    sim::start("watcher", move || {
        while !done.load(Ordering::Relaxed) {
            let risk = engine.at_risk();
            assert!(risk.bytes <= budget.max_bytes && risk.commits <= budget.max_commits, "{risk:?}");
            let age = engine.stats().largest_window.age;
            let mut largest = largest.lock().unwrap();
            *largest = (largest.0.max(risk.commits), largest.1.max(risk.bytes), largest.2.max(age));
            drop(largest);
            sim::sleep(Duration::from_micros(700));
        }
    })
}

#[test]
fn promise_6a_an_async_commit_waits_for_no_io() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync), FaultKind::Stall(STALL)));
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Write), FaultKind::Stall(STALL)));
        let start = now();
        for number in 1..30 {
            put(engine, keys, number, CommitMode::Async).unwrap();
        }
        assert!(now().since(start) < STALL, "waited for the device");
        disk.clear_faults();
    });
}

/// The flush that covers a commit is issued by its deadline, or when the flush then in flight ends.
#[test]
fn promise_6b_a_flush_is_issued_by_the_deadline() {
    let interval = Duration::from_millis(10);
    let options = super::options().flush_interval(interval);
    simulate_with(&options, |disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        let cases = [
            (CommitMode::Async, interval),
            (CommitMode::Written, interval),
            (CommitMode::Within(Duration::from_millis(2)), Duration::from_millis(2)),
        ];
        for (index, (mode, deadline)) in cases.into_iter().enumerate() {
            engine.flush().unwrap();
            let begun = Arc::new(Mutex::new(None));
            let note = Arc::clone(&begun);
            disk.on_op(move |_, op| {
                if op.kind == OpKind::Sync && op.phase == Phase::InFlight {
                    note.lock().unwrap().get_or_insert(now());
                }
            });
            let start = now();
            let receipt = put(engine, keys, 1 + u32::try_from(index).unwrap(), mode).unwrap();
            let slack = Duration::from_millis(1);
            sim::sleep(deadline + slack);
            let issued = begun.lock().unwrap().expect("a flush was issued").since(start);
            assert!(issued <= deadline + slack, "{mode:?}: issued after {issued:?}");
            sim::sleep(slack);
            assert!(receipt.is_durable());
            disk.clear_on_op();
        }
    });
}

#[test]
fn promise_6c_who_must_not_wait_is_told_so() {
    let options = super::options().flush_bytes(100).loss_budget(LossBudget::default().max_commits(5));
    simulate_with(&options, |disk, engine, keys| {
        engine.flush().unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync), FaultKind::Stall(STALL)));
        for number in 0..5 {
            put(engine, keys, number, CommitMode::Async).unwrap();
        }
        let mut tx = engine.begin().unwrap();
        tx.put(keys, 5u32.to_be_bytes(), 5u32.to_be_bytes()).unwrap();
        let start = now();
        let (error, tx) = tx.try_commit_with(CommitMode::Async).unwrap_err().into_parts();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let refused = tx.expect("nothing was done").commit_timeout(CommitMode::Async, Duration::from_millis(7));
        let (error, tx) = refused.unwrap_err().into_parts();
        assert_eq!((error.kind(), error.token()), (ErrorKind::TimedOut, None));
        assert!(now().since(start) < STALL);
        disk.clear_faults();
        let receipt = tx.expect("nothing was done").commit_with(CommitMode::Async).unwrap();
        receipt.wait().unwrap();
        assert_eq!(super::count(engine), 6);
    });
}

/// One transaction larger than the budget is admitted, alone.
#[test]
fn promise_6c_one_larger_transaction_is_admitted_alone() {
    let options = super::options().flush_bytes(100).loss_budget(LossBudget::default().max_bytes(1000));
    let disk = SimDisk::new();
    let engine = options.open_on(Arc::new(disk), DIR).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keys, b"large", vec![1; 50_000]).unwrap();
    batch.commit_with(CommitMode::Async).unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keys, b"small", b"1").unwrap();
    let waited = batch.commit_with(CommitMode::Async).unwrap();
    assert!(engine.at_risk().bytes <= 1000 || engine.at_risk().commits <= 1);
    waited.wait().unwrap();
}
