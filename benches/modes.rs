//! Each commit mode beside the raw limit of the same disk, in one run.
//!
//! `cargo bench --bench modes [-- DIR] [only=TEXT]`, where TEXT is part of a workload's name. Raw limit and engine take
//! turns, in pairs; a ratio is taken within a pair, and what is printed is the median with the quartiles. Beside each rate
//! stand the median and the 99.9th percentile of single commits, over all rounds: of every commit, and of every seventh
//! where 1,024 are awaited. 16-byte keys out of a million, 100-byte values. Nothing is read.
//!
//! The raw limit, with as many bytes as a commit takes in the log: for one thread, pwrite and fdatasync into a
//! preallocated file; for several, a group commit over such a file, whose leader gathers and wakes exactly the threads that
//! its flush served (`common/group.rs`); for `Written`, the pwrite alone. In the rows of io_uring (Linux) the engine without it stands in the place of the raw limit.
//!
//! DIR is made if it is missing; without it, it is the directory for temporary files. A workload that fails, on a full disk
//! say, is told as such and left out, the others go on, and the exit code is 1.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use forelog::log::Log;
use forelog::{CommitMode, Engine, ErrorKind, IoBackend, Keyspace, Options, Receipt};

mod common;
#[path = "common/place.rs"]
mod place;

use common::awaited::{Awaited, keep_in_flight};
use common::files::{copy_into, make_empty};
use common::group::Group;
use common::raw::Ring;
use common::stats::{Latency, Spread, nanoseconds};
use common::{key, record_bytes};
use place::{Place, Request, Stop, failed, main_of};

const ROUNDS: usize = 5;
/// Bytes of the log that one commit takes.
const RECORD: usize = record_bytes(1, 100);

/// What is measured, or in one line why it could not be.
type Result<T> = std::result::Result<T, String>;

/// One measurement: operations per second, and the times of single ones in nanoseconds.
struct Measured {
    rate: f64,
    times: Vec<u64>,
}

impl Measured {
    /// In words, for one measurement.
    fn told(&mut self) -> String {
        let [p50, _, p999] = columns(Latency::of(&mut self.times));
        format!("{:.0}/s, p50 {p50} us, p99.9 {p999} us", self.rate)
    }
}

/// The 50th, 99th and 99.9th percentile as they are printed.
fn columns(Latency { p50, p99, p999 }: Latency) -> [String; 3] {
    [p50, p99, p999].map(|time| time.map_or("-".to_owned(), |microseconds| format!("{microseconds:.1}")))
}

/// The engine names the file; what to do is added where the disk is full.
fn told(error: &forelog::Error) -> String {
    let is_full = error.kind() == ErrorKind::DiskFull;
    let advice = if is_full { "; make room there, or name another directory: -- DIR" } else { "" };
    format!("{error}{advice}")
}

fn timed(operations: usize, mut operation: impl FnMut(usize) -> Result<()>) -> Result<Measured> {
    let mut times = Vec::with_capacity(operations);
    let start = Instant::now();
    let mut before = start;
    for number in 0..operations {
        operation(number)?;
        let now = Instant::now();
        times.push(nanoseconds(now - before));
        before = now;
    }
    Ok(Measured { rate: operations as f64 / start.elapsed().as_secs_f64(), times })
}

/// `threads` threads, each doing its share of `operations`.
fn shared_out(threads: usize, operations: usize, operation: impl Fn(usize) -> Result<()> + Sync) -> Result<Measured> {
    let share = operations / threads;
    let start = Instant::now();
    let times: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let of_thread = |thread| {
            let operation = &operation;
            scope
                .spawn(move || timed(share, |number| operation(thread * share + number)).map(|measured| measured.times))
        };
        let running: Vec<_> = (0..threads).map(of_thread).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<_>>()
    })?;
    Ok(Measured { rate: (share * threads) as f64 / start.elapsed().as_secs_f64(), times: times.concat() })
}

fn ring(path: &Path, bytes: usize) -> Result<Ring> {
    Ring::create(path, bytes as u64).map_err(|error| failed("fill", path, &error))
}

/// Records one behind the other in a preallocated file, from the front again at its end.
struct RawLog(Ring);

impl RawLog {
    fn new(dir: &Path) -> Result<Self> {
        Ok(RawLog(ring(&dir.join("raw-alone"), 100_000 * RECORD)?))
    }

    fn write(&self) -> Result<()> {
        self.0.write(&[7; RECORD]).map_err(|error| format!("cannot write the raw log: {error}"))
    }

