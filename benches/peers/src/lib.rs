//! forelog beside its peers and the raw limit of the same disk: see README.md.

mod check;
mod child;
mod cli;
#[path = "../../common/mod.rs"]
mod common;
mod output;
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

use std::process::ExitCode;

use clap::Parser;

use cli::Arguments;
use report::Report;

/// Measures commits, reads and opens of data in memory, in one run.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(request) = &arguments.child {
        return output::child_ended(child::main(request));
    }
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    output::ended("forelog-peers", measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let report: Report = arguments.output.report(|save| runner::run(arguments, save))?;
    let lines = report::lines(&report);
    let plots: Vec<_> = lines.iter().map(|line| (line.id.clone(), report::svg::render(line))).collect();
    arguments.output.write(&report, &report::markdown::render(&report), &plots)
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
