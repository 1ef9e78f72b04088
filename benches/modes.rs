//! Each commit mode beside the raw limit of the same disk, in one run.
//!
//! `cargo bench --bench modes [-- DIR] [only=TEXT]`, where TEXT is part of a workload's name. Raw limit and engine take
//! turns, in pairs; a ratio is taken within a pair, and what is printed is the median with the quartiles. 16-byte keys
//! out of a million, 100-byte values.
//!
//! The raw limit, with as many bytes as a commit takes in the log: for one thread, pwrite and fdatasync into a
//! preallocated file; for several, the simplest group commit that gathers over such a file, without an engine; for
//! `Written`, the pwrite alone. In the rows of io_uring (Linux) the engine without it stands in the place of the raw limit.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use forelog::{CommitMode, Engine, Io, Keyspace, Log, Options, Receipt};

mod common;
use common::awaited::keep_in_flight;
use common::raw::{Group, Ring};
use common::stats::{Spread, percentile};
use common::{key, record_bytes};

const ROUNDS: usize = 5;
/// Bytes of the log that one commit takes.
const RECORD: usize = record_bytes(1, 100);

/// One measurement: operations per second, and the times of single ones in nanoseconds.
struct Measured {
    rate: f64,
    times: Vec<u64>,
}

fn timed(operations: usize, mut operation: impl FnMut(usize)) -> Measured {
    let mut times = Vec::with_capacity(operations);
    let start = Instant::now();
    let mut before = start;
    for number in 0..operations {
        operation(number);
        let now = Instant::now();
        times.push(u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX));
        before = now;
    }
    Measured { rate: operations as f64 / start.elapsed().as_secs_f64(), times }
}

/// `threads` threads, each doing its share of `operations`.
fn shared_out(threads: usize, operations: usize, operation: impl Fn(usize) + Sync) -> Measured {
    let share = operations / threads;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let operation = &operation;
            scope.spawn(move || (0..share).for_each(|number| operation(thread * share + number)));
        }
    });
    Measured { rate: (share * threads) as f64 / start.elapsed().as_secs_f64(), times: Vec::new() }
}

/// Records one behind the other in a preallocated file, from the front again at its end.
struct RawLog(Ring);

impl RawLog {
    fn new(dir: &Path) -> Self {
        RawLog(Ring::create(&dir.join("raw-alone"), 100_000 * RECORD as u64).expect("a file"))
    }

    fn write(&self) {
        self.0.write(&[7; RECORD]).expect("a write");
    }

    fn write_and_sync(&self) {
        self.write();
        self.0.sync().expect("a sync");
    }
}

fn raw_group(dir: &Path, threads: usize, operations: usize) -> Measured {
    let group = Group::new(Ring::create(&dir.join("raw"), (operations * RECORD) as u64).expect("a file"));
    shared_out(threads, operations, |_| {
        let (end, _) = group.append(&[7; RECORD]);
        group.sync(end).expect("a sync");
    })
}

fn commit(engine: &Engine, keys: &Keyspace, number: usize, mode: CommitMode) -> Receipt {
    let mut batch = engine.batch().expect("open");
    batch.put(keys, key(number as u64), [7; 100]).expect("a write");
    batch.commit_with(mode).expect("a commit")
}

/// Keeps `tasks` commits in flight from one thread, each awaited.
fn awaited(tasks: usize, operations: usize, commit: impl Fn(usize) -> Receipt) -> Measured {
    let start = Instant::now();
    let done = keep_in_flight(tasks, |done| done >= operations, |number| Ok(commit(number))).expect("durable");
    Measured { rate: done as f64 / start.elapsed().as_secs_f64(), times: Vec::new() }
}

#[derive(Default)]
struct Row {
    name: &'static str,
    raw: Vec<f64>,
    rates: Vec<f64>,
    times: Vec<u64>,
    commits_per_flush: Vec<f64>,
}

