//! Point reads and scans of all keys, and what is left after a kill.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::common::stats::nanoseconds;
use crate::common::{KEYS, key, key_of};
use crate::peer::{Kind, Mode, Peer, Put, Result, Run, Store};
use crate::workload::Values;

/// Writes every key once, in no order, fifty thousand in a transaction.
pub fn load(store: &dyn Store) -> Result<()> {
    /// Shares no factor with the number of keys, so that its multiples visit each key once.
    const STEP: u64 = 618_033_989;
    const PUTS: u64 = 50_000;
    let values = Values::new();
    let mut session = store.session()?;
    for first in (0..KEYS).step_by(PUTS as usize) {
        let numbers = first..first + PUTS;
        let puts: Vec<Put> = numbers.map(|number| (key_of(number * STEP % KEYS), values.value(number, 100))).collect();
        session.commit(&puts, Mode::Async)?;
    }
    drop(session);
    store.flush()?;
    let found = store.reader()?.scan()?;
    if found != KEYS {
        return Err(format!("{KEYS} keys were written and {found} are found").into());
    }
    Ok(())
}

/// Reads keys in no order from each thread.
pub fn get(store: &dyn Store, threads: usize, seconds: f64) -> Result<Run> {
    let begin = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let begin = &begin;
        let readers: Vec<_> = (0..threads as u64)
            .map(|thread| scope.spawn(move || get_in_one_thread(store, thread << 32, seconds, begin)))
            .collect();
        begin.wait();
        let start = Instant::now();
        let mut all = Run { operations: 0, seconds: 0.0, times: Vec::new() };
        for reader in readers {
            let (operations, times) = reader.join().map_err(|_| "a thread panicked")??;
            all.operations += operations;
            all.times.extend(times);
        }
        all.seconds = start.elapsed().as_secs_f64();
        Ok(all)
    })
}

/// Returns its reads, and the nanoseconds of those that were timed.
fn get_in_one_thread(store: &dyn Store, first: u64, seconds: f64, begin: &Barrier) -> Result<(u64, Vec<u64>)> {
    /// One read of so many is timed: looking at the clock costs a tenth of a fast read. A prime.
    const PIECE: u64 = 61;
    let reader = store.reader();
    begin.wait();
    let mut reader = reader?;
    let mut get = |number| match reader.get(&key(number))? {
        Some(100) => Ok(()),
        _ => Err(crate::peer::Error::from(format!("key {number} is missing, or its value"))),
    };
    let (start, time) = (Instant::now(), Duration::from_secs_f64(seconds));
    let (mut next, mut times) = (first, Vec::new());
    loop {
        let before = Instant::now();
        if before - start >= time {
            return Ok((next - first, times));
        }
        get(next)?;
        times.push(nanoseconds(before.elapsed()));
        (next + 1..next + PIECE).try_for_each(&mut get)?;
        next += PIECE;
    }
}

/// Scans everything, again and again. An operation is a key; a time is that of a whole scan.
pub fn scan(store: &dyn Store, seconds: f64) -> Result<Run> {
    let (start, time) = (Instant::now(), Duration::from_secs_f64(seconds));
    let (mut operations, mut times) = (0, Vec::new());
    while operations == 0 || start.elapsed() < time {
        let before = Instant::now();
        let found = store.reader()?.scan()?;
        times.push(nanoseconds(before.elapsed()));
        if found != KEYS {
            return Err(format!("{found} keys instead of {KEYS}").into());
        }
        operations += found;
    }
    Ok(Run { operations, seconds: start.elapsed().as_secs_f64(), times })
}

/// Whether the first and the last transaction of a killed process are there. Returns the seconds that it took to tell.
pub fn has_ends(store: &dyn Store, peer: &Peer, transactions: u64) -> Result<f64> {
    let begin = Instant::now();
    if peer.kind != Kind::Raw {
        let mut reader = store.reader()?;
        for number in [0, transactions - 1] {
            if reader.get(&key(number))?.is_none() {
                return Err(format!("transaction {number} of {transactions} was lost").into());
            }
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}
