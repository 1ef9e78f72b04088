//! Receipts: every way to learn that a commit became durable, and what they cost.
//!
//! A [`Gate`](crate::gate::Gate) stands for the device: while it is closed no fsync ends, so nothing here depends on time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[cfg(feature = "sim")]
use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Incarnation, LogId, Lsn, Options, Receipt, Token};

#[cfg(feature = "sim")]
use crate::gate::behind_a_gate;
use crashkit::{MODES, TempDir, Wakes, block_on, drive, error_of, in_memory, kind_of, open_on, put, wait_until};

const LONG: Duration = Duration::from_secs(3600);

fn poll(receipt: &mut Receipt, waker: &Waker) -> Poll<forelog::Result<()>> {
    Pin::new(receipt).poll(&mut Context::from_waker(waker))
}

/// Options under which no flush comes by itself.
fn lazy() -> Options {
    Options::new().flush_interval(LONG).loss_budget(forelog::LossBudget::default().max_age(LONG))
}

#[test]
fn every_way_says_durable_in_every_mode() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    for mode in MODES {
        let commit = || put(&engine, &keyspace, "a", "1", mode).unwrap();
        commit().wait().unwrap();
        commit().wait_timeout(LONG).unwrap();
        block_on(commit()).unwrap();
        block_on(async { commit().await }).unwrap();
        let (sender, receiver) = mpsc::channel();
        let receipt = commit();
        receipt.on_durable(move |verdict| sender.send(verdict).unwrap()).unwrap();
        receiver.recv().unwrap().unwrap();
        assert!(receipt.is_durable() && receipt.lsn() == engine.durable_lsn());
        let receipt = commit();
        wait_until(|| receipt.is_durable());
    }
}

#[cfg(feature = "sim")]
#[test]
fn no_way_says_durable_before_it_is() {
    let (_, gate, engine, keyspace) = behind_a_gate(Options::new());
    gate.close();
    let mut receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (sender, receiver) = mpsc::channel();
    receipt.on_durable(move |verdict| sender.send(verdict).unwrap()).unwrap();
    let waiter = receipt.clone();
    let waiting = std::thread::spawn(move || waiter.wait());
    let error = error_of(receipt.wait_timeout(Duration::from_millis(20)));
    assert_eq!((error.kind(), error.token()), (ErrorKind::TimedOut, Some(receipt.token())));
    let (wakes, waker) = Wakes::new();
    assert!(poll(&mut receipt, &waker).is_pending());
    assert!(!receipt.is_durable() && receiver.try_recv().is_err() && !waiting.is_finished() && wakes.count() == 0);
    gate.open();
    waiting.join().unwrap().unwrap();
    receiver.recv().unwrap().unwrap();
    wait_until(|| wakes.count() == 1);
    assert!(matches!(poll(&mut receipt, &waker), Poll::Ready(Ok(()))));
}

#[test]
fn a_thousand_futures_are_awaited_from_one_thread() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    for mode in [CommitMode::Async, CommitMode::Written] {
        let flushes = engine.stats().flushes;
        let receipts: Vec<_> = (0..1024).map(|n| put(&engine, &keyspace, &n.to_string(), "x", mode).unwrap()).collect();
        let lsns: Vec<_> = receipts.iter().map(Receipt::lsn).collect();
        assert!(lsns.is_sorted());
        let outputs = drive(receipts);
        assert!(outputs.len() == 1024 && outputs.iter().all(Result::is_ok));
        assert!(engine.durable_lsn() >= lsns[1023]);
        assert!(engine.stats().flushes - flushes < 1024, "they share flushes");
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_pending_future_is_dropped_without_a_trace() {
    let (_, gate, engine, keyspace) = behind_a_gate(lazy());
    gate.close();
    let (wakes, waker) = Wakes::new();
    let mut dropped = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let mut kept = put(&engine, &keyspace, "b", "1", CommitMode::Async).unwrap();
    assert!(poll(&mut dropped, &waker).is_pending());
    drop(dropped);
    assert_eq!(Arc::strong_count(&wakes), 2, "its waker is gone");
    let (others, other) = Wakes::new();
    assert!(poll(&mut kept, &other).is_pending());
    gate.open();
    kept.wait().unwrap();
    wait_until(|| others.count() == 1);
    assert_eq!(wakes.count(), 0);
}

#[cfg(feature = "sim")]
#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    let (_, gate, engine, keyspace) = behind_a_gate(lazy());
    gate.close();
    let mut receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (first_wakes, first) = Wakes::new();
    let (second_wakes, second) = Wakes::new();
    assert!(poll(&mut receipt, &first).is_pending());
    assert!(poll(&mut receipt, &second).is_pending());
    drop(first);
    assert_eq!(Arc::strong_count(&first_wakes), 1, "the first waker is not kept");
    gate.open();
    wait_until(|| second_wakes.count() > 0);
    assert_eq!((first_wakes.count(), second_wakes.count()), (0, 1));
    assert!(matches!(poll(&mut receipt, &second), Poll::Ready(Ok(()))));
}

