//! `backup` and `restore`: copies of a database that are databases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::{BackupOptions, BackupProgress, BackupReport, Engine, RestorePoint, Token};
use serde_json::json;

use crate::memory::Memory;
use crate::output::{Done, Failure, grouped, print, print_json, progress_bar, size};

/// Copy a database that no program has open into a new one, checking all of it
///
/// It opens the database, so it is refused while a program has it open: that program makes backups itself, by `Engine::backup`,
/// while it goes on. What is interrupted or fails is gone on with by the same command. Exit code 0: the backup is whole, and
/// durable. 1: it is not.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// The backup: a directory that is empty or does not exist, or an unfinished backup
    #[arg(long, value_name = "DIR2")]
    to: PathBuf,
    /// Copy only what this backup has not, and share the files that it has, by hard links
    #[arg(long, value_name = "EARLIER")]
    against: Option<PathBuf>,
    #[command(flatten)]
    memory: Memory,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Copy a backup to where the database is to be, checking all of it
///
/// With a token it is brought up to that commit: a restore to a moment. The log behind the backup is taken from its database,
/// as far as that retains it. Neither of the two is changed. Nothing is replaced: where something is, it is refused. Exit code 0: the database is whole, and
/// durable. 1: it is not.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The backup
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// The new database: a directory that is empty or does not exist, or an unfinished restore
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Bring it up to this commit, by its token
    #[arg(long, value_name = "TOKEN")]
    at: Option<Token>,
    /// The database that the backup is of, which has the log from the backup on; no program may have it open
    #[arg(long, value_name = "DATABASE", requires = "at")]
    log: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    // The backup makes the one checkpoint that it needs.
    let engine = arguments.memory.open(&arguments.db)?;
    let mut options = options();
    if let Some(earlier) = &arguments.against {
        options = options.against(earlier);
    }
    let made = engine.backup_with(&arguments.to, options)?;
    engine.close()?;
    told("backed up", &made, arguments.json)
}

pub(crate) fn run_restore(arguments: &RestoreArguments) -> Done {
    let RestoreArguments { from, to, at, log, .. } = arguments;
    let made = match at {
        None => Engine::restore_with(from, to, options())?,
        Some(token) => {
            let point = RestorePoint::new(*token);
            let point = log.iter().fold(point, RestorePoint::with_log_of);
            Engine::restore_to_with(from, to, &point, options())?
        }
    };
    told("restored", &made, arguments.json)
}

/// With a bar that shows how far it is.
fn options() -> BackupOptions {
    let bar = progress_bar(0, "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    BackupOptions::new().on_progress(move |BackupProgress { bytes, total_bytes, .. }| {
        bar.set_length(total_bytes);
        bar.set_position(bytes);
        if bytes == total_bytes {
            bar.finish_and_clear();
        }
    })
}

fn told(what: &str, made: &BackupReport, json: bool) -> Result<ExitCode, Failure> {
    let BackupReport { lsn, files, bytes_copied, bytes_reused, .. } = *made;
    if json {
        let lsn = lsn.get();
        print_json(json!({ "lsn": lsn, "files": files, "bytes_copied": bytes_copied, "bytes_reused": bytes_reused }))?;
    } else {
        let (files, copied, reused) = (grouped(files), size(bytes_copied), size(bytes_reused));
        print(format!("{what} up to LSN {lsn}: {files} files, {copied} copied, {reused} there already"))?;
    }
    Ok(ExitCode::SUCCESS)
}
