//! `scan`: the keys and values of a keyspace, in key order, as of one snapshot.

use std::ops::Bound;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::unstable::inspect::ReadOnly;
use forelog::{Engine, Error, ErrorKind, LockHeld};
use serde_json::{Value, json};

use crate::output::{Done, Failure, Lines, escaped, json_without_controls, note};

/// Print the keys and values of a keyspace, in key order
///
/// One line each: the key, a tab, the value; tabs, line breaks, backslashes, control characters and bytes that are
/// not UTF-8 are escaped.
///
/// Nothing is changed, and no right to write is needed. A database that is open elsewhere is refused. One that was not
/// closed is shown as the next open will keep it, and up to which LSN that is goes to stderr; so it does if the
/// database could not be locked against writers.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// The keyspace
    #[arg(long, value_name = "NAME")]
    keyspace: String,
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
    let database = Engine::read_only(&arguments.db)?;
    let from = arguments.from.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(key.as_bytes()));
    let to = arguments.to.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
    let entries = match &arguments.prefix {
        Some(prefix) => database.prefix(&arguments.keyspace, prefix),
        None => database.range(&arguments.keyspace, (from, to)),
    };
    let entries = entries.map_err(|error| explain(&database, &arguments.keyspace, error))?;
    if let Some(state) = state_of(&database) {
        note(state);
    }
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

/// The error for a keyspace, with the existing ones if there is none of that name.
fn explain(database: &ReadOnly, name: &str, error: Error) -> Failure {
    match (error.kind(), database.keyspace_names()) {
        (ErrorKind::NoSuchKeyspace, Ok(there)) => {
            Failure::told(format!("there is no keyspace '{name}'; there are: {}", there.join(", ")))
        }
        _ => error.into(),
    }
}

/// What is to be known about the state that is shown, unless it is that of a database at rest.
fn state_of(database: &ReadOnly) -> Option<String> {
    let (lsn, lock) = (database.lsn(), &database.recovery().lock);
    let crashed = database.recovery().crashed.is_some();
    let crashed = crashed.then(|| format!("not closed: shown as the next open will keep it, up to LSN {lsn}"));
    let unlocked = matches!(lock, LockHeld::Not { .. }).then(|| format!("{lock}; shown up to LSN {lsn}"));
    let both: Vec<String> = crashed.into_iter().chain(unlocked).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Bytes as a JSON string, or as `{"hex":...}` if they are not UTF-8.
pub(crate) fn json_text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

/// A value as JSON: an object's own text, or as [`json_text`].
fn json_value(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        // The text itself, not its parsed form: so numbers keep every digit. A line break in it can only stand between
        // two tokens, where a space means the same.
        Ok(text) if matches!(serde_json::from_str(text), Ok(Value::Object(_))) => {
            text.trim().replace(['\n', '\r'], " ")
        }
        _ => json_text(bytes).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_embedded_with_every_digit_and_on_one_line() {
        assert_eq!(json_value(b"{\"b\": 1.00,\n\"a\": \"\\n\"}"), r#"{"b": 1.00, "a": "\n"}"#);
    }

    #[test]
    fn anything_else_is_a_string_or_hex() {
        assert_eq!(json_value(b"[1]"), r#""[1]""#);
        assert_eq!(json_value(b"{\"a\""), r#""{\"a\"""#);
        assert_eq!(json_value(b"\xff\x00"), r#"{"hex":"ff00"}"#);
    }
}