#[cfg(feature = "sim")]
#[test]
fn a_waker_may_use_the_engine() {
    struct Committer(Engine, mpsc::Sender<Receipt>);
    impl Wake for Committer {
        fn wake(self: Arc<Self>) {
            let keyspace = self.0.open_keyspace("k").unwrap();
            self.1.send(put(&self.0, &keyspace, "from a waker", "1", CommitMode::Sync).unwrap()).unwrap();
        }
    }
    let (_, gate, engine, keyspace) = behind_a_gate(lazy());
    gate.close();
    let mut receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::from(Arc::new(Committer(engine.clone(), sender)));
    assert!(poll(&mut receipt, &waker).is_pending());
    gate.open();
    assert!(receiver.recv().unwrap().is_durable());
}

#[cfg(feature = "sim")]
#[test]
fn callbacks_run_in_lsn_order_on_one_thread() {
    let (_, gate, engine, keyspace) = behind_a_gate(Options::new());
    gate.close();
    let mut receipts: Vec<_> =
        (0..200).map(|n| put(&engine, &keyspace, &n.to_string(), "x", CommitMode::Async).unwrap()).collect();
    let lsns: Vec<_> = receipts.iter().map(Receipt::lsn).collect();
    receipts.rotate_left(70);
    receipts.reverse();
    let (sender, receiver) = mpsc::channel();
    for receipt in &receipts {
        let (sender, lsn) = (sender.clone(), receipt.lsn());
        receipt.on_durable(move |_| sender.send((lsn, std::thread::current().id())).unwrap()).unwrap();
    }
    drop(sender);
    gate.open();
    let (called, threads): (Vec<_>, Vec<_>) = receiver.iter().unzip();
    assert_eq!(called, lsns);
    assert!(threads.iter().all(|thread| *thread == threads[0] && *thread != std::thread::current().id()));
}

#[cfg(feature = "sim")]
#[test]
fn callbacks_run_in_lsn_order_whenever_they_are_registered() {
    for seed in 0..100 {
        let called = sim::run(seed, || {
            let engine = in_memory();
            let keyspace = engine.create_keyspace("k").unwrap();
            let called = Arc::new(Mutex::new(Vec::new()));
            let register = |receipt: &Receipt| {
                let (called, lsn) = (Arc::clone(&called), receipt.lsn());
                receipt.on_durable(move |_| called.lock().unwrap().push(lsn)).unwrap();
            };
            for n in 0..10 {
                let first = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
                let second = put(&engine, &keyspace, "b", "1", CommitMode::Async).unwrap();
                register(&first);
                let waiter = first.clone();
                let flusher = sim::start("flusher", move || waiter.wait().unwrap());
                // Every other time it is known to be durable when its callback is registered.
                while n % 2 == 0 && !second.is_durable() {
                    sim::yield_point();
                }
                register(&second);
                flusher.join();
            }
            engine.close().unwrap();
            sim::sleep(LONG);
            let called = called.lock().unwrap();
            called.clone()
        });
        assert!(called.len() == 20 && called.is_sorted(), "seed {seed}: {called:?}");
    }
}

#[test]
fn a_panic_in_a_callback_does_not_stop_the_others() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let (sender, receiver) = mpsc::channel();
    for n in 0..10 {
        let sender = sender.clone();
        let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
        let callback = move |_| {
            assert!(n % 3 != 0, "on purpose");
            sender.send(n).unwrap();
        };
        receipt.on_durable(callback).unwrap();
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2, 4, 5, 7, 8]);
    assert!(put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap().is_durable());
}

#[test]
fn a_callback_may_commit_in_every_mode() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (sender, receiver) = mpsc::channel();
    let inner = engine.clone();
    let callback = move |verdict: forelog::Result<()>| {
        verdict.unwrap();
        for mode in MODES {
            let receipt = put(&inner, &keyspace, "b", "2", mode).unwrap();
            receipt.wait().unwrap();
            let sender = sender.clone();
            receipt.on_durable(move |verdict| sender.send(verdict).unwrap()).unwrap();
        }
    };
    receipt.on_durable(callback).unwrap();
    assert_eq!(receiver.iter().filter(Result::is_ok).count(), MODES.len());
}

