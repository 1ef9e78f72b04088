//! `scan`: the keys and values of a keyspace, in key order, as of one snapshot.

use std::ops::Bound;
use std::process::ExitCode;

use clap::Args;

use crate::output::{Done, Lines, escaped, json_without_controls};
use crate::reading::{self, Target, explain, json_text, json_value};

/// Print the keys and values of a keyspace, in key order
///
/// One line each: the key, a tab, the value; tabs, line breaks, backslashes, control characters and bytes that are
/// not UTF-8 are escaped.
///
/// Nothing is changed, and no right to write is needed. A database that a program has open is shown as it had written it,
/// one that was not closed as the next open will keep it; up to which LSN that is goes to stderr. So it does if the
/// database could not be locked against writers.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Only keys that begin with this
    #[arg(long, conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one JSON object a line: {"key":..., "value":...}
    ///
    /// A value that is a JSON object is embedded as it is, any other is a string; bytes that are not UTF-8 are
    /// {"hex":...}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let Target { db, keyspace } = &arguments.target;
    let database = reading::read(db)?;
    let from = arguments.from.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(key.as_bytes()));
    let to = arguments.to.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
    let entries = match &arguments.prefix {
        Some(prefix) => database.prefix(keyspace, prefix),
        None => database.range(keyspace, (from, to)),
    };
    let entries = entries.map_err(|error| explain(&database, keyspace, error))?;
    reading::note_state(&database);
    let mut lines = Lines::new();
    let limit = arguments.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    for entry in entries.take(limit) {
        let (key, value) = entry?;
        if arguments.json {
            let line = format!(r#"{{"key":{},"value":{}}}"#, json_text(&key), json_value(&value));
            lines.line(json_without_controls(&line))?;
        } else {
            lines.line(format_args!("{}\t{}", escaped(&key), escaped(&value)))?;
        }
    }
    lines.flush()?;
    Ok(ExitCode::SUCCESS)
}
