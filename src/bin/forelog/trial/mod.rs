//! `trial`: measures the cost of each commit mode on this disk, beside the disk's own limit, and checks what each mode
//! keeps when the process is killed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use forelog::CommitMode;

use crate::output::{Done, Failure, print, print_json, progress_bar};
use crate::workspace::{self, Workspace};
use measure::{Bench, RawBench};
use report::Report;

mod advice;
pub(crate) mod bench;
mod child;
mod histogram;
mod kill;
mod measure;
mod raw;
mod report;

pub(crate) use child::{ChildArguments, run_child};

/// Measure every commit mode on this disk, and kill a writing process in each
///
/// First the raw limit (a preallocated file, 128 bytes written and synced again and again), in turns with each mode, so
/// that the ratios are paired. Then a child process writes in each mode and is killed with SIGKILL; the database is
/// reopened and compared with what was acknowledged. At the end it says which mode to take for what, on this disk.
/// Exit code 1 if a promise was broken, 4 if it could not be run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to measure: a temporary subdirectory is made there and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// About how long it may take
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A mode to measure.
#[derive(Clone, Copy, Debug)]
struct Contender {
    name: &'static str,
    mode: CommitMode,
    threads: usize,
}

const WITHIN: CommitMode = CommitMode::Within(Duration::from_millis(5));

const CONTENDERS: [Contender; 5] = [
    Contender { name: "Sync", mode: CommitMode::Sync, threads: 1 },
    Contender { name: "Sync", mode: CommitMode::Sync, threads: 4 },
    Contender { name: "Written", mode: CommitMode::Written, threads: 1 },
    Contender { name: "Async", mode: CommitMode::Async, threads: 1 },
    Contender { name: "Within(5 ms)", mode: WITHIN, threads: 1 },
];

/// The division of the time.
struct Plan {
    rounds: usize,
    /// The time of each contender in each round.
    slice: Duration,
    /// The time that each child writes before it is killed.
    writing: Duration,
}

impl Plan {
    /// Each round has a slice for every contender and two for the raw limits.
    const SLICES: usize = CONTENDERS.len() + 2;
    /// Short enough for many rounds, long enough for several flush intervals.
    const SLICE_MILLIS: u128 = 50;

    fn new(seconds: u64) -> Self {
        let total = Duration::from_secs(seconds);
        let measuring = total.mul_f64(0.75);
        let rounds = measuring.as_millis() / (Self::SLICE_MILLIS * Self::SLICES as u128);
        // An odd number of ratios has a median that is one of them.
        let rounds = usize::try_from(rounds).unwrap_or(usize::MAX).clamp(3, 1_000) | 1;
        let writing = total.mul_f64(0.2).div_f64(kill::SUBJECTS.len() as f64);
        Plan {
            rounds,
            slice: measuring.div_f64((rounds * Self::SLICES) as f64),
            writing: writing.clamp(Duration::from_millis(40), Duration::from_millis(500)),
        }
    }
}

/// The exit code of a trial that could not be run: nothing was found out of any promise.
const NOT_RUN: u8 = 4;

pub(crate) fn run(arguments: &Arguments) -> Done {
    or_not_run(try_all(arguments))
}

/// A failure as the exit code of its own.
fn or_not_run(done: Done) -> Done {
    done.or_else(|failure| {
        Ok(match failure.report() {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(NOT_RUN),
        })
    })
}

fn try_all(arguments: &Arguments) -> Done {
    let plan = Plan::new(arguments.seconds);
    let workspace = Workspace::create(&arguments.dir, "trial")?;
    let steps = (plan.rounds * Plan::SLICES + kill::SUBJECTS.len()) as u64;
    let bar = progress_bar(steps, "{wide_bar} {msg:16}");

    let mut raw = RawBench::create(&workspace.path("raw"))?;
    let mut benches = Vec::new();
    for (index, contender) in CONTENDERS.iter().enumerate() {
        benches.push(Bench::new(*contender, workspace.path(&format!("mode-{index}"))));
    }
    for round in 0..plan.rounds {
        measure_round(round, &plan, &mut raw, &mut benches, &bar)?;
    }
    for bench in &mut benches {
        bench.finish()?;
    }

    let mut kills = Vec::new();
    for subject in &kill::SUBJECTS {
        workspace::check()?;
        bar.set_message(format!("killing {}", subject.name));
        kills.push(kill::kill(subject, &workspace.path(&format!("kill-{}", subject.argument)), plan.writing)?);
        bar.inc(1);
    }
    bar.finish_and_clear();

    workspace::check()?;
    let report = Report { workspace: &workspace, plan: &plan, raw: &raw, benches: &benches, kills: &kills };
    if arguments.json {
        print_json(report.json())?;
    } else {
        print(report.text())?;
    }
    let broken = kills.iter().any(|kill| !kill.broken.is_empty());
    Ok(if broken { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Runs one slice of each contender. Every other round runs backwards, so that no contender always follows the same
/// one.
fn measure_round(
    round: usize,
    plan: &Plan,
    raw: &mut RawBench,
    benches: &mut [Bench],
    bar: &indicatif::ProgressBar,
) -> Result<(), Failure> {
    let mut order: Vec<Option<usize>> = std::iter::once(None).chain((0..benches.len()).map(Some)).collect();
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    for turn in order {
        workspace::check()?;
        match turn {
            None => {
                bar.set_message("raw limit");
                raw.slice(plan.slice)?;
                bar.inc(2);
            }
            Some(index) => {
                let bench = &mut benches[index];
                bar.set_message(bench.contender.name);
                bench.slice(plan.slice)?;
                bar.inc(1);
            }
        }
    }
    Ok(())
}