#[test]
fn a_callback_may_drop_the_last_engine() {
    let disk = TempDir::new("receipts");
    for _ in 0..20 {
        let engine = open_on(&disk, Options::new()).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
        let (sender, receiver) = mpsc::channel();
        let callback = move |verdict| {
            drop((keyspace, engine));
            sender.send(verdict).unwrap();
        };
        receipt.on_durable(callback).unwrap();
        drop(receipt);
        receiver.recv().unwrap().unwrap();
        assert!(open_on(&disk, Options::new()).unwrap().recovery().crashed.is_none(), "it was closed");
    }
}

#[test]
fn a_callback_may_close_the_engine() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (sender, receiver) = mpsc::channel();
    let inner = engine.clone();
    receipt.on_durable(move |_| sender.send(inner.close()).unwrap()).unwrap();
    receiver.recv().unwrap().unwrap();
    assert_eq!(kind_of(engine.begin()), ErrorKind::Closed);
}

#[cfg(feature = "sim")]
#[test]
fn after_a_failed_fsync_every_way_says_indeterminate_with_the_token() {
    let (disk, gate, engine, keyspace) = behind_a_gate(Options::new());
    let kept = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    gate.close();
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Errno(5)));
    let mut receipt = put(&engine, &keyspace, "a", "2", CommitMode::Async).unwrap();
    let (sender, receiver) = mpsc::channel();
    let register = || {
        let sender = sender.clone();
        receipt.on_durable(move |verdict| sender.send(verdict).unwrap()).unwrap();
    };
    register();
    let waiter = receipt.clone();
    let waiting = std::thread::spawn(move || waiter.wait());
    gate.open();
    let verdicts = [
        waiting.join().unwrap(),
        receiver.recv().unwrap(),
        receipt.wait(),
        receipt.wait_timeout(LONG),
        {
            register();
            receiver.recv().unwrap()
        },
        block_on(receipt.clone()),
        block_on(&mut receipt),
    ];
    for verdict in verdicts {
        let error = error_of(verdict);
        assert_eq!((error.kind(), error.token()), (ErrorKind::Indeterminate, Some(receipt.token())));
        assert!(error.to_string().contains("os error 5"), "{error}");
    }
    assert!(!receipt.is_durable() && kept.is_durable());
    assert!(kept.wait().is_ok() && block_on(kept).is_ok());
}

#[test]
fn receipts_outlive_the_engine() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let closed = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    engine.close().unwrap();
    drop((engine, keyspace));
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let dropped = put(&engine, &keyspace, "a", "2", CommitMode::Async).unwrap();
    drop((engine, keyspace));
    for receipt in [closed, dropped] {
        assert!(receipt.is_durable());
        receipt.wait().unwrap();
        receipt.wait_timeout(Duration::ZERO).unwrap();
        let (sender, receiver) = mpsc::channel();
        receipt.on_durable(move |verdict| sender.send(verdict).unwrap()).unwrap();
        receiver.recv().unwrap().unwrap();
        block_on(receipt).unwrap();
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_pending_future_completes_when_the_engine_is_dropped() {
    let (_, gate, engine, keyspace) = behind_a_gate(lazy());
    gate.close();
    let mut receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (_, waker) = Wakes::new();
    assert!(poll(&mut receipt, &waker).is_pending());
    gate.open();
    drop((engine, keyspace));
    block_on(receipt).unwrap();
}

#[cfg(feature = "sim")]
#[test]
fn watching_makes_no_flush_due_and_the_interval_does() {
    sim::run(1, || {
        let engine = open_on(&SimDisk::new(), Options::new().flush_interval(Duration::from_millis(50))).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
        let before = engine.stats().flushes;
        receipt.on_durable(|verdict| verdict.unwrap()).unwrap();
        for _ in 0..40 {
            sim::sleep(Duration::from_millis(1));
            assert!(!receipt.is_durable());
        }
        assert_eq!(engine.stats().flushes, before);
        sim::sleep(Duration::from_millis(11));
        assert!(receipt.is_durable() && engine.stats().flushes == before + 1);
    });
}

#[cfg(feature = "sim")]
#[test]
fn waiting_makes_a_flush_due_now() {
    sim::run(1, || {
        let engine = open_on(&SimDisk::new(), lazy()).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let commit = || put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
        let soon = Duration::from_millis(1);
        commit().wait_timeout(soon).unwrap();
        let mut receipt = commit();
        assert!(poll(&mut receipt, Waker::noop()).is_pending());
        sim::sleep(soon);
        assert!(receipt.is_durable());
        let (begin, receipt) = (sim::now().unwrap(), commit());
        receipt.wait().unwrap();
        commit();
        engine.flush().unwrap();
        commit();
        engine.snapshot().unwrap().wait_durable().unwrap();
        assert!(sim::now().unwrap().since(begin) < soon && engine.durable_lsn() == engine.visible_lsn());
    });
}

#[cfg(feature = "sim")]
#[test]
fn a_snapshot_waits_for_exactly_what_it_sees() {
    let (_, gate, engine, keyspace) = behind_a_gate(lazy());
    put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    let before = engine.snapshot().unwrap();
    gate.close();
    let receipt = put(&engine, &keyspace, "a", "2", CommitMode::Async).unwrap();
    let after = engine.snapshot().unwrap();
    assert!(before.is_durable() && !after.is_durable());
    before.wait_durable().expect("the device does not move, and need not");
    assert_eq!(engine.durable_snapshot().unwrap().get(&keyspace, "a").unwrap().unwrap(), b"1");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| after.wait_durable());
        gate.open();
        waiting.join().unwrap().unwrap();
    });
    assert!(after.is_durable() && receipt.is_durable());
    assert_eq!(engine.durable_snapshot().unwrap().get(&keyspace, "a").unwrap().unwrap(), b"2");
}