impl Row {
    /// Measures one pair. `counters` gives the appends and the flushes so far.
    fn measure(&mut self, workload: &Workload<'_>, raw_first: bool, counters: &dyn Fn() -> (u64, u64)) {
        let raw = || (workload.raw)().map_or(0.0, |raw| raw.rate);
        let raw_before = raw_first.then(raw);
        let (appends, flushes) = counters();
        let measured = (workload.engine)();
        let (appends_after, flushes_after) = counters();
        self.raw.push(raw_before.unwrap_or_else(raw));
        self.commits_per_flush.push((appends_after - appends) as f64 / (flushes_after - flushes).max(1) as f64);
        self.rates.push(measured.rate);
        self.times.extend(measured.times);
    }

    fn print(&mut self) {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map_or(0.0, |spread| spread.median);
        let raw = median(&self.raw);
        let ratio = match Spread::of(self.rates.iter().zip(&self.raw).map(|(rate, raw)| rate / raw)) {
            Some(ratio) if raw > 0.0 => format!("{:.3} ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high),
            _ => "-".to_owned(),
        };
        self.times.sort_unstable();
        let time = |per_mille: usize| match percentile(&self.times, per_mille) {
            None => "-".to_owned(),
            Some(nanoseconds) => format!("{:.1}", nanoseconds as f64 / 1000.0),
        };
        let raw = if raw > 0.0 { format!("{raw:.0}") } else { "-".to_owned() };
        let (rate, per_flush) = (median(&self.rates), median(&self.commits_per_flush));
        let (p50, p99, p999) = (time(500), time(990), time(999));
        println!("| {} | {raw} | {rate:.0} | {ratio} | {p50} | {p99} | {p999} | {per_flush:.1} |", self.name);
    }
}

/// One row of the table: how the raw limit and the engine are driven.
struct Workload<'a> {
    name: &'static str,
    /// Pairs in a round: many where single operations are compared with the raw limit, so that a slow moment of the disk falls
    /// on few of them.
    pairs: usize,
    raw: Box<dyn Fn() -> Option<Measured> + 'a>,
    engine: Box<dyn Fn() -> Measured + 'a>,
}

fn workloads<'a>(
    dir: &'a Path,
    engine: &'a Engine,
    keys: &'a Keyspace,
    log: &'a Log,
    raw_log: &'a RawLog,
) -> Vec<Workload<'a>> {
    const SHORT: usize = 400;
    let alone = |name, pairs, operations: usize, raw: fn(&RawLog), commit: Box<dyn Fn(usize) + 'a>| {
        let next = Cell::new(0);
        Workload {
            name,
            pairs,
            raw: Box::new(move || Some(timed(operations, |_| raw(raw_log)))),
            engine: Box::new(move || timed(operations, |_| commit(next.replace(next.get() + 1)))),
        }
    };
    let in_mode = |mode| Box::new(move |number| drop(commit(engine, keys, number, mode)));
    let append = |bytes: usize, mode| move || drop(log.append(&[7; RECORD][..bytes], mode).expect("an append"));
    let sync_group = |name, threads: usize, operations: usize| Workload {
        name,
        pairs: 1,
        raw: Box::new(move || Some(raw_group(dir, threads, operations))),
        engine: Box::new(move || {
            shared_out(threads, operations, |number| drop(commit(engine, keys, number, CommitMode::Sync)))
        }),
    };
    let without_raw = |name, measure: Box<dyn Fn() -> Measured + 'a>| Workload {
        name,
        pairs: 1,
        raw: Box::new(|| None),
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
            Box::new(|| timed(300_000, |number| drop(commit(engine, keys, number, CommitMode::Async)))),
        ),
        without_raw(
            "1,024 awaited, 1 thread",
            Box::new(|| awaited(1024, 200_000, |number| commit(engine, keys, number, CommitMode::Async))),
        ),
        alone("log only: Sync, 1 thread", 40, SHORT, RawLog::write_and_sync, Box::new(move |_| append_sync())),
        without_raw(
            "log only: 1,024 awaited",
            Box::new(|| awaited(1024, 400_000, |_| log.append(&[7; 100], CommitMode::Async).expect("an append"))),
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
            timed(operations, |number| drop(commit(engine, keys, first + number, mode)))
        };
        let run = std::rc::Rc::new(run);
        let beside = std::rc::Rc::clone(&run);
        Workload { name, pairs, raw: Box::new(move || Some(beside(calls))), engine: Box::new(move || run(uring)) }
    };
    let group = |name, threads, operations| {
        let run = move |(engine, keys): &(Engine, Keyspace)| {
            shared_out(threads, operations, |number| drop(commit(engine, keys, number, CommitMode::Sync)))
        };
        Workload { name, pairs: 4, raw: Box::new(move || Some(run(calls))), engine: Box::new(move || run(uring)) }
    };
    vec![
        alone("io_uring: Sync, 1 thread", 40, 400, CommitMode::Sync),
        group("io_uring: Sync, 16 threads", 16, 16_000),
        alone("io_uring: Written, 1 thread", 4, 50_000, CommitMode::Written),
    ]
}

