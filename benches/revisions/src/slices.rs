//! A slice: one revision, one row, a fraction of a second.

use std::io::ErrorKind::NotFound;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::awaited::Awaited;
use crate::common::files::{copy_into, make_empty};
use crate::common::stats::{STRIDE, nanoseconds};
use crate::common::{key, key_of};
use crate::place::failed;
use crate::revision::{Mode, Open, Result, Revision, Tables};

/// What is done in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Commits in this mode from so many threads.
    Commits(Mode, usize),
    /// So many durable commits in flight from one thread.
    Awaited(usize),
    /// Opening what a killed process left.
    Open,
    /// Point reads through one snapshot a slice.
    Get,
    /// Scans, each through a snapshot of its own.
    Scan,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) task: Task,
}

/// Reads come first: the commits leave each revision with a tree of its own.
pub(crate) const ROWS: [Row; 9] = [
    Row { name: "open, transactions in the log", task: Task::Open },
    Row { name: "point reads, one snapshot a slice", task: Task::Get },
    Row { name: "full scan, one snapshot a scan", task: Task::Scan },
    Row { name: "Sync, 1 thread", task: Task::Commits(Mode::Sync, 1) },
    Row { name: "Sync, 16 threads", task: Task::Commits(Mode::Sync, 16) },
    Row { name: "Sync, 64 threads", task: Task::Commits(Mode::Sync, 64) },
    Row { name: "Async, 1 thread", task: Task::Commits(Mode::Async, 1) },
    Row { name: "1,024 awaited, 1 thread", task: Task::Awaited(1024) },
    Row { name: "Written, 1 thread", task: Task::Commits(Mode::Written, 1) },
];

/// Operations, how long they took together, and the nanoseconds of single ones: of all or of a sample, and of whole scans
/// and whole opens.
#[derive(Default)]
pub(crate) struct Slice {
    pub(crate) operations: u64,
    pub(crate) time: Duration,
    pub(crate) times: Vec<u64>,
}

impl Slice {
    pub(crate) fn add(&mut self, other: Slice) {
        self.operations += other.operations;
        self.time += other.time;
        self.times.extend(other.times);
    }

    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }
}

/// The first argument of a process that only opens; the side, the kind of tables, the directory and the number of transactions follow.
pub(crate) const OPENS: &str = "--opens";

/// Shares no factor with the number of keys, so that its multiples visit each key once.
const STEP: u64 = 618_033_989;

/// A database of one revision, with its keys loaded, and the files of another one as a killed process left them.
pub(crate) struct Side<'a> {
    name: &'static str,
    database: Box<dyn Revision>,
    tables: Tables,
    next: AtomicU64,
    /// Keys below this number are there.
    keys: u64,
    transactions: u64,
    killed: &'a Path,
    copy: &'a Path,
}

impl<'a> Side<'a> {
    /// Fills what the rows need. `dirs` are a directory for the database, one for the killed one, and one for its copies.
    pub(crate) fn new(
        (name, open): (&'static str, Open),
        dirs: [&'a Path; 3],
        keys: u64,
        transactions: u64,
        opens: bool,
        tables: Tables,
    ) -> Result<Side<'a>> {
        const PUTS: u64 = 50_000;
        let [dir, killed, copy] = dirs;
        let mut database = open(dir, tables)?;
        for first in (0..keys).step_by(PUTS as usize) {
            let numbers = first..keys.min(first + PUTS);
            database.load(&mut numbers.map(|number| key_of(number.wrapping_mul(STEP) % keys)))?;
        }
        database.flush()?;
        if tables == Tables::Reopened {
            database.checkpoint_and_close()?;
            drop(database);
            database = open(dir, tables)?;
        }
        if opens {
            let filled = dir.with_extension("filled");
            let database = open(&filled, tables)?;
            (0..transactions).try_for_each(|number| database.commit(number, Mode::Async))?;
            database.flush()?;
            // Copied while it is open: a close would mark it as closed.
            let copied = copy_of_open(&filled, killed);
            copied.map_err(|error| failed("copy a database to", killed, &error))?;
            drop(database);
            std::fs::remove_dir_all(&filled).map_err(|error| failed("remove", &filled, &error))?;
        }
        Ok(Side { name, database, tables, next: AtomicU64::new(0), keys, transactions, killed, copy })
    }

    /// Measures one slice. What it leaves to the background is done before the next one begins.
    pub(crate) fn slice(&self, task: Task, time: Duration) -> Result<Slice> {
        let slice = match task {
            Task::Commits(mode, threads) => self.commits(mode, threads, time),
            Task::Awaited(tasks) => self.awaited(tasks, time),
            Task::Open => self.reopen(),
            Task::Get => self.get(time),
            Task::Scan => self.scan(time),
        };
        self.database.flush()?;
        slice
    }

    fn commits(&self, mode: Mode, threads: usize, time: Duration) -> Result<Slice> {
        let begin = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            let one = || {
                begin.wait();
                self.commits_of_one(mode, time)
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            begin.wait();
            let start = Instant::now();
            let mut all = Slice::default();
            for thread in running {
                all.add(thread.join().expect("no panic")?);
            }
            all.time = start.elapsed();
            Ok(all)
        })
    }

