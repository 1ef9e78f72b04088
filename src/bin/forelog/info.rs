//! `info`: what a database holds, in a few lines.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::{Error, ErrorKind, ReadOnly, Recovery, Result};
use serde_json::{Value, json};

use crate::output::{Done, grouped, print, print_json, size};
use crate::reading;

/// Print what a database holds: its keyspaces, and how far its log and its tables go
///
/// Nothing is changed, and no right to write is needed; a program may have the database open. What is said on stderr is as
/// with scan. Of a keyspace that cannot be read in full, it prints what lies before the damage, and the exit code is 1.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a keyspace holds.
struct Held {
    name: String,
    entries: u64,
    bytes: u64,
    /// Why there may be more.
    damage: Option<Error>,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let database = reading::read(&arguments.db)?;
    let names = database.keyspace_names()?.into_iter();
    let held = names.map(|name| held(&database, name)).collect::<Result<Vec<_>>>()?;
    reading::note_state(&database);
    if arguments.json {
        print_json(as_json(&database, &held))?;
    } else {
        print(as_text(&database, &held))?;
    }
    let is_whole = held.iter().all(|one| one.damage.is_none());
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn held(database: &ReadOnly, name: String) -> Result<Held> {
    let mut all = database.iter(&name)?;
    let mut held = Held { name, entries: 0, bytes: 0, damage: None };
    while let Some(entry) = all.next_ref() {
        match entry {
            Ok((key, value)) => {
                held.entries += 1;
                held.bytes += (key.len() + value.len()) as u64;
            }
            Err(error) if error.kind() == ErrorKind::Damaged => {
                held.damage = Some(error);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

fn state(database: &ReadOnly) -> &'static str {
    match database.recovery() {
        _ if database.has_writer() => "open in a program",
        Recovery { crashed: Some(_), .. } => "not closed",
        _ => "closed",
    }
}

fn as_text(database: &ReadOnly, held: &[Held]) -> String {
    let found = database.recovery();
    let mut text = format!("{}, up to LSN {}", state(database), database.lsn());
    text.push_str(&format!("\nproven durable: up to LSN {}", found.proven_durable));
    text.push_str(&format!("\nin tables: up to LSN {}", found.tables_up_to));
    let (segments, records) = (grouped(found.segments), grouped(found.records));
    text.push_str(&format!("\nin the log above them: {records} commits in {segments} segments"));
    for Held { name, entries, bytes, damage } in held {
        text.push_str(&format!("\nkeyspace '{name}': {} entries, {}", grouped(*entries), size(*bytes)));
        if let Some(error) = damage {
            text.push_str(&format!(", then damage: {error}"));
        }
    }
    text
}

fn as_json(database: &ReadOnly, held: &[Held]) -> Value {
    let found = database.recovery();
    let keyspaces = held.iter().map(|Held { name, entries, bytes, damage }| {
        let damage = damage.as_ref().map(ToString::to_string);
        json!({ "name": name, "entries": entries, "bytes": bytes, "damage": damage })
    });
    json!({
        "state": state(database),
        "lsn": database.lsn().get(),
        "durable_lsn": found.proven_durable.get(),
        "tables_up_to": found.tables_up_to.get(),
        "segments": found.segments,
        "records": found.records,
        "lock": found.lock.to_string(),
        "writer": database.has_writer(),
        "keyspaces": keyspaces.collect::<Vec<_>>(),
    })
}