#[cfg(feature = "sim")]
#[test]
fn a_read_only_transaction_commits_at_once_and_is_durable_with_what_it_read() {
    let (_, gate, engine, keyspace) = behind_a_gate(lazy());
    gate.close();
    let written = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let mut tx = engine.begin().unwrap();
    assert!(tx.get(&keyspace, "a").unwrap().is_some());
    let read = tx.commit_with(CommitMode::Sync).unwrap();
    assert_eq!((read.lsn(), read.token()), (written.lsn(), written.token()));
    assert!(!read.is_durable());
    gate.open();
    block_on(read).unwrap();
    assert!(written.is_durable());
}

#[cfg(feature = "sim")]
#[test]
fn ten_thousand_receipts_need_no_thread_each() {
    let threads = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    let (_, gate, engine, keyspace) = behind_a_gate(Options::new());
    let before = threads();
    gate.close();
    let (sender, receiver) = mpsc::channel();
    let mut receipts = Vec::new();
    for n in 0..10_000 {
        let mut receipt = put(&engine, &keyspace, &n.to_string(), "x", CommitMode::Async).unwrap();
        let sender = sender.clone();
        receipt.on_durable(move |verdict| sender.send(verdict).unwrap()).unwrap();
        assert!(poll(&mut receipt, Waker::noop()).is_pending());
        receipts.push(receipt);
    }
    // The other tests of this file start and end threads of their own meanwhile, a few.
    assert!(threads() < before + 500, "{} threads, {before} before", threads());
    drop(sender);
    gate.open();
    assert_eq!(receiver.iter().filter(Result::is_ok).count(), 10_000);
    assert!(drive(receipts).iter().all(Result::is_ok));
}

#[test]
fn a_token_prints_and_parses_and_is_never_misread() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    let token = receipt.token();
    assert_eq!((token.log_id, token.incarnation.number, token.lsn), (engine.log_id(), 1, receipt.lsn()));
    let largest = Token {
        log_id: LogId([0xFF; 16]),
        incarnation: Incarnation { number: u64::MAX, nonce: u64::MAX },
        lsn: Lsn::new(u64::MAX),
    };
    for token in [token, largest] {
        let text = token.to_string();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert!(!text.contains(char::is_whitespace));
        // Any other digit anywhere, and any piece that is missing, doubled or foreign.
        let mut wrong =
            vec![String::new(), "forelog".into(), format!(" {text}"), format!("{text}-"), format!("{text}-0")];
        for at in 0..text.len() {
            let digit = if text.as_bytes()[at] == b'1' { "2" } else { "1" };
            wrong.push(format!("{}{digit}{}", &text[..at], &text[at + 1..]));
            wrong.push(text[..at].to_owned());
        }
        let fields: Vec<_> = text.split('-').collect();
        for field in 0..fields.len() {
            for bad in ["", "g", "+1", " 1", "-1", "0x1", "111111111111111111111111111111111"] {
                let mut fields = fields.clone();
                fields[field] = bad;
                wrong.push(fields.join("-"));
            }
            wrong.push([&fields[..field], &fields[field + 1..]].concat().join("-"));
            wrong.push([&fields[..=field], &fields[field..]].concat().join("-"));
        }
        for text in wrong {
            let error = text.parse::<Token>().expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
