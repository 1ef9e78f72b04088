//! `bench`: one mode, beside the disk's own limit, with the histogram of its latencies.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use forelog::CommitMode;
use serde_json::json;

use super::histogram::Histogram;
use super::measure::{Bench, Figures, RawBench, median};
use super::report::per_fsync;
use super::{Contender, or_not_run};
use crate::output::{Done, grouped, print, print_json, progress_bar, rate, short};
use crate::workspace::{self, Workspace};

/// Measure one commit mode on this disk, and draw its latencies
///
/// Each thread commits a key of 16 bytes and a value of 100, one after another, in turns with the raw limit: a
/// preallocated file, 128 bytes written (and synced, for sync). Exit code 4 if it could not be run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to measure: a temporary subdirectory is made there and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// sync, written, async, or within:5ms
    #[arg(long, value_name = "MODE", default_value = "sync")]
    mode: CommitMode,
    /// Threads that commit
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// About how long it may take
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Turns of each second, shared by the mode and the raw limit.
const TURNS: u64 = 5;
/// The longest bar of the histogram, in columns.
const BAR: usize = 40;

pub(crate) fn run(arguments: &Arguments) -> Done {
    or_not_run(measure(arguments))
}

fn measure(arguments: &Arguments) -> Done {
    let workspace = Workspace::create(&arguments.dir, "bench")?;
    let contender = Contender { name: "commits", mode: arguments.mode, threads: arguments.threads.into() };
    let (mut raw, mut bench) = (RawBench::create(&workspace.path("raw"))?, Bench::new(contender, workspace.path("db")));
    let turns = arguments.seconds * TURNS;
    let bar = progress_bar(turns, "{wide_bar} {eta}");
    for _ in 0..turns {
        workspace::check()?;
        // Half of it for the mode, and a quarter for each of the two raw limits.
        raw.slice(Duration::from_millis(250 / TURNS))?;
        bench.slice(Duration::from_millis(500 / TURNS))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    bench.finish()?;
    workspace::check()?;
    let raw = raw.limit_of(arguments.mode);
    if arguments.json {
        print_json(as_json(arguments, &bench, raw))?;
    } else {
        print(as_text(arguments, &bench, raw).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(arguments: &Arguments, bench: &Bench, raw: &Figures) -> String {
    let mut text = format!("{:<12}{:>12}{:>10}{:>10}{:>10}{:>10}\n", "", "a second", "p50", "p99", "p99.9", "max");
    let mode = arguments.mode.to_string();
    for (name, figures) in [("raw limit", raw), (mode.as_str(), &bench.figures)] {
        let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|of| short(figures.latencies.quantile(of)));
        let _ = writeln!(text, "{name:<12}{:>12}{p50:>10}{p99:>10}{p999:>10}{most:>10}", rate(figures.rate()));
    }
    let threads = arguments.threads;
    let _ = writeln!(
        text,
        "\n{threads} thread{}, {} commits, {:.1} for each fsync;\n{:.2} of the raw limit (median of {} turns)\n",
        if threads == 1 { "" } else { "s" },
        grouped(bench.commits),
        per_fsync(bench),
        median(&bench.figures.ratios(raw)),
        raw.rates.len()
    );
    text + &drawn(&bench.figures.latencies)
}

/// A row for each power of two.
fn drawn(latencies: &Histogram) -> String {
    let octaves = latencies.octaves();
    let most = octaves.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let mut text = String::new();
    for (below, count) in octaves {
        let share = count as f64 / latencies.count().max(1) as f64;
        let length = usize::try_from(count * BAR as u64 / most).unwrap_or(BAR);
        // What is there is seen.
        let bar = "#".repeat(length.max(usize::from(count > 0)));
        let _ =
            writeln!(text, "below {:>8}  {bar:<BAR$} {:>10} {:>5.1} %", short(below), grouped(count), share * 100.0);
    }
    text
}

fn as_json(arguments: &Arguments, bench: &Bench, raw: &Figures) -> String {
    let of = |figures: &Figures| {
        let seconds = |of| figures.latencies.quantile(of).as_secs_f64();
        json!({
            "per_second": figures.rate(),
            "p50_seconds": seconds(0.5),
            "p99_seconds": seconds(0.99),
            "p999_seconds": seconds(0.999),
            "max_seconds": seconds(1.0),
        })
    };
    let octaves = bench.figures.latencies.octaves();
    let histogram: Vec<_> =
        octaves.iter().map(|(below, count)| json!({ "below_seconds": below.as_secs_f64(), "count": count })).collect();
    json!({
        "mode": arguments.mode.to_string(),
        "threads": arguments.threads,
        "commits": bench.commits,
        "fsyncs": bench.fsyncs,
        "figures": of(&bench.figures),
        "raw": of(raw),
        "ratio_to_raw": median(&bench.figures.ratios(raw)),
        "histogram": histogram,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_fits_a_terminal_and_shows_the_rarest() {
        let mut latencies = Histogram::new();
        (0..100_000).for_each(|_| latencies.record(Duration::from_micros(100)));
        latencies.record(Duration::from_millis(900));
        let text = drawn(&latencies);
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        let bars: Vec<usize> =
            text.lines().map(|line| line.matches('#').count()).filter(|length| *length > 0).collect();
        assert_eq!(bars, [BAR, 1], "{text}");
    }
}
