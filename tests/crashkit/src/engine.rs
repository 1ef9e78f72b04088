//! Short forms of what tests ask of an engine.

use std::ffi::OsString;
#[cfg(feature = "disk")]
use std::sync::Arc;
use std::time::Duration;

use forelog::log::{Log, LogOptions};
#[cfg(feature = "disk")]
use forelog::unstable::disk::Disk;
use forelog::{CommitMode, Engine, Error, ErrorKind, Keyspace, Options, Receipt, Result, Transaction, TryCommitError};

use crate::TempDir;

/// Where the database is on a disk in memory.
pub const DB: &str = "db";

/// Every commit mode.
pub const MODES: [CommitMode; 4] =
    [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(1))];

/// Where a test has its database: a directory, or a disk of its own.
pub trait Place {
    /// Opens the database there.
    fn open(&self, options: Options) -> Result<Engine>;
    /// The names of the files in the database's directory.
    fn names(&self) -> Vec<OsString>;
    /// Opens the log there.
    fn open_log(&self, options: LogOptions) -> Result<Log>;
}

impl Place for TempDir {
    fn names(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.join(DB)).expect("a database");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }

    fn open(&self, options: Options) -> Result<Engine> {
        options.open(self.join(DB))
    }

    fn open_log(&self, options: LogOptions) -> Result<Log> {
        options.open(self.join(DB))
    }
}

#[cfg(feature = "disk")]
impl<D: Disk + Clone + 'static> Place for D {
    fn names(&self) -> Vec<OsString> {
        self.open_dir(DB.as_ref()).and_then(|dir| dir.list()).expect("a database")
    }

    fn open(&self, options: Options) -> Result<Engine> {
        options.open_on(Arc::new(self.clone()), DB)
    }

    fn open_log(&self, options: LogOptions) -> Result<Log> {
        options.open_on(Arc::new(self.clone()), DB)
    }
}

/// Opens the database in `place` with `options`.
pub fn open_on(place: &impl Place, options: Options) -> Result<Engine> {
    place.open(options)
}

/// A new engine that lives in memory only.
pub fn in_memory() -> Engine {
    Engine::in_memory().unwrap()
}

/// Commits one blind write.
pub fn put(engine: &Engine, keyspace: &Keyspace, key: &str, value: &str, mode: CommitMode) -> Result<Receipt> {
    let mut batch = engine.batch()?;
    batch.put(keyspace, key, value)?;
    batch.commit_with(mode)
}

/// The value of `key` now, as text.
pub fn get(engine: &Engine, keyspace: &Keyspace, key: &str) -> Option<String> {
    let value = engine.snapshot().unwrap().get(keyspace, key).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// The error of a call that has to fail.
#[track_caller]
pub fn error_of<T, E: Into<Error>>(result: Result<T, E>) -> Error {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.into(),
    }
}

/// The error of a commit that has to give its transaction back, and the transaction.
#[track_caller]
pub fn given_back(result: Result<Receipt, TryCommitError>) -> (Error, Transaction) {
    let (error, transaction) = result.expect_err("an error was expected").into_parts();
    (error, transaction.expect("nothing was done"))
}

/// What the usual printers of error chains show: each error of the chain, one after the other.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// The kind of the error of a call that has to fail.
#[track_caller]
pub fn kind_of<T, E: Into<Error>>(result: Result<T, E>) -> ErrorKind {
    error_of(result).kind()
}

/// Waits until the segment after the first one is prepared: what an engine does in the background is over then.
pub fn prepared_ahead(engine: &Engine) {
    wait_until(|| engine.stats().segments_prepared > 0);
}

/// Gives other threads time until `condition` holds.
pub fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The mode without its time.
pub fn mode_name(mode: CommitMode) -> &'static str {
    match mode {
        CommitMode::Sync => "Sync",
        CommitMode::Written => "Written",
        CommitMode::Async => "Async",
        _ => "Within",
    }
}
