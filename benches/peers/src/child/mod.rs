//! A process that takes one measurement. It is told what to do by its parent, and tells one line.

mod commits;
mod reads;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::common::stats::Latency;
use crate::peer::{Kind, Mode, Peer, Purpose, Result, Run, Setting, Store};
use crate::peers;
use crate::place::Flushes;
use crate::workload::{Commits, Mix, Task, Workload};

/// What a process is to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Job {
    /// One measurement of the workload with this id.
    Measure { workload: String, seconds: f64 },
    /// So many `Sync` commits between two marks, to be watched from outside.
    Watched { threads: usize, commits: u64 },
    /// All keys, then SIGKILL: what is in memory is not moved into tables by closing.
    LoadAndDie,
    /// Transactions of 100 bytes, then SIGKILL.
    FillAndDie { transactions: u64 },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    pub peer: String,
    pub dir: PathBuf,
    pub job: Job,
    /// Transactions that a store to be opened again was filled with.
    pub transactions: u64,
}

/// What one measurement gave.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Operations per second, or seconds where the workload is measured in them.
    pub value: f64,
    pub operations: u64,
    /// Microseconds that single operations took; in a scan, whole scans.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    /// Microseconds of user and system time of the process.
    pub cpu: Option<f64>,
    /// Flushes of the device.
    pub flushes: Option<f64>,
}

/// What the line begins with that the parent looks for: peers print lines of their own.
pub const ANSWER: &str = "forelog-peers: ";
/// Files that are looked for at the begin and the end of what is watched; they exist nowhere.
pub const MARKS: [&str; 2] = ["/forelog-peers-begin", "/forelog-peers-end"];

/// Does what is asked and prints the answer.
pub fn main(request: &str) -> Result<()> {
    die_with_parent();
    let request: Request = serde_json::from_str(request)?;
    let peer = peers::named(&request.peer).ok_or("no such peer in this build")?;
    let measured = answer(peer, &request)?;
    println!("{ANSWER}{}", serde_json::to_string(&measured)?);
    Ok(())
}

fn answer(peer: &Peer, request: &Request) -> Result<Measured> {
    let dir = request.dir.as_path();
    match &request.job {
        Job::Measure { workload, seconds } => {
            let workload = Workload::named(workload).ok_or("no such workload")?;
            measure(peer, workload, dir, *seconds, request.transactions)
        }
        Job::Watched { threads, commits } => {
            let store = (peer.open)(&Setting { dir, purpose: Purpose::Commits(Mode::Sync) })?;
            watched(&*store, dir, *threads, *commits)
        }
        Job::LoadAndDie => {
            let store = (peer.open)(&Setting { dir, purpose: Purpose::Reads })?;
            reads::load(&*store)?;
            die_filled()
        }
        Job::FillAndDie { transactions } => {
            let store = (peer.open)(&Setting { dir, purpose: Purpose::LongLog })?;
            commits::fill(&*store, *transactions)?;
            die_filled()
        }
    }
}

fn die_filled() -> Result<Measured> {
    println!("{ANSWER}{}", serde_json::to_string(&Measured::default())?);
    die()
}

/// Commits between two marks.
fn watched(store: &dyn Store, dir: &Path, threads: usize, commits: u64) -> Result<Measured> {
    let shape = Commits { mix: Mix::All(Mode::Sync), threads, puts: 1, value: 100 };
    let run = |commits| match store.drive(&shape, 1.0) {
        Some(driven) => driven,
        None => commits::run(store, &shape, commits::Until::Commits(commits)),
    };
    // The first commits may make files and fill them.
    run(threads as u64)?;
    let flushes = Flushes::of(dir);
    let count = || flushes.as_ref().and_then(Flushes::count);
    let [begin, end] = MARKS.map(Path::new);
    let _ = std::fs::File::open(begin);
    let before = count();
    let run = run(commits)?;
    let after = count();
    let _ = std::fs::File::open(end);
    Ok(Measured { operations: run.operations, flushes: per(before, after, run.operations), ..Measured::default() })
}

fn measure(peer: &Peer, workload: &Workload, dir: &Path, seconds: f64, transactions: u64) -> Result<Measured> {
    let begin = Instant::now();
    let store = (peer.open)(&Setting { dir, purpose: workload.purpose() })?;
    let opened = begin.elapsed().as_secs_f64();
    let warm = seconds / 10.0;
    match workload.task {
        Task::Commits(shape) => {
            if let Some(driven) = store.drive(&shape, seconds) {
                return driven.map(|run| told(run, None, None));
            }
            commits::run(&*store, &shape, commits::Until::Seconds(warm))?;
            counted(dir, peer, || commits::run(&*store, &shape, commits::Until::Seconds(seconds)))
        }
        Task::Awaited(commits) => counted(dir, peer, || commits::awaited(&*store, commits, seconds)),
        Task::Reopen => {
            let found = reads::has_ends(&*store, peer, transactions)?;
            Ok(Measured { value: opened + found, operations: transactions, ..Measured::default() })
        }
        Task::Get { threads } => {
            // What a peer caches is cached then.
            reads::scan(&*store, 0.0)?;
            reads::get(&*store, threads, warm)?;
            counted(dir, peer, || reads::get(&*store, threads, seconds))
        }
        Task::Scan => {
            reads::scan(&*store, warm)?;
            counted(dir, peer, || reads::scan(&*store, seconds))
        }
    }
}

/// Measures what a run took besides time.
fn counted(dir: &Path, peer: &Peer, run: impl FnOnce() -> Result<Run>) -> Result<Measured> {
    let flushes = Flushes::of(dir);
    let count = || flushes.as_ref().and_then(Flushes::count);
    let (cpu, before) = (cpu_seconds(), count());
    let run = run()?;
    let (cpu, after) = (cpu_seconds() - cpu, count());
    // The work of a server is not in this process.
    let cpu = (peer.kind != Kind::Outside).then_some(cpu * 1e6 / run.operations.max(1) as f64);
    let flushes = per(before, after, run.operations);
    Ok(told(run, cpu, flushes))
}

fn told(run: Run, cpu: Option<f64>, flushes: Option<f64>) -> Measured {
    let Run { operations, seconds, mut times } = run;
    let Latency { p50, p99, p999 } = Latency::of(&mut times);
    Measured { value: operations as f64 / seconds, operations, p50, p99, p999, cpu, flushes }
}

fn per(before: Option<u64>, after: Option<u64>, operations: u64) -> Option<f64> {
    Some((after? - before?) as f64 / operations.max(1) as f64)
}

/// User and system time of this process so far.
#[expect(unsafe_code, reason = "the standard library does not tell the times")]
fn cpu_seconds() -> f64 {
    // SAFETY: all zeros is a valid `rusage`: it holds integers alone.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is written to during the call alone.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A run that is given up leaves nothing behind.
#[expect(unsafe_code, reason = "a system call without a wrapper")]
pub fn die_with_parent() {
    // SAFETY: sets a flag of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Ends this process as the out-of-memory killer would.
#[expect(unsafe_code, reason = "the standard library sends no signals")]
pub fn die() -> ! {
    // SAFETY: a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::process::abort()
}
