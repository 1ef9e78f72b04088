//! Threads of the log that meet a panic, of a user's code or of the disk: each commit still gets its verdict.

use std::panic::panic_any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::base::error::ErrorKind;
use crate::base::types::CommitMode::{Async, Sync, Written};
use crate::disk::sim::{OpKind, SimDisk};
use crate::log::{Log, LogOptions, Receipt};
use crate::rt::guard::{Panicked, spawn_guarded};
use crate::rt::schedule;

const HOUR: Duration = Duration::from_secs(3600);

/// What a panic carries, and what panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

/// A waker that panics when it wakes, and, if it is asked to, when it is dropped.
struct Bomber {
    when_dropped: bool,
}

impl Wake for Bomber {
    fn wake(self: Arc<Self>) {
        panic_any(Bomb);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        panic_any(Bomb);
    }
}

impl Drop for Bomber {
    fn drop(&mut self) {
        if self.when_dropped {
            panic_any(Bomb);
        }
    }
}

fn open(disk: &SimDisk) -> Log {
    let options = LogOptions::new().segment_bytes(4096).flush_interval(Duration::from_millis(5));
    options.open_on(Arc::new(disk.clone()), "log").unwrap()
}

/// Polls once. The waker is the log's alone from then on.
fn poll(receipt: &mut Receipt, bomber: Bomber) {
    let waker = Waker::from(Arc::new(bomber));
    assert!(Pin::new(receipt).poll(&mut Context::from_waker(&waker)).is_pending());
}

/// A callback's panic had a payload whose drop panicked, and ended the thread: later callbacks were never called.
#[test]
fn a_callback_that_panics_with_anything_does_not_keep_the_others_from_theirs() {
    schedule::run(1, || {
        let log = open(&SimDisk::new());
        let (told, verdicts) = mpsc::channel();
        for number in 0..3 {
            let receipt = log.append(b"x", Async).unwrap();
            let told = told.clone();
            receipt
                .on_durable(move |verdict| {
                    told.send((number, verdict.is_ok())).unwrap();
                    panic_any(Bomb);
                })
                .unwrap();
        }
        schedule::sleep(HOUR);
        assert_eq!(verdicts.try_iter().collect::<Vec<_>>(), [(0, true), (1, true), (2, true)]);
        assert!(log.poisoned().is_none());
    });
}

/// A waker's panic had such a payload, and ended the flusher: `Async` commits were never flushed again.
#[test]
fn a_waker_that_panics_with_anything_does_not_end_the_flusher() {
    for when_dropped in [false, true] {
        schedule::run(2, || {
            let log = open(&SimDisk::new());
            let mut receipt = log.append(b"waits", Async).unwrap();
            poll(&mut receipt, Bomber { when_dropped });
            schedule::sleep(HOUR);
            assert!(receipt.is_durable());
            let later = log.append(b"later", Async).unwrap();
            schedule::sleep(HOUR);
            assert!(later.is_durable() && log.poisoned().is_none());
            log.close().unwrap();
        });
    }
}

/// A commit after the panic is refused, whoever waited has a verdict, and a close returns.
fn assert_told(log: &Log, what: &str) {
    let poison = log.poisoned().unwrap_or_else(|| panic!("{what}: not poisoned"));
    assert!(poison.cause.to_string().contains("panicked"), "{what}: {}", poison.cause);
    for mode in [Async, Written, Sync] {
        assert_eq!(log.append(b"later", mode).unwrap_err().kind(), ErrorKind::Poisoned, "{what}");
    }
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::Poisoned, "{what}");
}

/// Has the disk panic, once, at an operation of this kind by a thread of this name.
fn panic_at(disk: &SimDisk, kind: OpKind, thread: &'static str) {
    let struck = AtomicBool::new(false);
    disk.on_op(move |_, op| {
        let is_it = op.kind == kind && std::thread::current().name() == Some(thread);
        if is_it && !struck.swap(true, Ordering::SeqCst) {
            panic_any(Bomb);
        }
    });
}

/// The payload went to whoever joined the thread: the close, which dropped it, and panicked.
#[test]
fn a_panic_of_the_disk_on_any_thread_poisons_and_tells() {
    let deaths = [
        ("forelog-flush", OpKind::Write),
        ("forelog-flush", OpKind::Sync),
        ("forelog-prepare", OpKind::Create),
        ("forelog-prepare", OpKind::Rename),
    ];
    for (thread, kind) in deaths {
        let what = format!("{thread} at {kind:?}");
        let disk = SimDisk::new();
        let log = open(&disk);
        log.append(b"first", Sync).unwrap();
        while log.stats().segments_prepared == 0 {
            std::thread::yield_now();
        }
        panic_at(&disk, kind, thread);
        let receipt = log.append(&[7; 3000], Async).unwrap();
        match thread {
            // Beyond the segment's midpoint the thread that prepares has something to do.
            "forelog-prepare" => drop(log.append(&[7; 3000], Async)),
            _ => {
                let error = receipt.wait_timeout(HOUR).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Indeterminate, "{what}: {error}");
            }
        }
        // The last thing that the thread does is to tell.
        while log.poisoned().is_none() {
            std::thread::yield_now();
        }
        assert_told(&log, &what);
    }
}