    fn write_and_sync(&self) -> Result<()> {
        self.write()?;
        self.0.sync().map_err(|error| format!("cannot sync the raw log: {error}"))
    }
}

fn raw_group(dir: &Path, threads: usize, operations: usize) -> Result<Measured> {
    let path = dir.join("raw");
    let group = Group::new(ring(&path, operations * RECORD)?);
    shared_out(threads, operations, |_| {
        let (end, _) = group.append(&[7; RECORD]);
        group.sync(end).map_err(|error| failed("write", &path, &error))
    })
}

fn commit(engine: &Engine, keys: &Keyspace, number: usize, mode: CommitMode) -> forelog::Result<Receipt> {
    let mut batch = engine.batch()?;
    batch.put(keys, key(number as u64), [7; 100])?;
    batch.commit_with(mode)
}

fn commit_one(engine: &Engine, keys: &Keyspace, number: usize, mode: CommitMode) -> Result<()> {
    commit(engine, keys, number, mode).map(drop).map_err(|error| told(&error))
}

/// Keeps `tasks` commits in flight from one thread, each awaited.
fn awaited(tasks: usize, operations: usize, commit: impl Fn(usize) -> forelog::Result<Receipt>) -> Result<Measured> {
    let start = Instant::now();
    let Awaited { commits, times } =
        keep_in_flight(tasks, |done| done >= operations, commit).map_err(|error| told(&error))?;
    Ok(Measured { rate: commits as f64 / start.elapsed().as_secs_f64(), times })
}

#[derive(Default)]
struct Row {
    name: &'static str,
    raw: Vec<f64>,
    raw_times: Vec<u64>,
    rates: Vec<f64>,
    times: Vec<u64>,
    /// The last pair in words.
    last: String,
    commits_per_flush: Vec<f64>,
    /// It was told why; what was measured before is not used.
    has_failed: bool,
}

impl Row {
    /// Measures the pairs of a round, unless one has failed.
    fn round(&mut self, workload: &Workload<'_>, counters: &dyn Fn() -> (u64, u64)) {
        if self.has_failed {
            return;
        }
        match (0..workload.pairs).try_for_each(|pair| self.measure(workload, pair % 2 == 0, counters)) {
            Ok(()) => eprintln!("{}: {}", self.name, self.last),
            Err(why) => {
                self.has_failed = true;
                eprintln!("{}: left out: {why}", self.name);
            }
        }
    }

    /// Measures one pair. `counters` gives the appends and the flushes so far.
    fn measure(&mut self, workload: &Workload<'_>, raw_first: bool, counters: &dyn Fn() -> (u64, u64)) -> Result<()> {
        let raw_before = if raw_first { Some((workload.raw)()?) } else { None };
        let (appends, flushes) = counters();
        let mut measured = (workload.engine)()?;
        let (appends_after, flushes_after) = counters();
        let raw = raw_before.map_or_else(|| (workload.raw)(), Ok)?;
        self.commits_per_flush.push((appends_after - appends) as f64 / (flushes_after - flushes).max(1) as f64);
        self.last = measured.told();
        self.rates.push(measured.rate);
        self.times.extend(measured.times);
        if let Some(mut raw) = raw {
            self.last = format!("{}; raw {}", self.last, raw.told());
            self.raw.push(raw.rate);
            self.raw_times.extend(raw.times);
        }
        Ok(())
    }

    fn print(&mut self) {
        if self.has_failed {
            println!("| {} | failed | - | - | failed | - | - | - | - | - |", self.name);
            return;
        }
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
        let rate = |values: &[f64]| median(values).map_or("-".to_owned(), |rate| format!("{rate:.0}"));
        let ratio = Spread::of(self.rates.iter().zip(&self.raw).map(|(rate, raw)| rate / raw));
        let ratio =
            ratio.map_or("-".to_owned(), |Spread { median, low, high }| format!("{median:.3} ({low:.2} to {high:.2})"));
        let [raw_p50, _, raw_p999] = columns(Latency::of(&mut self.raw_times));
        let [p50, p99, p999] = columns(Latency::of(&mut self.times));
        let (name, raw, rate) = (self.name, rate(&self.raw), rate(&self.rates));
        let per_flush = median(&self.commits_per_flush).unwrap_or_default();
        println!(
            "| {name} | {raw} | {raw_p50} | {raw_p999} | {rate} | {p50} | {p99} | {p999} | {ratio} | {per_flush:.1} |"
        );
    }
}

