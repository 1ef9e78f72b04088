//! Measuring in slices: the disk alone, then the engine in each mode.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use forelog::{CommitMode, Engine, Keyspace, LossWindow};

use super::Contender;
use super::histogram::Histogram;
use super::raw::RawFile;
use crate::output::Failure;

const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
/// Keys of one thread: too many for the caches, few enough to keep memory small.
const KEYS: u64 = 1 << 16;
/// Commits of each thread before each slice, which are not counted.
const WARM_UP: u32 = 8;
/// A longer log is removed between two slices, so that a long trial does not fill the disk.
const LOG_BYTES: u64 = 256 << 20;

/// The results of repeated slices of one kind of work.
#[derive(Clone)]
pub(super) struct Figures {
    pub(super) latencies: Histogram,
    /// Operations per second of each slice.
    pub(super) rates: Vec<f64>,
}

impl Figures {
    fn new() -> Self {
        Figures { latencies: Histogram::new(), rates: Vec::new() }
    }

    fn add(&mut self, latencies: &Histogram, elapsed: Duration) {
        self.rates.push(latencies.count() as f64 / elapsed.as_secs_f64().max(1e-9));
        self.latencies.add(latencies);
    }

    /// Median rate.
    pub(super) fn rate(&self) -> f64 {
        median(&self.rates)
    }

    /// The ratio to `raw` in each round.
    pub(super) fn ratios(&self, raw: &Figures) -> Vec<f64> {
        self.rates.iter().zip(&raw.rates).map(|(rate, raw)| rate / raw).collect()
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Repeats `work` for `time`. Each latency ends where the next begins, so that one reading of the clock serves both.
fn repeat<E>(time: Duration, mut work: impl FnMut() -> Result<(), E>) -> Result<(Histogram, Duration), E> {
    let mut latencies = Histogram::new();
    let started = Instant::now();
    let mut last = started;
    loop {
        work()?;
        let now = Instant::now();
        latencies.record(now - last);
        last = now;
        if now - started >= time {
            return Ok((latencies, now - started));
        }
    }
}

/// The raw limit, with fsync and without.
pub(super) struct RawBench {
    file: RawFile,
    pub(super) synced: Figures,
    pub(super) written: Figures,
}

impl RawBench {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file =
            RawFile::create(path).map_err(|error| Failure::io(format_args!("prepare {}", path.display()), &error))?;
        Ok(RawBench { file, synced: Figures::new(), written: Figures::new() })
    }

    /// The limit of a mode: with fsync only if each commit waits for one.
    pub(super) fn limit_of(&self, mode: CommitMode) -> &Figures {
        if mode == CommitMode::Sync { &self.synced } else { &self.written }
    }

    /// One slice of each.
    pub(super) fn slice(&mut self, time: Duration) -> Result<(), Failure> {
        self.measure(time).map_err(|error| Failure::io("write and sync the raw file", &error))
    }

    fn measure(&mut self, time: Duration) -> io::Result<()> {
        let file = &mut self.file;
        let (latencies, elapsed) = repeat(time, || file.write().and_then(|()| file.sync()))?;
        self.synced.add(&latencies, elapsed);
        let (latencies, elapsed) = repeat(time, || file.write())?;
        self.written.add(&latencies, elapsed);
        // So that the next contender begins with nothing left to write.
        file.sync()
    }
}

/// One mode on an engine of its own.
pub(super) struct Bench {
    pub(super) contender: Contender,
    pub(super) figures: Figures,
    pub(super) commits: u64,
    pub(super) fsyncs: u64,
    pub(super) largest: LossWindow,
    dir: PathBuf,
    open: Option<(Engine, Keyspace)>,
    next_key: u64,
}

impl Bench {
    pub(super) fn new(contender: Contender, dir: PathBuf) -> Self {
        let (figures, largest) = (Figures::new(), LossWindow::default());
        Bench { contender, figures, commits: 0, fsyncs: 0, largest, dir, open: None, next_key: 0 }
    }

    pub(super) fn slice(&mut self, time: Duration) -> Result<(), Failure> {
        let (engine, keyspace) = match &self.open {
            Some(open) => open,
            None => {
                let engine = Engine::open(&self.dir)?;
                let keyspace = engine.create_keyspace("trial")?;
                self.open.insert((engine, keyspace))
            }
        };
        let before = engine.stats();
        let (latencies, elapsed, counts) = self.contender.run(engine, keyspace, self.next_key, time)?;
        self.next_key += counts;
        // The fsyncs of the slice's own commits count for the slice, and do not burden the next one.
        engine.flush()?;
        let after = engine.stats();
        self.figures.add(&latencies, elapsed);
        self.commits += after.appends - before.appends;
        self.fsyncs += after.fsyncs - before.fsyncs;
        self.largest.commits = self.largest.commits.max(after.largest_window.commits);
        self.largest.bytes = self.largest.bytes.max(after.largest_window.bytes);
        self.largest.age = self.largest.age.max(after.largest_window.age);
        if after.bytes_written > LOG_BYTES { self.finish() } else { Ok(()) }
    }

