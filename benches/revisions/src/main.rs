//! Two revisions of the engine in one process, interleaved: see README.md.

#[path = "../../common/mod.rs"]
#[expect(dead_code, reason = "the raw limit is for the benchmarks that compare with it")]
mod common;
#[path = "../../common/place.rs"]
#[expect(dead_code, reason = "the command line is another one")]
mod place;
mod report;
mod revision;
mod slices;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use place::Place;
use report::{Block, HEAD, line};
use revision::{Open, Result, Tables};
use slices::{OPENS, ROWS, Row, Side, Slice, Task};

/// Measures two revisions of forelog side by side.
#[derive(Parser, Debug)]
#[command(name = "forelog-revisions")]
struct Arguments {
    /// Where to measure: a directory on the disk in question; made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Only the rows whose names contain this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Blocks of each row; in each block every side is measured twice
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u32).range(1..=1000))]
    blocks: u32,
    /// When the new revision makes checkpoints
    #[arg(long, value_enum, default_value_t = Tables::Automatic)]
    tables: Tables,
    /// Seconds of one slice
    #[arg(long, default_value_t = 0.25, value_parser = seconds)]
    seconds: f64,
    /// Shows that everything runs, in some seconds: few keys, two blocks of short slices. Its figures mean nothing
    #[arg(long, conflicts_with_all = ["blocks", "seconds"])]
    quick: bool,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.001 to 60".to_owned()),
    }
}

/// The sides: the new revision, the old one, and the old one again, for what two runs of one revision differ by.
const SIDES: [(&str, Open); 3] =
    [("new", revision::new::open), ("old", revision::old::open), ("again", revision::old::open)];

/// The order of the sides in the blocks, one after the other; each is then gone back, so that what changes evenly over a
/// block falls on all alike.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]];

/// How much is measured.
struct Size {
    keys: u64,
    transactions: u64,
    blocks: usize,
    slice: Duration,
}

fn size(arguments: &Arguments) -> Size {
    if arguments.quick {
        return Size { keys: 20_000, transactions: 20_000, blocks: 2, slice: Duration::from_millis(5) };
    }
    let (blocks, slice) = (arguments.blocks as usize, Duration::from_secs_f64(arguments.seconds));
    Size { keys: common::KEYS, transactions: 1_000_000, blocks, slice }
}

/// One block: every side twice.
fn block(sides: &[Side<'_>], task: Task, order: [usize; 3], slice: Duration) -> Result<Block> {
    let mut found = [Slice::default(), Slice::default(), Slice::default()];
    for side in order.into_iter().chain(order.into_iter().rev()) {
        found[side].add(sides[side].slice(task, slice)?);
    }
    let [new, old, again] = found;
    Ok(Block { new, old, again })
}

fn measure(row: &Row, sides: &[Side<'_>], size: &Size) -> Result<String> {
    // What is done for the first time is not measured.
    sides.iter().try_for_each(|side| side.slice(row.task, size.slice / 4).map(drop))?;
    let mut blocks = Vec::with_capacity(size.blocks);
    for number in 0..size.blocks {
        blocks.push(block(sides, row.task, ORDERS[number % ORDERS.len()], size.slice)?);
    }
    Ok(line(row.name, &mut blocks))
}

/// Whether every row was measured.
fn run(arguments: &Arguments) -> Result<bool> {
    let is_wanted = |row: &&Row| arguments.only.as_ref().is_none_or(|text| row.name.contains(text.as_str()));
    let rows: Vec<&Row> = ROWS.iter().filter(is_wanted).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("no row has that in its name; there are: {}", names.join("; ")));
    }
    let (place, size) = (Place::inside(&arguments.dir)?, size(arguments));
    let opens = rows.iter().any(|row| row.task == Task::Open);
    let dirs = SIDES.map(|(name, _)| ["", "-killed", "-copy"].map(|of| place.dir.join(format!("{name}{of}"))));
    let mut sides = Vec::with_capacity(SIDES.len());
    for (side, dirs) in SIDES.iter().zip(&dirs) {
        eprintln!("filling {}", side.0);
        sides.push(Side::new(*side, dirs.each_ref().map(PathBuf::as_path), size.keys, size.transactions, opens, arguments.tables)?);
    }
    head(arguments, &size, place.is_memory);
    let mut is_complete = true;
    for row in rows {
        match measure(row, &sides, &size) {
            Ok(line) => println!("{line}"),
            Err(why) => {
                is_complete = false;
                println!("| {} | failed | | | | | | | | | | |", row.name);
                eprintln!("{}: left out: {why}", row.name);
            }
        }
    }
    Ok(is_complete)
}

fn head(arguments: &Arguments, size: &Size, is_memory: bool) {
    let revision = |variable| std::env::var(variable).unwrap_or_else(|_| "unknown".to_owned());
    println!("new: {}; old: {}; tables: {:?}.", revision("FORELOG_NEW"), revision("FORELOG_OLD"), arguments.tables);
    println!(
        "{} blocks, in each every side twice for {} ms, there and back; {} keys, {} transactions in the log that is opened. \
         Ratios are taken within blocks: medians (quartiles). Times are of all slices: of every Sync commit, of each {}th \
         other commit and each 61st read, of whole scans and whole opens.",
        size.blocks,
        size.slice.as_millis(),
        size.keys,
        size.transactions,
        common::stats::STRIDE
    );
    if arguments.quick {
        println!("\n**--quick: the figures mean nothing.**");
    }
    if is_memory {
        println!("\n**Measured in memory: what is said of Sync is meaningless.**");
    }
    println!("\n{HEAD}");
}

/// What a process does that is asked to open a database of one side and to print the nanoseconds.
fn open_for_another_process(arguments: &[String]) -> Result<bool> {
    let [side, tables, dir, transactions] = arguments else {
        return Err(format!("{OPENS} takes a side, a kind of tables, a directory and a number of transactions"));
    };
    let known = SIDES.iter().find(|(name, _)| name == side);
    let (_, open) = known.ok_or_else(|| format!("there is no side {side}"))?;
    let tables = <Tables as clap::ValueEnum>::from_str(tables, false)?;
    let transactions = transactions.parse().map_err(|error| format!("{transactions}: {error}"))?;
    println!("{}", slices::open_once(*open, tables, Path::new(dir), transactions)?.as_nanos());
    Ok(true)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let done = match arguments.get(1) {
        Some(first) if first == OPENS => open_for_another_process(&arguments[2..]),
        _ => run(&Arguments::parse()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(told) => {
            eprintln!("forelog-revisions: {told}");
            ExitCode::from(2)
        }
    }
}
