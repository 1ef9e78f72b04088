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
mod steady;
#[cfg(test)]
mod tests;
mod usage;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::output;
use cli::Arguments;
use report::{Kind, ScaleReport};

/// Measures loads, opens, reads, scans, overwrites and deletions of data that outgrow memory, in one run.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.child {
        Some(request) => output::child_ended(child::main(request)),
        None => output::ended("scale", measure(&arguments)),
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let report: ScaleReport = arguments.output.report(|save| runner::run(arguments, save))?;
    // Opens have no course over time.
    let plots = if report.kind == Kind::Opens { Vec::new() } else { report::plots::all(&report) };
    arguments.output.write(&report, &report::markdown::render(&report), &plots)
}
