//! `dump`: prints the frames of the log, one a line, with the reader that recovery uses.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use forelog::unstable::inspect::{self, DumpedFrame, DumpedMark};
use serde_json::json;

use crate::output::{Done, Failure, Lines, note};
use crate::table_file::{self, Target};

/// Print the log's frames, one a line, changing nothing
///
/// Each line: segment, first position..LSN, kind, length of the payload, the durable LSN that the frame carries, and
/// the state of its bytes. After a frame that is not valid, the dump goes on with the next valid one. The marks come
/// last: they prove how far the log was durable when it came to rest.
///
/// It takes no lock, so it never keeps a program from its database, and shows one that is open as it is at this
/// moment: then frames that are being written may be shown as not valid. Whether a database is damaged, `verify` says.
///
/// What checkpoints have moved to the tables is not in the log any more: a note on stderr says so.
///
/// With --file: what is in one MANIFEST, file of keyspaces or run, one thing a line, also behind damage.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    match arguments.target.choose() {
        Ok(db) => dump(db, arguments),
        Err(file) => table_file::dump(file, arguments.json),
    }
}

fn dump(db: &Path, arguments: &Arguments) -> Done {
    let mut lines = Lines::new();
    let shown: Result<(), Failure> =
        inspect::dump(db, |frame| if arguments.json { lines.line(as_json(frame)) } else { lines.line(as_text(frame)) });
    // The frames before an unreadable one are the context of the error.
    lines.flush()?;
    shown?;
    for mark in inspect::marks(db)? {
        if arguments.json { lines.line(mark_as_json(&mark))? } else { lines.line(mark_as_text(&mark))? }
    }
    lines.flush()?;
    if inspect::is_unclosed(db)? {
        note("not closed: if a program has it open, this is the log as it was at this moment");
    }
    if let Some(files) = table_files(db) {
        note(format!("the log goes on in the tables: {files} files in {}; see dump --file", db.join(TABLES).display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory of the tables.
const TABLES: &str = "table";

/// How many files there are with what checkpoints have moved out of the log; `None` if they have moved nothing.
fn table_files(db: &Path) -> Option<usize> {
    let tables = db.join(TABLES);
    tables.join("MANIFEST").exists().then(|| std::fs::read_dir(&tables).map_or(0, Iterator::count))
}

fn as_text(frame: &DumpedFrame) -> String {
    let range = format!("{}..{}", frame.position, frame.lsn);
    let kind = if frame.kind.is_empty() { "-" } else { &frame.kind };
    let durable = frame.durable.to_string();
    let state = words(&format!("{:?}", frame.state));
    format!("{}  {range:<24}  {kind:<6}  {:>8} B  durable {durable:<12}  {state}", frame.segment, frame.length)
}

fn as_json(frame: &DumpedFrame) -> serde_json::Value {
    json!({
        "segment": frame.segment,
        "incarnation": frame.incarnation.number,
        "position": frame.position.get(),
        "lsn": frame.lsn.get(),
        "kind": frame.kind,
        "length": frame.length,
        "durable": frame.durable.get(),
        "state": words(&format!("{:?}", frame.state)),
    })
}

fn mark_as_text(mark: &DumpedMark) -> String {
    let DumpedMark { slot, incarnation, count, durable, .. } = mark;
    format!("MARK, slot {slot}: durable {durable} in incarnation {}, mark {count}", incarnation.number)
}

fn mark_as_json(mark: &DumpedMark) -> serde_json::Value {
    json!({
        "mark": mark.slot,
        "incarnation": mark.incarnation.number,
        "count": mark.count,
        "durable": mark.durable.get(),
    })
}

/// A name in the code as separate words: `PayloadTorn` is `payload torn`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 2);
    for char in name.chars() {
        if char.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(char.to_lowercase());
    }
    words
}
