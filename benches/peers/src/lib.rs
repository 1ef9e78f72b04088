//! forelog beside its peers and the raw limit of the same disk: see README.md.

mod check;
mod child;
mod cli;
#[path = "../../common/mod.rs"]
mod common;
mod peer;
mod peers;
mod place;
mod process;
mod report;
mod runner;
pub mod scale;
#[cfg(test)]
mod tests;
mod workload;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;

use cli::Arguments;
use report::Report;

/// Measures commits, reads and opens of data in memory, in one run.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(request) = &arguments.child {
        return match child::main(request) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    match report(&arguments).and_then(|report| write(&arguments, &report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("forelog-peers: {told}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    println!("workloads:");
    for workload in workload::WORKLOADS {
        println!("  {:<12} {}", workload.id, workload.title);
    }
    println!("peers:");
    for peer in peers::ALL {
        println!("  {:<12} {}", peer.name, peer.version().unwrap_or_else(|missing| missing.to_string()));
    }
}

/// Measures, or reads what was measured.
fn report(arguments: &Arguments) -> Result<Report, String> {
    if let Some(path) = &arguments.from {
        return read_json(path);
    }
    for path in [&arguments.json, &arguments.markdown].into_iter().flatten() {
        writable(path)?;
    }
    runner::run(arguments, |report| arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, report)))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no report of this program: {error}", path.display()))
}

fn write_json(path: &Path, report: &impl Serialize) -> Result<(), String> {
    let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    std::fs::write(path, json + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

/// Better to know before an hour of measuring than after it.
fn writable(path: &Path) -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| format!("{} cannot be written ({error}); name another file", path.display()))
}

fn write(arguments: &Arguments, report: &Report) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let markdown = report::markdown::render(report);
    match &arguments.markdown {
        Some(path) => std::fs::write(path, markdown).map_err(|error| failed(path, error))?,
        None => println!("{markdown}"),
    }
    if let Some(path) = &arguments.json {
        write_json(path, report)?;
    }
    if let Some(dir) = &arguments.svg {
        std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        for line in report::lines(report) {
            let path = dir.join(format!("{}.svg", line.id));
            std::fs::write(&path, report::svg::render(&line)).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}
