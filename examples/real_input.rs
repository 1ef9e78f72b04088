//! Real data through the command line: each file is imported in each mode, one transaction a row, killed with SIGKILL
//! half-way, checked, resumed to the end, and compared with the CSV row for row.
//!
//! ```text
//! cargo build --release --features cli
//! cargo run --release --features cli --example real_input [DIRECTORY]
//! ```
//!
//! DIRECTORY holds `runways.csv`, `airport-frequencies.csv`, `navaids.csv` and `countries.csv` of <https://ourairports.com/data/>
//! (default: `../shared/data`). The environment variable `FORELOG_BIN` names another `forelog` than the one just built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use common::{Importing, Result, check, program};
use serde_json::{Map, Value};

mod common;

const FILES: [&str; 4] = ["runways.csv", "airport-frequencies.csv", "navaids.csv", "countries.csv"];
const MODES: [&str; 4] = ["sync", "written", "async", "within:5ms"];
/// An import may end before the signal reaches it; then it is tried again.
const ATTEMPTS: u32 = 20;

fn main() -> Result<ExitCode> {
    let data = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let program = program()?;
    let scratch = std::env::temp_dir().join(format!("forelog-real-input-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    println!("{:<24} {:<10} {:>7} {:>9} {:>8}  result", "file", "mode", "rows", "acked", "kept");
    let mut failed = false;
    for name in FILES {
        let file = data.join(name);
        if !file.exists() {
            println!("{name:<24} skipped: {} is not there", file.display());
            continue;
        }
        for mode in MODES {
            let trial = Trial { program: &program, file: &file, mode, scratch: &scratch };
            match trial.run() {
                Ok(Counts { rows, acknowledged, kept }) => {
                    println!("{name:<24} {mode:<10} {rows:>7} {acknowledged:>9} {kept:>8}  ok");
                }
                Err(error) => {
                    println!("{name:<24} {mode:<10} FAILED: {error}");
                    failed = true;
                }
            }
        }
    }
    fs::remove_dir_all(&scratch)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Trial<'a> {
    program: &'a Path,
    file: &'a Path,
    mode: &'a str,
    scratch: &'a Path,
}

struct Counts {
    rows: usize,
    /// Rows acknowledged before the kill.
    acknowledged: usize,
    /// Rows that the reopened database has.
    kept: usize,
}

impl Trial<'_> {
    fn run(&self) -> Result<Counts> {
        let rows = self.rows_of_file()?;
        let (db, acknowledged) = self.killed_import(rows.len() / 2)?;
        self.forelog("verify", &db, &[])?;
        let kept = self.scan(&db)?;
        check(kept == in_key_order(&rows[..kept.len().min(rows.len())]), "what was kept is no prefix of the file")?;
        let may_lose = !["sync", "written"].contains(&self.mode);
        check(may_lose || kept.len() >= acknowledged, "an acknowledged row is gone")?;
        let file = self.file.to_str().ok_or("the path is not UTF-8")?;
        self.forelog("import", &db, &["--keyspace", "rows", "--key", "id", "--mode", self.mode, file])?;
        check(self.scan(&db)? == in_key_order(&rows), "after resuming, the database is not the file")?;
        self.forelog("verify", &db, &[])?;
        fs::remove_dir_all(&db)?;
        Ok(Counts { rows: rows.len(), acknowledged, kept: kept.len() })
    }

    /// Key and JSON text of every row, in the file's order.
    fn rows_of_file(&self) -> Result<Vec<(String, String)>> {
        let mut reader = csv::Reader::from_path(self.file)?;
        let header = reader.headers()?.clone();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record?;
            let object: Map<_, _> =
                header.iter().zip(&record).map(|(name, field)| (name.to_owned(), Value::from(field))).collect();
            let key = object.get("id").and_then(Value::as_str).ok_or("there is no column id")?.to_owned();
            rows.push((key, Value::Object(object).to_string()));
        }
        Ok(rows)
    }

    /// Imports into a fresh database and kills the process once `half` rows are acknowledged. Returns the database and
    /// how many were acknowledged in the end.
    fn killed_import(&self, half: usize) -> Result<(PathBuf, usize)> {
        for _ in 0..ATTEMPTS {
            let db = self.scratch.join("db");
            if db.exists() {
                fs::remove_dir_all(&db)?;
            }
            let mut command = Command::new(self.program);
            command.args(["import", "--keyspace", "rows", "--key", "id", "--acks", "--mode", self.mode, "--db"]);
            let mut import = Importing::start(command.arg(&db).arg(self.file))?;
            while import.next()?.is_some_and(|acknowledged| acknowledged < half as u64) {}
            let ended = import.end(true)?;
            if ended.was_killed {
                return Ok((db, usize::try_from(ended.acknowledged.unwrap_or(0))?));
            }
        }
        Err("no kill hit a running import".into())
    }

    fn scan(&self, db: &Path) -> Result<Vec<(String, String)>> {
        let lines = self.forelog("scan", db, &["--keyspace", "rows", "--json"])?;
        let mut rows = Vec::new();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line)?;
            let key = line["key"].as_str().ok_or("a key is no text")?;
            rows.push((key.to_owned(), line["value"].to_string()));
        }
        Ok(rows)
    }

    /// Runs the program to success; returns what it printed.
    fn forelog(&self, subcommand: &str, db: &Path, more: &[&str]) -> Result<String> {
        let output = Command::new(self.program).arg(subcommand).arg("--db").arg(db).args(more).output()?;
        if !output.status.success() {
            return Err(format!("{subcommand}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn in_key_order(rows: &[(String, String)]) -> Vec<(String, String)> {
    let mut rows = rows.to_vec();
    rows.sort();
    rows
}
