//! Each commit mode beside the raw limit of the same disk, in one run.
//!
//! `cargo bench --bench modes [-- DIR] [only=TEXT]`, where TEXT is part of a workload's name. Raw limit and engine take
//! turns, in pairs; a ratio is taken within a pair, and what is printed is the median with the quartiles. 16-byte keys
//! out of a million, 100-byte values.
//!
//! The raw limit, with as many bytes as a commit takes in the log: for one thread, pwrite and fdatasync into a
//! preallocated file; for several, the simplest group commit that gathers over such a file, without an engine; for
//! `Written`, the pwrite alone.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use forelog::{CommitMode, Engine, Keyspace, Log, Receipt};

const ROUNDS: usize = 5;
const KEYS: u64 = 1_000_000;
/// Bytes of the log that one commit takes: 16 of key, 100 of value, their batch, the frame.
const RECORD: usize = 160;

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

/// A file filled with zeros, as large as the operations need. In pieces of 64 KiB: after larger ones some kernels cache
/// the file in large units, and each small write and fsync costs more.
fn raw_file(dir: &Path, name: &str, bytes: usize) -> File {
    let path = dir.join(name);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).expect("a file");
    for at in (0..bytes).step_by(64 << 10) {
        file.write_all_at(&vec![0; (64 << 10).min(bytes - at)], at as u64).expect("room");
    }
    file.sync_all().expect("a sync");
    file
}

/// A log without an engine: records one behind the other in a preallocated file, from the front again at its end.
struct RawLog {
    file: File,
    at: Cell<u64>,
}

impl RawLog {
    const RECORDS: usize = 100_000;

    fn new(dir: &Path) -> Self {
        RawLog { file: raw_file(dir, "raw-alone", Self::RECORDS * RECORD), at: Cell::new(0) }
    }

    fn write(&self) {
        let at = self.at.replace((self.at.get() + RECORD as u64) % (Self::RECORDS * RECORD) as u64);
        self.file.write_all_at(&[7; RECORD], at).expect("a write");
    }

    fn write_and_sync(&self) {
        self.write();
        self.file.sync_data().expect("a sync");
    }
}

/// The simplest group commit: whoever finds nobody flushing writes and syncs for all.
struct RawGroup {
    file: File,
    state: Mutex<RawState>,
    done: Condvar,
    /// Threads that wait, for the leader to gather.
    waiting: AtomicU64,
}

#[derive(Default)]
struct RawState {
    buffer: Vec<u8>,
    appended: u64,
    durable: u64,
    flushing: bool,
    last_group: u64,
}