/// Opens a log of a million transactions as a killed process left it.
fn open_time(dir: &Path) {
    let (source, copy) = (dir.join("million"), dir.join("million-killed"));
    let engine = Engine::open(&source).expect("a new database");
    let keys = engine.keyspace("keys").expect("a keyspace");
    for number in 0..1_000_000 {
        commit(&engine, &keys, number, CommitMode::Async);
    }
    engine.flush().expect("a flush");
    let mut times = Vec::new();
    let mut read_times = Vec::new();
    for _ in 0..5 {
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).expect("a directory");
        for entry in std::fs::read_dir(&source).expect("a directory") {
            let path = entry.expect("an entry").path();
            std::fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("a copy");
        }
        let start = Instant::now();
        let bytes: usize = std::fs::read_dir(&copy)
            .expect("a directory")
            .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file").len())
            .sum();
        read_times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let killed = Engine::open(&copy).expect("a legal state");
        times.push(start.elapsed().as_secs_f64());
        assert!(killed.recovery().crashed.is_some() && bytes > 0);
    }
    let median = |times: Vec<f64>| Spread::of(times).map_or(0.0, |spread| spread.median);
    println!(
        "\nopen after SIGKILL, 1,000,000 transactions in the log: {:.2} s (reading the files alone: {:.2} s)",
        median(times),
        median(read_times)
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let only = arguments.iter().find_map(|arg| arg.strip_prefix("only="));
    let parent = arguments.iter().find(|arg| !arg.starts_with("only=")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("forelog-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    {
        let open = |options: Options, name| {
            let engine = options.open(dir.join(name)).expect("a new database");
            let keys = engine.keyspace("keys").expect("a keyspace");
            (engine, keys)
        };
        let calls = open(Options::new(), "engine");
        let uring = open(Options::new().io_uring(true), "uring");
        eprintln!("io_uring: {:?}", uring.0.io());
        let (engine, keys) = &calls;
        let log = Log::open(dir.join("log")).expect("a new log");
        let raw_log = RawLog::new(&dir);
        let mut workloads = workloads(&dir, engine, keys, &log, &raw_log);
        if uring.0.io() == Io::IoUring {
            workloads.extend(beside_calls(&calls, &uring));
        }
        workloads.retain(|workload| only.is_none_or(|text| workload.name.contains(text)));
        let mut rows: Vec<Row> =
            workloads.iter().map(|workload| Row { name: workload.name, ..Row::default() }).collect();
        for _ in 0..ROUNDS {
            for (workload, row) in workloads.iter().zip(&mut rows) {
                for pair in 0..workload.pairs {
                    row.measure(workload, pair % 2 == 0, &|| {
                        let all = [engine.stats(), uring.0.stats(), log.stats()];
                        (all.iter().map(|of| of.appends).sum(), all.iter().map(|of| of.flushes).sum())
                    });
                }
                eprintln!("{}: {:.0}/s", workload.name, row.rates[row.rates.len() - 1]);
            }
        }
        println!(
            "| workload | raw/s | forelog/s | ratio (quartiles) | p50 us | p99 us | p99.9 us | commits per flush |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        rows.iter_mut().for_each(Row::print);
    }
    if only.is_none_or(|text| "open".contains(text)) {
        open_time(&dir);
    }
    let _ = std::fs::remove_dir_all(&dir);
}
