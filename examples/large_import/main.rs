//! Data that outgrow memory through the command line: a large file is imported with little memory, killed with SIGKILL at
//! random moments, resumed each time, and compared with the database row for row.
//!
//! ```text
//! cargo build --release --features cli
//! cargo run --release --features cli --example large_import -- --rows 50000000 --seed 1 --mode written --batch 100 --kills 10
//! cargo run --release --features cli --example large_import -- --rows 5000000 --seed 1 --mode MODE --batch 100 --kills 10
//! ```
//!
//! Everything follows from the seed but the moments at which the kills hit. The environment variable `FORELOG_BIN` names
//! another `forelog` than the one just built. Exit code 0: the database is the file. 1: it is not.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;

use common::{Result, check, program};
use generate::Generator;
use import::{Imports, Run};
use measure::{Peak, free_disk, size_of};

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod import;
mod measure;

/// Imports a large file with little memory, kills the import, resumes it, and compares the database with the file.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows of the file, each of about 100 bytes
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// What the rows and the kills follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// sync, written, async or within:TIME
    #[arg(long, default_value = "written")]
    mode: String,
    /// Rows in one transaction
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// Kills that have to hit
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// What the import may use, in bytes; without it a sixth of the file, and 16 MiB at least
    #[arg(long)]
    memory: Option<u64>,
    /// Where file and database are made, in a new directory [default: that for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep file and database
    #[arg(long)]
    keep: bool,
}

/// The least that the engine takes.
const LEAST_MEMORY: u64 = 16 << 20;
/// The room that is needed, as a multiple of the file's size: for the file, its temporary file, and the database with what
/// a merge writes before it removes anything.
const ROOM: u64 = 5;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let parent = arguments.dir.clone().unwrap_or_else(std::env::temp_dir);
    fs::create_dir_all(&parent)?;
    let work = parent.join(format!("forelog-large-import-{}", std::process::id()));
    let generator = Generator::new(arguments.seed);
    let (needed, free) = (generator.file_bytes(arguments.rows)?.saturating_mul(ROOM), free_disk(&parent)?);
    if needed > free {
        let (needed, free, parent) = (mib(needed), mib(free), parent.display());
        return Err(format!("about {needed} are needed in {parent}, and {free} are free: name another --dir").into());
    }
    fs::create_dir(&work)?;
    let trial = Trial { program: program()?, generator, arguments, work };
    let done = trial.run();
    match &done {
        Ok(()) => println!("ok: every row is there as it was generated, and no other"),
        Err(error) => println!("FAILED: {error}"),
    }
    // What differs is there to be looked at.
    if trial.arguments.keep || done.is_err() {
        println!("kept: {}", trial.work.display());
    } else {
        fs::remove_dir_all(&trial.work)?;
    }
    Ok(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Trial {
    program: PathBuf,
    generator: Generator,
    arguments: Arguments,
    work: PathBuf,
}

/// What was read back.
struct Scanned {
    rows: u64,
    /// Of keys and values.
    data: u64,
    peak: u64,
}

impl Trial {
    fn run(&self) -> Result<()> {
        let Arguments { rows, seed, mode, batch, kills, .. } = &self.arguments;
        let file = self.work.join("rows.csv");
        self.generator.write(*rows, BufWriter::with_capacity(1 << 20, File::create_new(&file)?))?;
        let file_bytes = fs::metadata(&file)?.len();
        let memory = self.arguments.memory.unwrap_or_else(|| (file_bytes / 6).max(LEAST_MEMORY));
        println!(
            "{rows} rows, file {}, --memory {}, mode {mode}, batch {batch}, {kills} kills, seed {seed}",
            mib(file_bytes),
            mib(memory)
        );
        let imports =
            Imports { program: &self.program, work: &self.work, file: &file, memory, mode, batch: *batch, rows: *rows };
        let begun = Instant::now();
        println!("{}", Run::TITLES);
        let runs = imports.until_done(*kills, *seed)?;
        let seconds = begun.elapsed().as_secs_f64();
        let peak = runs.iter().map(|run| run.peak).max().unwrap_or_default();
        println!("import: {seconds:.1} s in all, {:.0} rows/s with all resumes", *rows as f64 / seconds);
        println!("peak RSS of an import: {}, {:.2} of --memory", mib(peak), peak as f64 / memory as f64);
        println!("a resume reads the file again, to check that it is the same, and once more up to its first new row");
        let begun = Instant::now();
        let scanned = self.scan()?;
        let (seconds, peak) = (begun.elapsed().as_secs_f64(), mib(scanned.peak));
        println!("scan: {seconds:.1} s, {:.0} rows/s, peak RSS {peak}", *rows as f64 / seconds);
        let size = size_of(&imports.db())?;
        println!(
            "database: {}, {:.2} of the data ({}), {:.2} of the file",
            mib(size),
            size as f64 / scanned.data as f64,
            mib(scanned.data),
            size as f64 / file_bytes as f64
        );
        check(scanned.rows == *rows, &format!("the database has {} rows", scanned.rows))?;
        let verified = Command::new(&self.program).arg("verify").arg("--db").arg(imports.db()).output()?;
        check(verified.status.success(), &format!("verify: {}", String::from_utf8_lossy(&verified.stdout)))
    }

    /// Reads all rows back, and compares each with the row that its key is of.
    fn scan(&self) -> Result<Scanned> {
        let mut command = Command::new(&self.program);
        command.args(["scan", "--json", "--keyspace", "rows", "--db"]).arg(self.work.join("db"));
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let peak = Peak::of(child.id());
        let mut lines = BufReader::with_capacity(1 << 20, child.stdout.take().ok_or("no pipe")?);
        let (mut scanned, mut line, mut before) = (Scanned { rows: 0, data: 0, peak: 0 }, String::new(), String::new());
        while lines.read_line(&mut line)? > 0 {
            let found = line.trim_end_matches('\n');
            let key = found.strip_prefix("{\"key\":\"").and_then(|rest| rest.get(..16)).unwrap_or_default();
            let row = self.generator.row_of(key).filter(|row| *row < self.arguments.rows);
            let row = row.ok_or_else(|| format!("no row has this key: {found}"))?;
            check(before.as_str() < key, &format!("the key {key} is not behind {before}"))?;
            let (expected, bytes) = self.generator.scanned(row);
            check(found == expected, &format!("row {} is {found} and not {expected}", row + 1))?;
            scanned.rows += 1;
            scanned.data += bytes;
            before.clear();
            before.push_str(key);
            line.clear();
        }
        scanned.peak = peak.bytes()?;
        check(child.wait()?.success(), "the scan failed")?;
        Ok(scanned)
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
