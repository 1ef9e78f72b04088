//! Corners of the promises: each test here fails for a plausible mistake that the plain ones do not see.

mod first_half;
mod second_half;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, LossBudget, Lsn, Outcome, Receipt, Token};

use super::{DIR, count, open, options, power_loss, put, random_power_loss, simulate, simulate_with, three_clients};

const INSTANT: Duration = Duration::from_micros(10);
const LONG: Duration = Duration::from_secs(1);

/// A commit of which a few fill a segment.
fn put_large(engine: &Engine, keys: &Keyspace, number: u32, mode: CommitMode) -> forelog::Result<Receipt> {
    let mut batch = engine.batch()?;
    batch.put(keys, number.to_be_bytes(), [7; 900])?;
    batch.commit_with(mode)
}

fn is_there(disk: &SimDisk, number: u32) -> bool {
    let engine = open(disk);
    let Ok(keys) = engine.open_keyspace("keys") else { return false };
    engine.snapshot().unwrap().get(&keys, number.to_be_bytes()).unwrap().is_some()
}

/// The verdict of a receipt as a future; `None` if it has none within a second.
fn poll_for_long(receipt: &mut Receipt) -> Option<forelog::Result<()>> {
    let start = sim::now().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    while sim::now().unwrap().since(start) < LONG {
        if let Poll::Ready(verdict) = Pin::new(&mut *receipt).poll(&mut context) {
            return Some(verdict);
        }
        sim::sleep(INSTANT);
    }
    None
}

/// Commits of which a power loss can take any number: durable ones, then `Async` and `Written` ones.
fn put_unsynced(engine: &Engine, keys: &Keyspace) -> Vec<Token> {
    let mode = |number| match number {
        2 => CommitMode::Sync,
        _ if number % 5 == 0 => CommitMode::Written,
        _ => CommitMode::Async,
    };
    (0..60).map(|number| put(engine, keys, number, mode(number)).unwrap().token()).collect()
}

/// How many of the keys 0, 1, 2... are there, whatever their values; none may be missing in between.
fn count_large(disk: &SimDisk) -> u32 {
    let engine = open(disk);
    let Ok(keys) = engine.open_keyspace("keys") else { return 0 };
    let entries = engine.snapshot().unwrap().iter(&keys).unwrap();
    let mut count = 0u32;
    for entry in entries {
        assert_eq!(entry.unwrap().0, count.to_be_bytes(), "a hole");
        count += 1;
    }
    count
}
