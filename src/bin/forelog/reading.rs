//! What `scan`, `get` and `info` share: reading a database that may be open in a program, or on a medium that nobody may
//! write to.

use std::path::{Path, PathBuf};

use clap::Args;
use forelog::{Error, ErrorKind, LockHeld, ReadOnly, ReadOnlyOptions, Recovery};
use serde_json::{Value, json};

use crate::output::{Failure, note};

/// A keyspace of a database.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The database
    #[arg(long, value_name = "DIR")]
    pub(crate) db: PathBuf,
    /// The keyspace
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: String,
}

/// Reads it, also beside a program that has it open.
pub(crate) fn read(db: &Path) -> Result<ReadOnly, Failure> {
    Ok(ReadOnlyOptions::new().beside_a_writer(true).open(db)?)
}

/// Says on stderr what is to be known about the state that is shown, unless it is that of a database at rest.
pub(crate) fn note_state(database: &ReadOnly) {
    if let Some(state) = state_of(database.recovery()) {
        note(state);
    }
}

fn state_of(found: &Recovery) -> Option<String> {
    let Recovery { recovered_to: lsn, proven_durable: durable, lock, crashed, .. } = found;
    if *lock == LockHeld::Beside {
        return Some(if durable < lsn {
            format!("open in a program: shown up to LSN {lsn}, of which a power loss may take what is above {durable}")
        } else {
            format!("open in a program: shown up to LSN {lsn}")
        });
    }
    let crashed = crashed.map(|_| format!("not closed: shown as the next open will keep it, up to LSN {lsn}"));
    let unlocked = matches!(lock, LockHeld::Not { .. }).then(|| format!("{lock}; shown up to LSN {lsn}"));
    let both: Vec<String> = crashed.into_iter().chain(unlocked).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// The error for a keyspace, with the existing ones if there is none of that name.
pub(crate) fn explain(database: &ReadOnly, name: &str, error: Error) -> Failure {
    match (error.kind(), database.keyspace_names()) {
        (ErrorKind::NoSuchKeyspace, Ok(there)) => {
            Failure::told(format!("there is no keyspace '{name}'; there are: {}", there.join(", ")))
        }
        _ => error.into(),
    }
}

/// Bytes as a JSON string, or as `{"hex":...}` if they are not UTF-8.
pub(crate) fn json_text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

/// A value as JSON: an object's own text, or as [`json_text`].
pub(crate) fn json_value(bytes: &[u8]) -> String {
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
