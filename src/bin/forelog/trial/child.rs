//! The child of the kill test: commits one transaction after another, and reports each acknowledgement, until it is
//! killed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::{CommitMode, Engine};

use super::kill::SUBJECTS;
use crate::output::{Done, Failure};

/// The keyspace with one entry for each commit.
pub(super) const ROWS: &str = "rows";
/// The keyspace with the number of the last commit, written by every transaction.
pub(super) const LAST: &str = "last";
/// The one key in it.
pub(super) const LAST_KEY: &[u8] = b"last";
/// The child reports the token of every commit whose number is a multiple of this.
const TOKEN_EVERY: u64 = 16;

/// Commit until killed (part of `trial`)
#[derive(Debug, Args)]
pub(crate) struct ChildArguments {
    db: PathBuf,
    mode: String,
}

/// Key and value of commit `number`. The parent computes the same.
pub(super) fn row(number: u64) -> ([u8; 8], Vec<u8>) {
    (number.to_be_bytes(), format!("{:>100}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes())
}

pub(crate) fn run_child(arguments: &ChildArguments) -> Done {
    let subject = SUBJECTS.iter().find(|subject| subject.argument == arguments.mode);
    let subject = subject.ok_or_else(|| Failure::told(format!("no mode is called '{}'", arguments.mode)))?;
    write_for_ever(&Engine::open(&arguments.db)?, subject.mode)?;
    Ok(ExitCode::SUCCESS)
}

fn write_for_ever(engine: &Engine, mode: CommitMode) -> Result<(), Failure> {
    let (rows, last) = (engine.create_keyspace(ROWS)?, engine.create_keyspace(LAST)?);
    let mut pending = VecDeque::new();
    for number in 0.. {
        let (key, value) = row(number);
        let mut transaction = engine.begin()?;
        transaction.put(&rows, key, &value)?;
        transaction.put(&last, LAST_KEY, key)?;
        let receipt = transaction.commit_with(mode)?;
        // Reported only now: a line that the parent reads is a promise that this process was given.
        say(format_args!("acked {}", number + 1))?;
        if number.is_multiple_of(TOKEN_EVERY) {
            say(format_args!("token {number} {}", receipt.token()))?;
        }
        pending.push_back((number, receipt));
        let mut durable = None;
        while let Some((number, receipt)) = pending.front()
            && receipt.is_durable()
        {
            durable = Some(number + 1);
            pending.pop_front();
        }
        if let Some(count) = durable {
            say(format_args!("durable {count}"))?;
        }
    }
    Ok(())
}

/// Writes one line in one write to the pipe, past every buffer of this process.
fn say(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io("write to the parent", &error),
    })
}
