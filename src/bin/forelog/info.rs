//! `info`: what a database holds, in a few lines.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::{ReadOnly, Recovery, Result};
use serde_json::{Value, json};

use crate::output::{Done, grouped, print, print_json, size};
use crate::reading;

/// Print what a database holds: its keyspaces, and how far its log and its tables go
///
/// Nothing is changed, and no right to write is needed; a program may have the database open. What is said on stderr is as
/// with scan.
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
    Ok(ExitCode::SUCCESS)
}

fn held(database: &ReadOnly, name: String) -> Result<Held> {
    let (mut entries, mut bytes, mut all) = (0, 0, database.iter(&name)?);
    while let Some(entry) = all.next_ref() {
        let (key, value) = entry?;
        entries += 1;
        bytes += (key.len() + value.len()) as u64;
    }
    Ok(Held { name, entries, bytes })
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
    for Held { name, entries, bytes } in held {
        text.push_str(&format!("\nkeyspace '{name}': {} entries, {}", grouped(*entries), size(*bytes)));
    }
    text
}

fn as_json(database: &ReadOnly, held: &[Held]) -> Value {
    let found = database.recovery();
    let keyspaces =
        held.iter().map(|Held { name, entries, bytes }| json!({ "name": name, "entries": entries, "bytes": bytes }));
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
