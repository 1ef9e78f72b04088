//! Errors as the public calls return them: each cause once in what a printer of error chains shows.

use std::sync::Arc;

use crashkit::chain;
use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Engine, Error, ErrorKind, Options};

const EIO: i32 = 5;

#[track_caller]
fn check(error: &Error, kind: ErrorKind) {
    let told = chain(error).matches("os error 5").count();
    assert_eq!((error.kind(), told), (kind, 1), "{}", chain(error));
    assert!(error.to_string().contains("os error 5"), "an error alone tells it, too: {error}");
    assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(EIO));
}

#[test]
fn a_failed_sync_is_told_once_to_all_who_are_told_of_it() {
    let disk = SimDisk::new();
    let open = |disk: &SimDisk| Options::new().open_on(Arc::new(disk.clone()), "db");
    let engine = open(&disk).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let put = |engine: &Engine| {
        let mut tx = engine.begin()?;
        tx.put(&keys, "a", "1")?;
        tx.commit_with(CommitMode::Sync)
    };
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync), FaultKind::Errno(EIO)));
    check(&put(&engine).unwrap_err(), ErrorKind::Indeterminate);
    check(&engine.poisoned().unwrap().cause, ErrorKind::Io);
    check(&put(&engine).unwrap_err(), ErrorKind::Poisoned);
    let mut tx = engine.begin().unwrap();
    tx.put(&keys, "b", "1").unwrap();
    let (error, tx) = tx.try_commit_with(CommitMode::Async).unwrap_err().into_parts();
    check(&error, ErrorKind::Poisoned);
    check(&Error::from(tx.unwrap().commit_timeout(CommitMode::Sync, EVER).unwrap_err()), ErrorKind::Poisoned);
    check(&engine.close().unwrap_err(), ErrorKind::Poisoned);
}

const EVER: std::time::Duration = std::time::Duration::MAX;

#[test]
fn what_cannot_be_read_is_told_once() {
    let disk = SimDisk::new();
    let open = |disk: &SimDisk| Options::new().open_on(Arc::new(disk.clone()), "db");
    open(&disk).unwrap().create_keyspace("keys").unwrap();
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Read), FaultKind::Errno(EIO)));
    check(&open(&disk).unwrap_err(), ErrorKind::Io);
    let disk = SimDisk::new();
    disk.inject(Fault::lasting(OpSelector::of(OpKind::List), FaultKind::Errno(EIO)));
    check(&open(&disk).unwrap_err(), ErrorKind::Io);
}
