//! `salvage`: saves everything that can be proven whole of a damaged database into a new one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use forelog::salvage::{Completeness, LostKeys, Salvaged};
use forelog::{Engine, LockHeld};
use serde_json::json;

use crate::output::{Done, grouped, print, print_json};
use crate::reading::json_text;

/// Save what can be proven whole of a damaged database into a new one, and list what is missing
///
/// Of the tables it saves the newest version of each key, of the log every commit behind them. Where an older version of a
/// key may be saved than there was, the keys are listed. The damaged database is not changed. Exit code 0: nothing is
/// missing. 1: commits or keys are missing, a file is not what it should be, or nothing could be saved.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The damaged database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// The new database: a directory that is empty or does not exist
    #[arg(long, value_name = "DIR2")]
    to: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let salvaged = Engine::salvage(&arguments.db, &arguments.to)?;
    if arguments.json {
        print_json(as_json(&salvaged))?;
    } else {
        print(as_text(&salvaged))?;
    }
    Ok(ExitCode::from(u8::from(!salvaged.is_complete())))
}

fn as_text(salvaged: &Salvaged) -> String {
    let of_tables = match salvaged.entries {
        0 => String::new(),
        entries => format!("{} entries of the tables and ", grouped(entries)),
    };
    let commits = grouped(salvaged.commits);
    let mut text = format!("saved {of_tables}{commits} commits, the last at LSN {}: ", salvaged.last);
    text.push_str(match salvaged.completeness {
        Completeness::Prefix => "every commit up to there",
        Completeness::Holes => "commits between them are missing",
        _ => {
            "no hole was found. Without HISTORY, MANIFEST or a list of keyspaces it cannot be proven that there is none"
        }
    });
    for lost in &salvaged.lost {
        let to = lost.to.map_or("an unknown end".to_owned(), |to| to.to_string());
        text.push_str(&format!("\nlost: LSN {} to {to}, {}: {}", lost.from, name(&lost.file), lost.cause));
    }
    for lost in &salvaged.lost_keys {
        text.push_str(&format!("\nlost: {}, written from LSN {} to {}", keys(lost), lost.from, lost.to));
        text.push_str(&format!(", {}: {}. What is here of these keys may be older", name(&lost.file), lost.cause));
    }
    for bad in &salvaged.bad_files {
        text.push_str(&format!("\nbad file: {}: {}", name(&bad.file), bad.cause));
    }
    if salvaged.lock != LockHeld::Both {
        text.push_str(&format!("\n{}", salvaged.lock));
    }
    for unnamed in &salvaged.renamed {
        text.push_str(&format!("\nname lost: keyspace number {} is called '{}' now", unnamed.id, unnamed.name));
    }
    text
}

/// A range of keys in words.
fn keys(lost: &LostKeys) -> String {
    let Some(keyspace) = &lost.keyspace else { return "what no list tells of keyspaces made or dropped".to_owned() };
    let mut text = format!("keys of '{keyspace}'");
    if !lost.first.is_empty() {
        text.push_str(&format!(" from {}", json_text(&lost.first)));
    }
    if let Some(end) = &lost.end {
        text.push_str(&format!(" to before {}", json_text(end)));
    }
    text
}

fn as_json(salvaged: &Salvaged) -> serde_json::Value {
    let lost = |lost: &forelog::salvage::Gap| {
        let to = lost.to.map(forelog::Lsn::get);
        json!({ "file": name(&lost.file), "from": lost.from.get(), "to": to, "cause": lost.cause.to_string() })
    };
    let lost_keys = |lost: &LostKeys| {
        json!({
            "keyspace": lost.keyspace,
            "first": json_text(&lost.first),
            "end": lost.end.as_deref().map(json_text),
            "from": lost.from.get(),
            "to": lost.to.get(),
            "file": name(&lost.file),
            "cause": lost.cause.to_string(),
        })
    };
    let bad = |bad: &forelog::salvage::BadFile| json!({ "file": name(&bad.file), "cause": bad.cause.to_string() });
    let unnamed = |unnamed: &forelog::salvage::RenamedKeyspace| json!({ "id": unnamed.id, "name": unnamed.name });
    json!({
        "entries": salvaged.entries,
        "commits": salvaged.commits,
        "last_lsn": salvaged.last.get(),
        "order": format!("{:?}", salvaged.completeness).to_lowercase(),
        "complete": salvaged.is_complete(),
        "lock": salvaged.lock.to_string(),
        "lost": salvaged.lost.iter().map(lost).collect::<Vec<_>>(),
        "lost_keys": salvaged.lost_keys.iter().map(lost_keys).collect::<Vec<_>>(),
        "bad_files": salvaged.bad_files.iter().map(bad).collect::<Vec<_>>(),
        "unnamed": salvaged.renamed.iter().map(unnamed).collect::<Vec<_>>(),
    })
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}