impl RawGroup {
    fn commit(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.buffer.extend_from_slice(&[7; RECORD]);
        state.appended += RECORD as u64;
        let mine = state.appended;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while state.durable < mine {
            if state.flushing {
                state = self.done.wait(state).expect("no panic");
                continue;
            }
            state.flushing = true;
            let group = state.last_group;
            drop(state);
            let deadline = Instant::now() + Duration::from_micros(50);
            while self.waiting.load(Ordering::Relaxed) < group && Instant::now() < deadline {
                std::thread::yield_now();
            }
            state = self.state.lock().expect("no panic");
            let bytes = std::mem::take(&mut state.buffer);
            let (from, to) = (state.durable, state.appended);
            state.last_group = self.waiting.load(Ordering::Relaxed);
            drop(state);
            self.file.write_all_at(&bytes, from).expect("a write");
            self.file.sync_data().expect("a sync");
            state = self.state.lock().expect("no panic");
            state.durable = to;
            state.flushing = false;
            self.done.notify_all();
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn raw_group(dir: &Path, threads: usize, operations: usize) -> Measured {
    let file = raw_file(dir, "raw", operations * RECORD);
    let group = RawGroup { file, state: Mutex::default(), done: Condvar::new(), waiting: AtomicU64::new(0) };
    shared_out(threads, operations, |_| group.commit())
}

/// One of a million keys of 16 bytes, in no order.
fn key(number: usize) -> [u8; 16] {
    let number = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS;
    let mut key = [b'k'; 16];
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn commit(engine: &Engine, keys: &Keyspace, number: usize, mode: CommitMode) -> Receipt {
    let mut batch = engine.batch().expect("open");
    batch.put(keys, key(number), [7; 100]).expect("a write");
    batch.commit_with(mode).expect("a commit")
}

/// Keeps `tasks` commits in flight from one thread, each awaited.
fn awaited(tasks: usize, operations: usize, commit: impl Fn(usize) -> Receipt) -> Measured {
    struct Flag(Mutex<bool>, Condvar);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            *self.0.lock().expect("no panic") = true;
            self.1.notify_one();
        }
    }
    let flag = Arc::new(Flag(Mutex::new(false), Condvar::new()));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    let mut receipts: Vec<Receipt> = (0..tasks).map(&commit).collect();
    let (mut begun, mut done) = (tasks, 0);
    let start = Instant::now();
    while done < operations {
        for receipt in &mut receipts {
            // A new receipt is polled at once: nobody would wake this thread for one that was not.
            while done < operations
                && let Poll::Ready(verdict) = std::pin::Pin::new(&mut *receipt).poll(&mut context)
            {
                verdict.expect("durable");
                done += 1;
                *receipt = commit(begun);
                begun += 1;
            }
        }

        let mut woken = flag.0.lock().expect("no panic");
        while !*woken && done < operations {
            woken = flag.1.wait(woken).expect("no panic");
        }
        *woken = false;
    }
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
        let mut ratios: Vec<f64> = self.rates.iter().zip(&self.raw).map(|(rate, raw)| rate / raw).collect();
        let (raw, rate) = (median(&mut self.raw), median(&mut self.rates));
        let ratio = match median(&mut ratios) {
            ratio if raw > 0.0 => {
                format!("{ratio:.3} ({:.2} to {:.2})", ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4])
            }
            _ => "-".to_owned(),
        };
        self.times.sort_unstable();
        let percentile = |per_mille: usize| match self.times.len() {
            0 => "-".to_owned(),
            length => format!("{:.1}", self.times[(length - 1) * per_mille / 1000] as f64 / 1000.0),
        };
        let raw = if raw > 0.0 { format!("{raw:.0}") } else { "-".to_owned() };
        let (p50, p99, p999) = (percentile(500), percentile(990), percentile(999));
        let per_flush = median(&mut self.commits_per_flush);
        println!("| {} | {raw} | {rate:.0} | {ratio} | {p50} | {p99} | {p999} | {per_flush:.1} |", self.name);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
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
    println!(
        "\nopen after SIGKILL, 1,000,000 transactions in the log: {:.2} s (reading the files alone: {:.2} s)",
        median(&mut times),
        median(&mut read_times)
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let only = arguments.iter().find_map(|arg| arg.strip_prefix("only="));
    let parent = arguments.iter().find(|arg| !arg.starts_with("only=")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("forelog-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    {
        let engine = Engine::open(dir.join("engine")).expect("a new database");
        let keys = engine.keyspace("keys").expect("a keyspace");
        let log = Log::open(dir.join("log")).expect("a new log");
        let raw_log = RawLog::new(&dir);
        let mut workloads = workloads(&dir, &engine, &keys, &log, &raw_log);
        workloads.retain(|workload| only.is_none_or(|text| workload.name.contains(text)));
        let mut rows: Vec<Row> =
            workloads.iter().map(|workload| Row { name: workload.name, ..Row::default() }).collect();
        for _ in 0..ROUNDS {
            for (workload, row) in workloads.iter().zip(&mut rows) {
                for pair in 0..workload.pairs {
                    row.measure(workload, pair % 2 == 0, &|| {
                        let (engine, log) = (engine.stats(), log.stats());
                        (engine.appends + log.appends, engine.flushes + log.flushes)
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