/// One row of the table: how the raw limit and the engine are driven.
struct Workload<'a> {
    name: &'static str,
    /// Pairs in a round: many where single operations are compared with the raw limit, so that a slow moment of the disk falls
    /// on few of them.
    pairs: usize,
    raw: Box<dyn Fn() -> Result<Option<Measured>> + 'a>,
    engine: Box<dyn Fn() -> Result<Measured> + 'a>,
}

fn workloads<'a>(
    dir: &'a Path,
    engine: &'a Engine,
    keys: &'a Keyspace,
    log: &'a Log,
    raw_log: &'a RawLog,
) -> Vec<Workload<'a>> {
    const SHORT: usize = 400;
    let alone = |name,
                 pairs,
                 operations: usize,
                 raw: fn(&RawLog) -> Result<()>,
                 commit: Box<dyn Fn(usize) -> Result<()> + 'a>| {
        let next = Cell::new(0);
        Workload {
            name,
            pairs,
            raw: Box::new(move || timed(operations, |_| raw(raw_log)).map(Some)),
            engine: Box::new(move || timed(operations, |_| commit(next.replace(next.get() + 1)))),
        }
    };
    let in_mode = |mode| Box::new(move |number| commit_one(engine, keys, number, mode));
    let append =
        |bytes: usize, mode| move || log.append(&[7; RECORD][..bytes], mode).map(drop).map_err(|error| told(&error));
    let sync_group = |name, threads: usize, operations: usize| Workload {
        name,
        pairs: 1,
        raw: Box::new(move || raw_group(dir, threads, operations).map(Some)),
        engine: Box::new(move || {
            shared_out(threads, operations, |number| commit_one(engine, keys, number, CommitMode::Sync))
        }),
    };
    let without_raw = |name, measure: Box<dyn Fn() -> Result<Measured> + 'a>| Workload {
        name,
        pairs: 1,
        raw: Box::new(|| Ok(None)),
        engine: measure,
    };
    let append_sync = append(RECORD - 32, CommitMode::Sync);
    let append_async = append(100, CommitMode::Async);
    vec![
        alone("Sync, 1 thread", 40, SHORT, RawLog::write_and_sync, in_mode(CommitMode::Sync)),
        sync_group("Sync, 4 threads", 4, 20_000),
        sync_group("Sync, 16 threads", 16, 48_000),
        sync_group("Sync, 64 threads", 64, 96_000),
        alone("Written, 1 thread", 1, 100_000, RawLog::write, in_mode(CommitMode::Written)),
        without_raw(
            "Async, 1 thread",
            Box::new(|| timed(300_000, |number| commit_one(engine, keys, number, CommitMode::Async))),
        ),
        without_raw(
            "1,024 awaited, 1 thread",
            Box::new(|| awaited(1024, 200_000, |number| commit(engine, keys, number, CommitMode::Async))),
        ),
        alone("log only: Sync, 1 thread", 40, SHORT, RawLog::write_and_sync, Box::new(move |_| append_sync())),
        without_raw(
            "log only: 1,024 awaited",
            Box::new(|| awaited(1024, 400_000, |_| log.append(&[7; 100], CommitMode::Async))),
        ),
        without_raw("log only: Async, 1 thread", Box::new(move || timed(1_000_000, |_| append_async()))),
    ]
}

/// The engine with io_uring beside the one without.
fn beside_calls<'a>(calls: &'a (Engine, Keyspace), uring: &'a (Engine, Keyspace)) -> Vec<Workload<'a>> {
    let alone = |name, pairs, operations, mode| {
        let next = Cell::new(0);
        let run = move |(engine, keys): &(Engine, Keyspace)| {
            let first = next.replace(next.get() + operations);
            timed(operations, |number| commit_one(engine, keys, first + number, mode))
        };
        let run = std::rc::Rc::new(run);
        let beside = std::rc::Rc::clone(&run);
        Workload { name, pairs, raw: Box::new(move || beside(calls).map(Some)), engine: Box::new(move || run(uring)) }
    };
    let group = |name, threads, operations| {
        let run = move |(engine, keys): &(Engine, Keyspace)| {
            shared_out(threads, operations, |number| commit_one(engine, keys, number, CommitMode::Sync))
        };
        Workload { name, pairs: 4, raw: Box::new(move || run(calls).map(Some)), engine: Box::new(move || run(uring)) }
    };
    vec![
        alone("io_uring: Sync, 1 thread", 40, 400, CommitMode::Sync),
        group("io_uring: Sync, 16 threads", 16, 16_000),
        alone("io_uring: Written, 1 thread", 4, 50_000, CommitMode::Written),
    ]
}

