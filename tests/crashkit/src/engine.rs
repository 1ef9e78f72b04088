//! Short forms of what tests ask of an engine.

use std::sync::Arc;
use std::time::Duration;

use forelog::disk::{Disk, MemoryDisk};
use forelog::{CommitMode, Engine, Error, ErrorKind, Keyspace, Options, Receipt, Result};

/// Where the database is on a disk in memory.
pub const DB: &str = "db";

/// Every commit mode.
pub const MODES: [CommitMode; 4] =
    [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(1))];

/// Opens the database on `disk` with `options`.
pub fn open_on(disk: &(impl Disk + Clone + 'static), options: Options) -> Result<Engine> {
    options.open_on(Arc::new(disk.clone()), DB)
}

/// A new engine that lives in memory only.
pub fn in_memory() -> Engine {
    open_on(&MemoryDisk::new(), Options::new()).unwrap()
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
pub fn error_of<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error,
    }
}

/// The kind of the error of a call that has to fail.
#[track_caller]
pub fn kind_of<T>(result: Result<T>) -> ErrorKind {
    error_of(result).kind()
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
