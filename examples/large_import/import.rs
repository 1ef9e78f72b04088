//! The import, killed and resumed until it is done.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Ended, Importing, Random, Result, check};
use crate::measure::Peak;
use crate::mib;

/// How each run is started.
#[derive(Debug)]
pub(crate) struct Imports<'a> {
    pub(crate) program: &'a Path,
    /// Where the database is made, and the temporary file.
    pub(crate) work: &'a Path,
    pub(crate) file: &'a Path,
    pub(crate) memory: u64,
    pub(crate) mode: &'a str,
    pub(crate) batch: u64,
    pub(crate) rows: u64,
}

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// So long behind the acknowledgement of this row.
    Behind(u64, Duration),
    /// Before it acknowledges anything, most likely: while it reads the file or opens the database.
    After(Duration),
    Never,
}

/// One run of the import.
#[derive(Debug)]
pub(crate) struct Run {
    number: usize,
    /// From its start to its first new acknowledgement, if it came to that.
    first: Option<Duration>,
    /// Rows acknowledged since the begin, by this run or an earlier one.
    acknowledged: u64,
    /// Rows that the database has after it.
    kept: u64,
    /// Rows acknowledged per second, from the first acknowledgement to the end.
    rate: f64,
    pub(crate) peak: u64,
    was_killed: bool,
}

impl Imports<'_> {
    /// The part of the rows, in percent, behind which no kill comes: there would be nothing left to kill.
    const KILLED: u64 = 90;
    /// One kill in so many comes before the first acknowledgement of its run.
    const EARLY: u64 = 4;

    pub(crate) fn db(&self) -> PathBuf {
        self.work.join("db")
    }

    /// Kills so many runs, and lets one come to its end.
    pub(crate) fn until_done(&self, kills: u64, seed: u64) -> Result<Vec<Run>> {
        let mut random = Random(seed);
        let mut at: Vec<u64> = (0..kills).map(|_| random.below(self.rows * Self::KILLED / 100)).collect();
        at.sort_unstable();
        let (mut runs, mut first) = (Vec::new(), Duration::ZERO);
        let (mut acknowledged, mut kept) = (0, 0);
        for row in at.into_iter().map(Some).chain([None]) {
            let behind = Duration::from_micros(random.below(5000));
            let (is_early, part) = (random.below(Self::EARLY) == 0, random.below(100));
            let kill = match row {
                None => Kill::Never,
                Some(_) if is_early && !runs.is_empty() => {
                    Kill::After(first * u32::try_from(part).unwrap_or_default() / 100)
                }
                Some(row) => Kill::Behind(row.max(kept), behind),
            };
            let mut run = self.run(runs.len() + 1, kill)?;
            acknowledged = run.acknowledged.max(acknowledged);
            run.acknowledged = acknowledged;
            run.kept = self.kept()?;
            println!("{run}");
            check(run.was_killed || row.is_none(), "the import ended before it was killed: choose more rows")?;
            let may_lose = !["sync", "written"].contains(&self.mode);
            check(may_lose || run.kept >= acknowledged, "an acknowledged row is gone")?;
            check(run.kept >= kept, "a row that an earlier kill has left is gone")?;
            check(run.kept.is_multiple_of(self.batch) || run.kept == self.rows, "a transaction is there in part")?;
            kept = run.kept;
            // What is lost may be acknowledged once more.
            acknowledged = kept;
            first = run.first.unwrap_or(first);
            runs.push(run);
        }
        Ok(runs)
    }

    fn run(&self, number: usize, kill: Kill) -> Result<Run> {
        let mut command = Command::new(self.program);
        command.args(["import", "--keyspace", "rows", "--key", "id", "--acks", "--mode", self.mode]);
        command.args(["--batch", &self.batch.to_string(), "--memory", &self.memory.to_string(), "--db"]);
        command.arg(self.db()).arg(self.file).env("TMPDIR", self.work);
        let started = Instant::now();
        let mut import = Importing::start(&mut command)?;
        let peak = Peak::of(import.child.id());
        let mut first = None;
        match kill {
            Kill::After(time) => std::thread::sleep(time),
            Kill::Behind(..) | Kill::Never => {
                while let Some(row) = import.next()? {
                    first.get_or_insert_with(|| (started.elapsed(), row));
                    if let Kill::Behind(target, time) = kill
                        && row > target
                    {
                        std::thread::sleep(time);
                        break;
                    }
                }
            }
        }
        let Ended { acknowledged, was_killed } = import.end(!matches!(kill, Kill::Never))?;
        let acknowledged = acknowledged.unwrap_or(0);
        let rate = first.map_or(0.0, |(time, row)| {
            (acknowledged - row) as f64 / (started.elapsed() - time).as_secs_f64().max(1e-9)
        });
        let first = first.map(|(time, _)| time);
        Ok(Run { number, first, acknowledged, kept: 0, rate, peak: peak.bytes()?, was_killed })
    }

    /// The rows that are recorded as imported, with which they are in one transaction.
    fn kept(&self) -> Result<u64> {
        let name = self.file.file_name().ok_or("the file has no name")?.to_string_lossy();
        let key = json!(["rows", name]).to_string();
        let mut command = Command::new(self.program);
        command.args(["get", "--json", "--keyspace", "forelog.import", "--db"]).arg(self.db()).arg(&key);
        let output = command.output()?;
        if output.status.success() {
            let entry: Value = serde_json::from_slice(&output.stdout)?;
            return entry["value"]["rows"].as_u64().ok_or_else(|| format!("no progress: {entry}").into());
        }
        // It was killed before its first commit.
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        check(told.contains("there is no key"), &format!("get: {told}"))?;
        Ok(0)
    }
}

impl Run {
    pub(crate) const TITLES: &str = "run   first row after  acknowledged          kept      rows/s    peak RSS  end";
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { number, first, acknowledged, kept, rate, peak, was_killed } = self;
        let first = first.map_or("-".to_owned(), |first| format!("{:.2} s", first.as_secs_f64()));
        let (peak, end) = (mib(*peak), if *was_killed { "killed" } else { "done" });
        write!(f, "{number:>3} {first:>17} {acknowledged:>13} {kept:>13} {rate:>11.0} {peak:>11}  {end}")
    }
}
