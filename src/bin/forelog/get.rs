//! `get`: the value of one key.

use std::process::ExitCode;

use clap::Args;

use crate::output::{Done, Failure, Lines, escaped, json_without_controls};
use crate::reading::{self, Target, explain, json_text, json_value};

/// Print the value of a key
///
/// Escaped, and what is said on stderr, as with scan. If there is no such key, the exit code is 1.
///
/// Nothing is changed, and no right to write is needed; a program may have the database open.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// Print one JSON object, as scan does
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let (Target { db, keyspace }, key) = (&arguments.target, &arguments.key);
    let database = reading::read(db)?;
    let value = database.get(keyspace, key).map_err(|error| explain(&database, keyspace, error))?;
    let Some(value) = value else {
        return Err(Failure::told(format!("there is no key '{key}' in '{keyspace}', up to LSN {}", database.lsn())));
    };
    reading::note_state(&database);
    let mut lines = Lines::new();
    if arguments.json {
        let line = format!(r#"{{"key":{},"value":{}}}"#, json_text(key.as_bytes()), json_value(&value));
        lines.line(json_without_controls(&line))?;
    } else {
        lines.line(escaped(&value))?;
    }
    lines.flush()?;
    Ok(ExitCode::SUCCESS)
}
