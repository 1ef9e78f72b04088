//! `outcome`: what became of a commit.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::Token;
use serde_json::json;

use crate::output::{Done, print, print_json};
use crate::reading;

/// Print what became of the commit that a token names
///
/// One word: durable, lost, pending, indeterminate, foreign (of another database), invalid, or pruned. After a crash pending is what the next open will keep; while a
/// program has the database open it is what is not durable yet.
///
/// Nothing is changed, and no right to write is needed. What is said on stderr is as with scan.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// The text of a receipt's token
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let token: Token = arguments.token.trim().parse()?;
    let database = reading::read(&arguments.db)?;
    reading::note_state(&database);
    let outcome = database.outcome(&token).to_string();
    if arguments.json {
        print_json(json!({ "token": token.to_string(), "lsn": token.lsn.get(), "outcome": outcome }))?;
    } else {
        print(outcome)?;
    }
    Ok(ExitCode::SUCCESS)
}