/// Opens a log of a million transactions as a killed process left it.
fn open_time(dir: &Path) -> Result<()> {
    let (source, copy) = (dir.join("million"), dir.join("million-killed"));
    let engine = Engine::open(&source).map_err(|error| told(&error))?;
    let keys = engine.create_keyspace("keys").map_err(|error| told(&error))?;
    for number in 0..1_000_000 {
        commit_one(&engine, &keys, number, CommitMode::Async)?;
    }
    engine.flush().map_err(|error| told(&error))?;
    let mut times = Vec::new();
    let mut read_times = Vec::new();
    for _ in 0..5 {
        make_empty(&copy)
            .and_then(|()| copy_into(&source, &copy))
            .map_err(|error| failed("copy a database to", &copy, &error))?;
        let start = Instant::now();
        let bytes = read_files(&copy).map_err(|error| failed("read", &copy, &error))?;
        read_times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let killed = Engine::open(&copy).map_err(|error| told(&error))?;
        times.push(start.elapsed().as_secs_f64());
        assert!(killed.recovery().crashed.is_some() && bytes > 0);
    }
    let median = |times: Vec<f64>| Spread::of(times).map_or(0.0, |spread| spread.median);
    println!(
        "\nopen after SIGKILL, 1,000,000 transactions in the log: {:.2} s (reading the files alone: {:.2} s)",
        median(times),
        median(read_times)
    );
    Ok(())
}

/// Reads all files of a directory; returns their bytes.
fn read_files(dir: &Path) -> std::io::Result<usize> {
    fs::read_dir(dir)?.map(|entry| Ok(fs::read(entry?.path())?.len())).sum()
}

const OPEN: &str = "open";

/// With io_uring, in a build that has it (`--features io-uring`).
fn with_uring() -> Options {
    #[cfg(feature = "io-uring")]
    return Options::new().io_uring(true);
    #[cfg(not(feature = "io-uring"))]
    Options::new()
}

/// Whether all workloads of the commit modes that were asked for were measured; `None` if none of them was asked for.
fn commit_modes(dir: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<Option<bool>> {
    let open = |options: Options, name| {
        let engine = options.open(dir.join(name)).map_err(|error| told(&error))?;
        let keys = engine.create_keyspace("keys").map_err(|error| told(&error))?;
        Ok::<_, String>((engine, keys))
    };
    let calls = open(Options::new(), "engine")?;
    let uring = open(with_uring(), "uring")?;
    eprintln!("io_uring: {:?}", uring.0.io());
    let (engine, keys) = &calls;
    let log = Log::open(dir.join("log")).map_err(|error| told(&error))?;
    let raw_log = RawLog::new(dir)?;
    let mut workloads = workloads(dir, engine, keys, &log, &raw_log);
    if uring.0.io() == IoBackend::IoUring {
        workloads.extend(beside_calls(&calls, &uring));
    }
    workloads.retain(|workload| is_wanted(workload.name));
    if workloads.is_empty() {
        return Ok(None);
    }
    let mut rows: Vec<Row> = workloads.iter().map(|workload| Row { name: workload.name, ..Row::default() }).collect();
    for _ in 0..ROUNDS {
        for (workload, row) in workloads.iter().zip(&mut rows) {
            row.round(workload, &|| {
                let all = [engine.stats(), uring.0.stats(), log.stats()];
                (all.iter().map(|of| of.appends).sum(), all.iter().map(|of| of.flushes).sum())
            });
        }
    }
    println!(
        "| workload | raw/s | raw p50 us | raw p99.9 us | forelog/s | p50 us | p99 us | p99.9 us | ratio (quartiles) | \
         commits per flush |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    rows.iter_mut().for_each(Row::print);
    Ok(Some(!rows.iter().any(|row| row.has_failed)))
}

fn run(request: &Request) -> std::result::Result<(), Stop> {
    let is_wanted = |name: &str| request.only.as_ref().is_none_or(|text| name.contains(text.as_str()));
    let place = Place::inside(&request.parent)?;
    let measured = commit_modes(&place.dir, &is_wanted)?;
    let mut is_complete = measured.unwrap_or(true);
    if is_wanted(OPEN) {
        if let Err(why) = open_time(&place.dir) {
            eprintln!("{OPEN}: left out: {why}");
            is_complete = false;
        }
    } else if measured.is_none() {
        let text = request.only.as_deref().unwrap_or_default();
        return Err(Stop::Usage(format!("no workload has {text:?} in its name, or it cannot run here")));
    }
    if is_complete { Ok(()) } else { Err(Stop::Told) }
}

fn main() -> ExitCode {
    main_of("modes", true, run)
}
