//! `compact`: space of deleted and overwritten data given back now.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::{CompactOptions, CompactProgress, CompactReport, Engine, ErrorKind};
use serde_json::json;

use crate::memory::Memory;
use crate::output::{Done, grouped, note_rot, print, print_json, progress_bar, size};
use crate::workspace::{is_interrupted, watch_signals};

/// Merge all tables of a database that no program has open, so that deleted and overwritten data give their space back
///
/// It reads and writes all data once. A program that has the database open does it itself, by `Engine::compact`. It may be
/// interrupted at any moment: the database is whole, and what was merged stays merged. Exit code 0: done. 1: it failed.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    #[command(flatten)]
    memory: Memory,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    // Its own checkpoint is the one that is needed, and nobody is there whom a pace would spare.
    let engine = arguments.memory.open(&arguments.db)?;
    watch_signals();
    let compacted = engine.compact_with(options(&engine));
    engine.close()?;
    note_rot(&engine);
    match compacted {
        Ok(report) => {
            told(&report, arguments.json)?;
            Ok(ExitCode::SUCCESS)
        }
        // By a signal.
        Err(error) if error.kind() == ErrorKind::Closed && is_interrupted() => Ok(ExitCode::FAILURE),
        Err(error) => Err(error.into()),
    }
}

/// With a bar that shows how far it is. A signal ends it behind the step under way, by a close.
fn options(engine: &Engine) -> CompactOptions {
    let bar = progress_bar(0, "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    let engine = engine.clone();
    CompactOptions::new().on_progress(move |CompactProgress { bytes, total_bytes, .. }| {
        bar.set_length(total_bytes);
        bar.set_position(bytes);
        if bytes == total_bytes {
            bar.finish_and_clear();
        }
        if is_interrupted() {
            // The close that follows returns what this one does.
            let _ = engine.close();
        }
    })
}

fn told(report: &CompactReport, json: bool) -> Result<(), crate::output::Failure> {
    let CompactReport { lsn, bytes_before, bytes_after, .. } = *report;
    if json {
        let lsn = lsn.get();
        print_json(json!({ "lsn": lsn, "bytes_before": bytes_before, "bytes_after": bytes_after }))
    } else {
        let (before, after) = (size(bytes_before), size(bytes_after));
        let bytes = grouped(bytes_after);
        print(format!("compacted up to LSN {lsn}: {before} before, {after} after ({bytes} bytes)"))
    }
}