/// The guard of every thread, the scrub's too, for which the simulated disk has no panic.
#[test]
fn a_guarded_thread_that_panics_with_anything_tells_and_can_be_joined() {
    let deaths: [fn(); 3] = [|| panic_any(Bomb), || panic!("text"), || panic!("{}", "formatted")];
    for (death, message) in deaths.into_iter().zip(["a payload that is no text", "text", "formatted"]) {
        let (told, telling) = mpsc::channel();
        let died = move |panicked: &Panicked| {
            told.send(panicked.message.clone()).unwrap();
            // Not even this ends the process.
            panic_any(Bomb);
        };
        spawn_guarded("guarded", death, died).unwrap().join();
        assert_eq!(telling.recv().unwrap(), message);
    }
    let (told, telling) = mpsc::channel::<()>();
    spawn_guarded("guarded", || (), move |_| told.send(()).unwrap()).unwrap().join();
    assert!(telling.recv().is_err(), "it did not panic");
}

// ---- closing

/// A close returned when 8 of 2,000 callbacks had run.
#[test]
fn when_a_close_returns_every_callback_has_run() {
    for seed in 0..20 {
        schedule::run(seed, || {
            let log = open(&SimDisk::new());
            let (told, verdicts) = mpsc::channel();
            for number in 0..200 {
                let told = told.clone();
                let receipt = log.append(b"x", [Async, Written][number % 2]).unwrap();
                receipt
                    .on_durable(move |verdict| {
                        schedule::sleep(Duration::from_millis(1));
                        told.send(verdict.is_ok()).unwrap();
                    })
                    .unwrap();
            }
            log.close().unwrap();
            assert_eq!(verdicts.try_iter().filter(|durable| *durable).count(), 200, "seed {seed}");
        });
    }
}

/// It did not wait for those that were registered by callbacks: of 200 it had seen 100 to 117 run.
#[test]
fn when_a_close_returns_the_callbacks_that_callbacks_have_registered_have_run_too() {
    /// Registers a callback that registers another, `depth` times.
    fn register(receipt: &Receipt, depth: usize, told: mpsc::Sender<usize>) {
        let again = receipt.clone();
        let callback = move |_| {
            schedule::sleep(Duration::from_millis(1));
            if depth > 0 {
                register(&again, depth - 1, told.clone());
            }
            schedule::sleep(Duration::from_millis(1));
            told.send(depth).unwrap();
        };
        receipt.on_durable(callback).unwrap();
    }
    for seed in 0..20 {
        schedule::run(seed, || {
            let log = open(&SimDisk::new());
            let (told, telling) = mpsc::channel();
            for _ in 0..50 {
                register(&log.append(b"x", Async).unwrap(), 3, told.clone());
            }
            log.close().unwrap();
            assert_eq!(telling.try_iter().count(), 200, "seed {seed}");
        });
    }
}

/// Also if the callback that is running has begun the close.
#[test]
fn a_close_from_a_callback_returns_and_another_one_waits_for_that_callback() {
    schedule::run(3, || {
        let log = open(&SimDisk::new());
        let over = Arc::new(AtomicBool::new(false));
        let (closes, is_over) = (log.clone(), Arc::clone(&over));
        let receipt = log.append(b"x", Async).unwrap();
        let (closed, from_the_callback) = mpsc::channel();
        receipt
            .on_durable(move |_| {
                closed.send(closes.close().is_ok()).unwrap();
                schedule::sleep(HOUR);
                is_over.store(true, Ordering::SeqCst);
            })
            .unwrap();
        schedule::sleep(Duration::from_secs(60));
        assert!(from_the_callback.try_recv().unwrap());
        log.close().unwrap();
        assert!(over.load(Ordering::SeqCst));
    });
}

#[test]
fn a_drop_waits_for_no_callback_and_they_run_nevertheless() {
    schedule::run(4, || {
        let log = open(&SimDisk::new());
        let (told, verdicts) = mpsc::channel();
        for _ in 0..3 {
            let told = told.clone();
            let receipt = log.append(b"x", Async).unwrap();
            receipt
                .on_durable(move |verdict| {
                    schedule::sleep(HOUR);
                    told.send(verdict.is_ok()).unwrap();
                })
                .unwrap();
        }
        drop(log);
        assert_eq!(verdicts.try_iter().count(), 0);
        schedule::sleep(4 * HOUR);
        assert_eq!(verdicts.try_iter().filter(|durable| *durable).count(), 3);
    });
}
