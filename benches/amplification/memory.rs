//! The parts of memory, as the engine tells them, beside what the operating system counts.

use forelog::Engine;

use crate::Result;

const MIB: f64 = (1 << 20) as f64;

pub(crate) fn print_header() {
    let [of, limit, records, superseded, partitions, runs, log, sum, rss, peak] =
        ["MiB", "limit", "records", "superseded", "partitions", "open runs", "log", "sum", "resident", "at most"];
    println!(
        "  {of:<12} {limit:>8} {records:>8} {superseded:>10} {partitions:>10} {runs:>9} {log:>6} {sum:>8} {rss:>8} {peak:>8}"
    );
}

/// What memory takes once `phase` is over.
pub(crate) fn print(engine: &Engine, phase: &str) -> Result<()> {
    let stats = engine.memory_stats();
    // What is sorted counts as of the log: at rest it is nothing.
    let log = stats.log_buffers + stats.sorting;
    let [limit, records, superseded, partitions, runs, log] =
        [stats.limit, stats.records, stats.superseded, stats.partitions, stats.open_runs, log]
            .map(|bytes| bytes as f64 / MIB);
    let sum = records + superseded + partitions + runs + log;
    let (rss, peak) = resident()?;
    println!(
        "  {phase:<12} {limit:>8.0} {records:>8.1} {superseded:>10.1} {partitions:>10.1} {runs:>9.1} {log:>6.1} {sum:>8.1} {rss:>8.1} {peak:>8.1}"
    );
    Ok(())
}

/// The memory of this process that is resident, now and at most, in MiB.
fn resident() -> Result<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
        kib / 1024.0
    };
    Ok((of("VmRSS:"), of("VmHWM:")))
}
