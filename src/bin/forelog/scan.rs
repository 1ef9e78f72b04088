//! `scan`: the keys and values of a keyspace, in key order, as of one snapshot.

use std::ops::Bound;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::{Engine, ErrorKind, Keyspace, Options};
use serde_json::{Value, json};

use crate::output::{Done, Failure, Lines, escaped};

/// Print the keys and values of a keyspace, in key order
///
/// One line each: the key, a tab, the value; tabs, line breaks, backslashes, control characters and bytes that are
/// not UTF-8 are escaped.
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
    let engine = Options::new().create(false).open(&arguments.db)?;
    let keyspace = find(&engine, &arguments.keyspace)?;
    let snapshot = engine.snapshot()?;
    let from = arguments.from.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(key.as_bytes()));
    let to = arguments.to.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
    let entries = match &arguments.prefix {
        Some(prefix) => snapshot.prefix(&keyspace, prefix.as_bytes())?,
        None => snapshot.range(&keyspace, (from, to))?,
    };
    let mut lines = Lines::new();
    let limit = arguments.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    for entry in entries.take(limit) {
        let (key, value) = entry?;
        if arguments.json {
            lines.line(format_args!(r#"{{"key":{},"value":{}}}"#, json_text(&key), json_value(&value)))?;
        } else {
            lines.line(format_args!("{}\t{}", escaped(&key), escaped(&value)))?;
        }
    }
    lines.flush()?;
    drop(snapshot);
    engine.close()?;
    Ok(ExitCode::SUCCESS)
}

/// The keyspace, or an error that lists the existing ones.
fn find(engine: &Engine, name: &str) -> Result<Keyspace, Failure> {
    match engine.open_keyspace(name) {
        Err(error) if error.kind() == ErrorKind::NoSuchKeyspace => {
            let there = engine.keyspace_names()?.join(", ");
            Err(Failure::told(format!("there is no keyspace '{name}'; there are: {there}")))
        }
        found => Ok(found?),
    }
}

/// Bytes as a JSON string, or as `{"hex":...}` if they are not UTF-8.
fn json_text(bytes: &[u8]) -> Value {
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
