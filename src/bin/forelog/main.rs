//! `forelog`: try and measure the commit modes on a disk, import, scan, get, info, outcome, dump, verify, salvage, backup, restore, compact.
//!
//! Exit codes: 0 done, 1 an error (one line on stderr), a broken promise or damage, 2 the command line is wrong, 3 a sound
//! database that would not open (`verify`), 4 could not be run (`trial`, `bench`), 130 ended by a signal.

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use signal_hook::consts::SIGXFSZ;

mod backup;
mod compact;
mod dump;
mod get;
mod import;
mod info;
mod memory;
mod outcome;
mod output;
mod reading;
mod salvage;
mod scan;
mod shell;
mod table_file;
mod trial;
mod verify;
mod workspace;

/// A write-ahead-log storage engine in which each transaction chooses how durable its commit is.
#[derive(Debug, Parser)]
#[command(name = "forelog", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Trial(trial::Arguments),
    #[command(hide = true)]
    TrialChild(trial::ChildArguments),
    Bench(trial::bench::Arguments),
    Import(import::Arguments),
    Scan(scan::Arguments),
    Get(get::Arguments),
    Info(info::Arguments),
    Outcome(outcome::Arguments),
    Dump(dump::Arguments),
    Verify(verify::Arguments),
    Salvage(salvage::Arguments),
    Backup(backup::Arguments),
    Restore(backup::RestoreArguments),
    Compact(compact::Arguments),
    Completions(shell::CompletionsArguments),
    Manual(shell::ManualArguments),
}

/// The command line, or the end of the process with what is wrong with it.
fn command_line() -> CommandLine {
    CommandLine::try_parse().unwrap_or_else(|error| {
        let is_safe = |typed: OsString| matches!(output::without_controls(&typed.to_string_lossy()), Cow::Borrowed(_));
        if std::env::args_os().all(is_safe) {
            error.exit();
        }
        // The error repeats what was typed. Without its colors, every control character in it is of that.
        output::complain(&output::without_controls(&error.render().to_string()));
        std::process::exit(error.exit_code())
    })
}

fn main() -> ExitCode {
    // A write beyond the length that a file may have (ulimit -f) is to fail, so that the command can say what to do. If
    // nothing handled its signal, that would end the process.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let done = match command_line().command {
        Command::Trial(arguments) => trial::run(&arguments),
        Command::TrialChild(arguments) => trial::run_child(&arguments),
        Command::Bench(arguments) => trial::bench::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Scan(arguments) => scan::run(&arguments),
        Command::Get(arguments) => get::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Outcome(arguments) => outcome::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Salvage(arguments) => salvage::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => backup::run_restore(&arguments),
        Command::Compact(arguments) => compact::run(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments, &CommandLine::command()),
        Command::Manual(arguments) => shell::manual(&arguments, &CommandLine::command()),
    };
    if workspace::is_interrupted() {
        return workspace::INTERRUPTED.into();
    }
    done.unwrap_or_else(|failure| failure.report().into())
}
