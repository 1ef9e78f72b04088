//! Threads against each other, each schedule drawn from a seed: the models of the commit path, and the interleavings
//! that once broke it, each with its story.
//!
//! A simulation that deadlocks aborts the process and prints who waits, so a test that returns has also shown that
//! nobody sleeps for ever.

mod beside;
mod group_commit;
mod life_and_files;
mod models;
mod wakers_and_waits;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use forelog::log::{Log, LogOptions};
use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, Phase, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, LossBudget, Lsn, Options, Outcome, Receipt};

use crashkit::{DB, TempDir, Wakes, kind_of, open_on, put};
use forelog_sim::behind_a_gate;

const SEEDS: u64 = 200;
const DEVICE: Duration = Duration::from_micros(100);
const STALL: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(3600);

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.set_sync_latency(DEVICE);
    disk
}

fn small() -> Options {
    Options::new().segment_bytes(8192)
}

fn open_log(disk: &SimDisk) -> Log {
    LogOptions::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DB).unwrap()
}

/// Runs `body` with an open engine under each seed.
fn simulate(options: &Options, body: impl Fn(&SimDisk, &Engine, &Keyspace)) {
    for seed in 0..SEEDS {
        sim::run(seed, || {
            let disk = disk();
            let engine = open_on(&disk, options.clone()).unwrap();
            let keys = engine.create_keyspace("k").unwrap();
            // Until the next segment is prepared, so that faults hit the log and not the preparation.
            sim::sleep(Duration::from_millis(100));
            body(&disk, &engine, &keys);
        });
    }
}

/// The keys that a database has after a power loss that takes everything it may take.
fn after_power_loss(disk: &SimDisk) -> BTreeSet<String> {
    let disk = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    let engine = open_on(&disk, small()).expect("a legal state opens");
    let Ok(keys) = engine.open_keyspace("k") else { return BTreeSet::new() };
    let entries = engine.snapshot().unwrap().iter(&keys).unwrap();
    entries.map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap()).collect()
}

fn now() -> sim::Moment {
    sim::now().expect("inside a simulation")
}

/// A random pause of up to about `most` turns.
fn pause(random: &mut u64, most: u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (0..(*random >> 33) % most).for_each(|_| sim::yield_point());
}

fn poll(receipt: &mut Receipt, waker: &Waker) -> Poll<forelog::Result<()>> {
    Pin::new(receipt).poll(&mut Context::from_waker(waker))
}

/// A waker that calls `action`, once.
fn waker(action: impl FnOnce() + Send + 'static) -> Waker {
    struct Act<F>(Mutex<Option<F>>);
    impl<F: FnOnce() + Send + 'static> Wake for Act<F> {
        fn wake(self: Arc<Self>) {
            let action = self.0.lock().unwrap().take();
            action.into_iter().for_each(|action| action());
        }
    }
    Waker::from(Arc::new(Act(Mutex::new(Some(action)))))
}

// ---- models