    fn commits_of_one(&self, mode: Mode, time: Duration) -> Result<Slice> {
        let stride = if mode == Mode::Sync { 1 } else { STRIDE };
        let start = Instant::now();
        let mut done = Slice::default();
        loop {
            let first = self.next.fetch_add(stride, Ordering::Relaxed);
            let before = Instant::now();
            if before - start >= time {
                return Ok(done);
            }
            self.database.commit(first, mode)?;
            done.times.push(nanoseconds(before.elapsed()));
            (first + 1..first + stride).try_for_each(|number| self.database.commit(number, mode))?;
            done.operations += stride;
        }
    }

    fn awaited(&self, tasks: usize, time: Duration) -> Result<Slice> {
        let first = self.next.load(Ordering::Relaxed);
        let start = Instant::now();
        let mut enough = |done: usize| done.is_multiple_of(64) && start.elapsed() >= time;
        let Awaited { commits, times } = self.database.awaited(first, tasks, &mut enough)?;
        let time = start.elapsed();
        self.next.fetch_add((commits + tasks) as u64, Ordering::Relaxed);
        Ok(Slice { operations: commits as u64, time, times })
    }

    fn reopen(&self) -> Result<Slice> {
        let copied = make_empty(self.copy).and_then(|()| copy_into(self.killed, self.copy));
        copied.map_err(|error| failed("copy a database to", self.copy, &error))?;
        let time = opened_by_a_process(self, self.copy)?;
        Ok(Slice { operations: self.transactions, time, times: vec![nanoseconds(time)] })
    }

    fn get(&self, time: Duration) -> Result<Slice> {
        /// One read of so many is timed. A prime.
        const PIECE: u64 = 61;
        let mut done = Slice::default();
        self.database.read(&mut |get| {
            let mut get = |number: u64| match get(&key_of(number.wrapping_mul(STEP) % self.keys))? {
                Some(100) => Ok(()),
                _ => Err(format!("key {number} is missing, or its value")),
            };
            let start = Instant::now();
            loop {
                let before = Instant::now();
                done.time = before - start;
                if done.time >= time {
                    return Ok(());
                }
                let first = done.operations;
                get(first)?;
                done.times.push(nanoseconds(before.elapsed()));
                (first + 1..first + PIECE).try_for_each(&mut get)?;
                done.operations += PIECE;
            }
        })?;
        Ok(done)
    }

    fn scan(&self, time: Duration) -> Result<Slice> {
        let mut done = Slice::default();
        while done.time < time {
            let before = Instant::now();
            let keys = self.database.scan()?;
            if keys < self.keys {
                return Err(format!("{keys} keys are found where {} were written", self.keys));
            }
            let took = before.elapsed();
            done.add(Slice { operations: keys, time: took, times: vec![nanoseconds(took)] });
        }
        Ok(done)
    }
}

/// Copies an open database, whose log may remove or rename a file meanwhile: then from the beginning.
fn copy_of_open(from: &Path, to: &Path) -> std::io::Result<()> {
    let copy = || make_empty(to).and_then(|()| copy_into(from, to));
    (0..10).map(|_| copy()).find(|copied| !copied.as_ref().is_err_and(|e| e.kind() == NotFound)).unwrap_or_else(copy)
}

/// The time of an open in a process of its own. A program opens a database once. In a process that opens many, an
/// allocator that keeps all memory of one open has it at hand for the next.
fn opened_by_a_process(side: &Side<'_>, dir: &Path) -> Result<Duration> {
    let program = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let tables = if side.tables == Tables::Automatic { "automatic" } else { "none" };
    let ended = Command::new(program).args([OPENS, side.name, tables]).arg(dir).arg(side.transactions.to_string()).output();
    let ended = ended.map_err(|error| format!("could not start a process that opens: {error}"))?;
    match String::from_utf8_lossy(&ended.stdout).trim().parse() {
        Ok(nanoseconds) if ended.status.success() => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(format!("a process that opens failed: {}", String::from_utf8_lossy(&ended.stderr).trim())),
    }
}

/// Opens the database in `dir` and returns the time. `transactions` were committed before the kill.
pub(crate) fn open_once(open: Open, tables: Tables, dir: &Path, transactions: u64) -> Result<Duration> {
    let start = Instant::now();
    let opened = open(dir, tables)?;
    let time = start.elapsed();
    opened.read(&mut |get| match get(&key(transactions - 1))? {
        Some(100) => Ok(()),
        _ => Err("the last transaction of a killed process was lost".to_owned()),
    })?;
    Ok(time)
}