    /// Closes the engine and removes its files.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        if let Some((engine, _)) = self.open.take() {
            engine.close()?;
            fs::remove_dir_all(&self.dir)
                .map_err(|error| Failure::io(format_args!("remove {}", self.dir.display()), &error))?;
        }
        Ok(())
    }
}

impl Contender {
    /// Commits for `time` on every thread. Returns the latencies, the time it took, and the commits of the busiest
    /// thread.
    fn run(
        &self,
        engine: &Engine,
        keyspace: &Keyspace,
        first_key: u64,
        time: Duration,
    ) -> Result<(Histogram, Duration, u64), Failure> {
        let barrier = Barrier::new(self.threads);
        let worker = |thread: u64| {
            let mut next = first_key;
            let mut commit = || -> forelog::Result<()> {
                let (key, value) = entry(thread, next);
                next += 1;
                let mut transaction = engine.begin()?;
                transaction.put(keyspace, key, value)?;
                transaction.commit_with(self.mode).map(drop)
            };
            let warm = (0..WARM_UP).try_for_each(|_| commit());
            barrier.wait();
            warm.and_then(|()| repeat(time, commit))
        };
        let results =
            if self.threads == 1 { vec![worker(0)] } else { on_threads(self.threads, |_| Builder::new(), &worker)? };
        let (mut all, mut longest, mut most) = (Histogram::new(), Duration::ZERO, 0);
        for result in results {
            let (latencies, elapsed) = result?;
            all.add(&latencies);
            longest = longest.max(elapsed);
            most = most.max(latencies.count() + u64::from(WARM_UP));
        }
        Ok((all, longest, most))
    }
}

/// Runs `work` on `count` threads, if all of them can be had.
fn on_threads<T: Send>(
    count: usize,
    builder: impl Fn(u64) -> Builder,
    work: &(impl Fn(u64) -> T + Sync),
) -> Result<Vec<T>, Failure> {
    // Held until all are there: they wait for each other, and would for ever for one that is refused.
    let (begin, are_all_there) = (Mutex::new(()), AtomicBool::new(false));
    let body = |thread| {
        drop(begin.lock());
        are_all_there.load(Ordering::Relaxed).then(|| work(thread))
    };
    let body = &body;
    thread::scope(|scope| {
        let hold = begin.lock();
        let start = |thread| builder(thread).spawn_scoped(scope, move || body(thread));
        let threads: io::Result<Vec<_>> = (0..count as u64).map(start).collect();
        are_all_there.store(threads.is_ok(), Ordering::Relaxed);
        drop(hold);
        let threads = threads.map_err(|error| Failure::no_thread(&error))?;
        let done = threads.into_iter().filter_map(|thread| thread.join().expect("a worker does not panic"));
        Ok(done.collect())
    })
}

fn entry(thread: u64, number: u64) -> ([u8; KEY_BYTES], [u8; VALUE_BYTES]) {
    let (mut key, mut value) = ([0; KEY_BYTES], [0x76; VALUE_BYTES]);
    key[..8].copy_from_slice(&thread.to_be_bytes());
    key[8..].copy_from_slice(&(number % KEYS).to_be_bytes());
    value[..8].copy_from_slice(&number.to_be_bytes());
    (key, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was a panic, and those that had begun waited for the missing one.
    #[test]
    fn without_all_of_its_threads_nothing_is_measured_and_the_failure_says_why() {
        for refused in 0..4 {
            // No address space has room for such a stack.
            let stack = |thread| if thread == refused { 1 << 60 } else { 1 << 20 };
            let barrier = Barrier::new(4);
            let wait = |_| barrier.wait().is_leader();
            let failure = on_threads(4, |thread| Builder::new().stack_size(stack(thread)), &wait).unwrap_err();
            let Failure::Told(message) = failure else { panic!("{failure:?}") };
            assert!(message.starts_with("cannot start a thread. Raise") && message.contains("ulimit -u"), "{message}");
        }
        let barrier = Barrier::new(4);
        let led = on_threads(4, |_| Builder::new(), &|_| barrier.wait().is_leader()).unwrap();
        assert_eq!(led.iter().filter(|is_leader| **is_leader).count(), 1);
    }
}
