//! Real data through the command line: each file is imported in each mode, one transaction a row, with the least memory that an
//! engine takes. It is killed with SIGKILL at ten random moments, checked behind each, resumed to the end, and compared with the
//! CSV row for row.
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

use common::{Ended, Importing, Random, Result, check, program};
use serde_json::{Map, Value};

mod common;

const FILES: [&str; 4] = ["runways.csv", "airport-frequencies.csv", "navaids.csv", "countries.csv"];
const MODES: [&str; 4] = ["sync", "written", "async", "within:5ms"];
/// So many kills have to hit. An import may end before the signal reaches it; then another one begins.
const KILLS: u32 = 10;
const ATTEMPTS: u32 = 100;
/// A sixth of each of these files is less.
const MEMORY: &str = "16MiB";

fn main() -> Result<ExitCode> {
    let data = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let program = program()?;
    let scratch = std::env::temp_dir().join(format!("forelog-real-input-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    println!("{:<24} {:<10} {:>7} {:>6} {:>8}  result", "file", "mode", "rows", "kills", "kept");
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
                Ok(Counts { rows, kills, kept }) => {
                    println!("{name:<24} {mode:<10} {rows:>7} {kills:>6} {kept:>8}  ok");
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
    /// Kills that hit a running import.
    kills: u32,
    /// Rows that the next life had behind the last of them.
    kept: usize,
}

impl Trial<'_> {
    fn run(&self) -> Result<Counts> {
        let (rows, db) = (self.rows_of_file()?, self.scratch.join("db"));
        let mut random = Random(rows.len() as u64);
        let (mut kills, mut begun, mut kept) = (0, 0, 0);
        for _ in 0..ATTEMPTS {
            if kills == KILLS {
                break;
            }
            let ended =
                self.killed_import(&db, begun + usize::try_from(random.below((rows.len() - begun) as u64 + 1))?)?;
            self.forelog("verify", &db, &[])?;
            let found = self.scan(&db)?;
            check(
                found == in_key_order(&rows[..found.len().min(rows.len())]),
                "what was kept is no prefix of the file",
            )?;
            let may_lose = ended.was_killed && !["sync", "written"].contains(&self.mode);
            let acknowledged = usize::try_from(ended.acknowledged.unwrap_or(0))?;
            check(may_lose || found.len() >= acknowledged, "an acknowledged row is gone")?;
            begun = found.len();
            if ended.was_killed {
                (kills, kept) = (kills + 1, begun);
            } else {
                check(begun == rows.len(), "the import has ended, and the database is not the file")?;
                fs::remove_dir_all(&db)?;
                begun = 0;
            }
        }
        check(kills == KILLS, "too few kills hit a running import")?;
        let file = self.file.to_str().ok_or("the path is not UTF-8")?;
        let import = ["--keyspace", "rows", "--key", "id", "--memory", MEMORY, "--mode", self.mode, file];
        self.forelog("import", &db, &import)?;
        check(self.scan(&db)? == in_key_order(&rows), "after resuming, the database is not the file")?;
        self.forelog("verify", &db, &[])?;
        fs::remove_dir_all(&db)?;
        Ok(Counts { rows: rows.len(), kills, kept })
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

    /// Imports, or goes on with it, and kills the process once so many rows are acknowledged.
    fn killed_import(&self, db: &Path, rows: usize) -> Result<Ended> {
        let mut command = Command::new(self.program);
        command.args([
            "import",
            "--keyspace",
            "rows",
            "--key",
            "id",
            "--acks",
            "--memory",
            MEMORY,
            "--mode",
            self.mode,
            "--db",
        ]);
        let mut import = Importing::start(command.arg(db).arg(self.file))?;
        while import.next()?.is_some_and(|acknowledged| acknowledged < rows as u64) {}
        import.end(true)
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
