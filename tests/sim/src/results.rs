//! The one file that the parts of a campaign write their figures to, a line of JSON each, and the table that it makes.
//!
//! Each line names the commit, whether the tree was clean, the seed, and when the part began and ended. A file never
//! holds figures of two commits, so its table is of one.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::figures::{Figure, to_json};
use crate::root;

/// How long all parts together may take, on two cores.
const MOST_MINUTES: u64 = 150;

/// What the figures are of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub commit: String,
    /// Whether the tree was the commit's, and nothing else.
    pub clean: bool,
}

impl Source {
    /// Of the repository that this was built from.
    pub fn now() -> Result<Self, String> {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").current_dir(root()).args(arguments).output();
            let output = output.map_err(|error| format!("git {}: {error}", arguments.join(" ")))?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() { Ok(text) } else { Err(format!("git {} failed", arguments.join(" "))) }
        };
        Ok(Source { commit: git(&["rev-parse", "HEAD"])?, clean: git(&["status", "--porcelain"])?.is_empty() })
    }
}

/// The file, and what it may hold.
pub struct Results {
    path: PathBuf,
    source: Source,
}

impl Results {
    /// Refuses a file with figures of another commit, or of none.
    pub fn open(path: &Path, source: Source) -> Result<Self, String> {
        for line in lines(path)? {
            if line["commit"] != source.commit {
                let (file, other) = (path.display(), line["commit"].as_str().unwrap_or("no commit"));
                return Err(format!("{file} holds figures of {other}, this is {}: use another file", source.commit));
            }
        }
        Ok(Results { path: path.to_owned(), source })
    }

    /// Appends the figures of a part that began at `started`. Refuses them if what they are of is not `now` any more.
    pub fn append(
        &self,
        now: &Source,
        started: SystemTime,
        part: &str,
        seed: u64,
        figures: &[Figure],
    ) -> Result<(), String> {
        if *now != self.source {
            return Err(format!("the tree changed while {part} ran: {:?}, then {now:?}", self.source));
        }
        let line = json!({
            "part": part,
            "commit": now.commit,
            "clean": now.clean,
            "seed": seed,
            "started": time(started),
            "ended": time(SystemTime::now()),
            "figures": to_json(figures),
        });
        let failed = |error| format!("{}: {error}", self.path.display());
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).map_err(failed)?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(failed)
    }
}

/// The lines of the file; none if there is no file.
fn lines(path: &Path) -> Result<Vec<Value>, String> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let parse = |(number, line)| {
        serde_json::from_str(line).map_err(|error| format!("{}, line {number}: {error}", path.display()))
    };
    (1..).zip(text.lines()).map(parse).collect()
}

/// Prints the table of a file: of each part what it wrote last. Returns what is not as it must be.
pub fn print_table(path: &Path, parts: &[&str]) -> Result<Vec<String>, String> {
    let all = lines(path)?;
    let first = all.first().ok_or(format!("{} holds nothing", path.display()))?;
    Results::open(path, Source { commit: first["commit"].as_str().unwrap_or_default().to_owned(), clean: true })?;
    println!("Commit {}.\n", first["commit"].as_str().unwrap_or_default());
    println!("| part | seed | began | ended | tree |\n|---|---|---|---|---|");
    let mut wrong = Vec::new();
    let mut seconds = 0;
    let mut last = Vec::new();
    for part in parts {
        let Some(line) = all.iter().rfind(|line| line["part"] == *part) else {
            wrong.push(format!("{part} was not run"));
            continue;
        };
        let clean = line["clean"] == true;
        if !clean {
            wrong.push(format!("{part} ran on a tree that was not the commit's"));
        }
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let tree = if clean { "clean" } else { "CHANGED" };
        println!("| {part} | {} | {} | {} | {tree} |", line["seed"], text("started"), text("ended"));
        seconds += seconds_of(&text("ended")).saturating_sub(seconds_of(&text("started")));
        last.push(line);
    }
    println!("\n| part | figure | value | wanted | |\n|---|---|---:|---:|---|");
    for figure in last.iter().flat_map(|line| line["figures"].as_array().into_iter().flatten()) {
        let text = |field: &str| figure[field].as_str().unwrap_or_default();
        let verdict = match (text("wanted"), figure["met"] == true) {
            ("", _) => "",
            (_, true) => "ok",
            (_, false) => "NOT MET",
        };
        let (part, name, wanted) = (text("part"), text("figure"), text("wanted"));
        println!("| {part} | {name} | {} | {wanted} | {verdict} |", figure["value"]);
        if verdict == "NOT MET" {
            wrong.push(format!("{part}: {name} is {}, not {wanted}", figure["value"]));
        }
    }
    let minutes = seconds.div_ceil(60);
    println!("\nMinutes of the whole: {minutes}, at most {MOST_MINUTES}.");
    if minutes > MOST_MINUTES {
        wrong.push(format!("it took {minutes} minutes"));
    }
    Ok(wrong)
}

/// A moment as `2026-11-28T21:45:39Z`.
fn time(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the day that a leap year has more is a year's last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = of_years + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The seconds since 1970 of what [`time`] made.
fn seconds_of(text: &str) -> u64 {
    let fields: Vec<u64> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|field| field.parse().ok()).collect();
    let &[year, month, day, hour, minute, second] = &fields[..] else { return 0 };
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}
