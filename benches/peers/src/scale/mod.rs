//! Data that outgrow memory: each engine in processes of its own, within a control group that limits its memory.

mod cgroup;
mod child;
mod cli;
mod data;
mod event;
mod histogram;
mod meter;
mod report;
mod runner;
mod shares;
#[cfg(test)]
mod tests;
mod usage;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cli::Arguments;
use report::{Kind, ScaleReport};

/// Measures loads, opens, reads, scans, overwrites and deletions of data that outgrow memory, in one run.
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
    match report(&arguments).and_then(|report| write(&arguments, &report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("scale: {told}");
            ExitCode::from(2)
        }
    }
}

/// Measures, or reads what was measured.
fn report(arguments: &Arguments) -> Result<ScaleReport, String> {
    if let Some(path) = &arguments.from {
        return crate::read_json(path);
    }
    for path in [&arguments.json, &arguments.markdown].into_iter().flatten() {
        crate::writable(path)?;
    }
    runner::run(arguments, |report| arguments.json.as_deref().map_or(Ok(()), |path| crate::write_json(path, report)))
}

fn write(arguments: &Arguments, report: &ScaleReport) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let markdown = report::markdown::render(report);
    match &arguments.markdown {
        Some(path) => std::fs::write(path, markdown).map_err(|error| failed(path, error))?,
        None => println!("{markdown}"),
    }
    if let Some(path) = &arguments.json {
        crate::write_json(path, report)?;
    }
    if let Some(dir) = arguments.svg.as_ref().filter(|_| report.kind != Kind::Opens) {
        std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        for (name, plot) in report::plots::all(report) {
            let path = dir.join(format!("{name}.svg"));
            std::fs::write(&path, plot).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}
