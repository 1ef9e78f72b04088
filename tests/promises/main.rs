//! A test for each promise of the engine, named after it. (Larger explorations: `crash`, `no_silent_loss`,
//! `hermitage`, `model`, `receipts`.)
//!
//! All but the last run under the deterministic scheduler, on the simulated disk, in virtual time.

mod after_a_crash;
mod after_a_failure;
mod corners;
mod loss_budget;
mod the_directory;
mod while_it_runs;

use std::sync::Arc;
use std::time::Duration;

use forelog::sim::{self, Granularity, Loss, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Options, Receipt, Transaction};

const DIR: &str = "db";
const DEVICE: Duration = Duration::from_micros(100);

fn options() -> Options {
    Options::new().segment_bytes(8192)
}

fn open(disk: &SimDisk) -> Engine {
    options().open_on(Arc::new(disk.clone()), DIR).expect("a legal state opens")
}

/// Runs `body` in a simulation with an open engine and a keyspace, over several seeds.
fn simulate(body: impl Fn(&SimDisk, &Engine, &Keyspace)) {
    for io_uring in [false, true] {
        simulate_with(&options().io_uring(io_uring), &body);
    }
}

fn simulate_with(options: &Options, body: impl Fn(&SimDisk, &Engine, &Keyspace)) {
    let first = crashkit::seed(1);
    for seed in first..first + 20 {
        sim::run(seed, || {
            let disk = SimDisk::new();
            disk.set_sync_latency(DEVICE);
            let engine = options.clone().open_on(Arc::new(disk.clone()), DIR).expect("a new database");
            let keys = engine.create_keyspace("keys").expect("a keyspace");
            // Until the next segment is prepared, so that faults hit the log and not the preparation.
            sim::sleep(Duration::from_millis(100));
            body(&disk, &engine, &keys);
        });
    }
}

fn put(engine: &Engine, keys: &Keyspace, number: u32, mode: CommitMode) -> forelog::Result<Receipt> {
    let mut batch = engine.batch()?;
    batch.put(keys, number.to_be_bytes(), number.to_be_bytes())?;
    batch.commit_with(mode)
}

/// How many of the keys 0, 1, 2... are there; none may be missing in between.
fn count(engine: &Engine) -> u32 {
    let Ok(keys) = engine.open_keyspace("keys") else { return 0 };
    let entries = engine.snapshot().expect("open").iter(&keys).expect("alive");
    let mut count = 0u32;
    for entry in entries {
        let (key, value) = entry.expect("readable");
        assert_eq!(key, count.to_be_bytes(), "a hole");
        assert_eq!(key, value, "a wrong value");
        count += 1;
    }
    count
}

/// The disk after a power loss that took everything that was not synced.
fn power_loss(disk: &SimDisk) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector)
}

/// The disk after a power loss that took some of it.
fn random_power_loss(disk: &SimDisk, seed: u64) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Seeded(seed), Granularity::Word)
}

/// Three clients that each commit `work` `times` times in their own transactions, again after a conflict.
fn three_clients(
    engine: &Engine,
    keys: &Keyspace,
    times: usize,
    work: fn(&mut Transaction, &Keyspace) -> forelog::Result<()>,
) {
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (engine, keys) = (engine.clone(), keys.clone());
            sim::start("client", move || {
                for _ in 0..times {
                    loop {
                        let mut tx = engine.begin().unwrap();
                        work(&mut tx, &keys).unwrap();
                        match tx.commit_with(CommitMode::Async) {
                            Ok(_) => break,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join();
    }
}
