//! Commits from many threads, timed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::awaited::Awaited;
use crate::common::key;
use crate::common::stats::{STRIDE, nanoseconds};
use crate::peer::{Mode, Put, Result, Run, Session, Store};
use crate::workload::{Commits, Mix, Values};

#[derive(Clone, Copy)]
pub enum Until {
    Seconds(f64),
    /// Of all threads together.
    Commits(u64),
}

/// What all threads of a run share.
struct Shared<'a> {
    shape: &'a Commits,
    until: Until,
    values: Values,
    begin: Barrier,
    failed: AtomicBool,
}

/// Runs the threads side by side.
pub fn run(store: &dyn Store, shape: &Commits, until: Until) -> Result<Run> {
    let shared = Shared {
        shape,
        until,
        values: Values::new(),
        begin: Barrier::new(shape.threads + 1),
        failed: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let shared = &shared;
        let threads: Vec<_> = (0..shape.threads)
            .map(|thread| {
                scope.spawn(move || {
                    let ran = one_thread(store, shared, thread);
                    shared.failed.fetch_or(ran.is_err(), Ordering::Relaxed);
                    ran
                })
            })
            .collect();
        shared.begin.wait();
        let begin = Instant::now();
        let mut all = Run { operations: 0, seconds: 0.0, times: Vec::new() };
        for thread in threads {
            let (operations, times) = thread.join().map_err(|_| "a thread panicked")??;
            all.operations += operations;
            all.times.extend(times);
        }
        all.seconds = begin.elapsed().as_secs_f64();
        Ok(all)
    })
}

/// Returns its commits, and the nanoseconds of those that were timed.
fn one_thread(store: &dyn Store, shared: &Shared, thread: usize) -> Result<(u64, Vec<u64>)> {
    let session = store.session();
    shared.begin.wait();
    let (mut session, shape) = (session?, shared.shape);
    let stride = if shape.mix == Mix::All(Mode::Sync) || shape.puts > 1 { 1 } else { STRIDE };
    let (most, time) = match shared.until {
        Until::Commits(all) => (all.div_ceil(shape.threads as u64), Duration::MAX),
        Until::Seconds(seconds) => (u64::MAX, Duration::from_secs_f64(seconds)),
    };
    let mut transaction = Transaction { shape, values: &shared.values, puts: Vec::with_capacity(shape.puts) };
    let (mut times, mut number) = (Vec::new(), 0);
    let begin = Instant::now();
    while number < most {
        let commit = number * shape.threads as u64 + thread as u64;
        if number % stride != 0 {
            transaction.commit(&mut *session, commit, shape.mix.mode(number))?;
            number += 1;
            continue;
        }
        let before = Instant::now();
        transaction.commit(&mut *session, commit, shape.mix.mode(number))?;
        let after = Instant::now();
        number += 1;
        times.push(nanoseconds(after - before));
        if after - begin >= time || shared.failed.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok((number, times))
}

struct Transaction<'a> {
    shape: &'a Commits,
    values: &'a Values,
    puts: Vec<Put<'a>>,
}

impl Transaction<'_> {
    fn commit(&mut self, session: &mut dyn Session, number: u64, mode: Mode) -> Result<()> {
        let puts = self.shape.puts as u64;
        let writes = number * puts..(number + 1) * puts;
        self.puts.clear();
        self.puts.extend(writes.map(|write| (key(write), self.values.value(write, self.shape.value))));
        session.commit(&self.puts, mode)
    }
}

/// Commits so many transactions from one thread, all in the log.
pub fn fill(store: &dyn Store, transactions: u64) -> Result<()> {
    let shape = Commits { mix: Mix::All(Mode::Async), threads: 1, puts: 1, value: 100 };
    run(store, &shape, Until::Commits(transactions))?;
    store.flush()
}

/// Durable commits, awaited from one thread.
pub fn awaited(store: &dyn Store, commits: usize, seconds: f64) -> Result<Run> {
    let (begin, time) = (Instant::now(), Duration::from_secs_f64(seconds));
    // As often as the clock is looked at.
    let Awaited { commits, times } =
        store.keep_in_flight(commits, &mut |done| done % 64 == 0 && begin.elapsed() >= time)?;
    Ok(Run { operations: commits as u64, seconds: begin.elapsed().as_secs_f64(), times })
}
