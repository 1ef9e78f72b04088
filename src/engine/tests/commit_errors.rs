//! Each error of a commit says what became of it and whether to retry, with every fault on the path of the first commit
//! after an open and of those that need the next segment.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::{CommitMode, Outcome, Token};
use crate::disk::sim::{Fault, FaultKind, OpSelector, Pages, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::schedule;

const COMMITS: u8 = 8;

/// The ways to commit that the docs list errors for.
#[derive(Clone, Copy, Debug)]
enum Way {
    Commit(CommitMode),
    Try,
    Timeout,
    Batch,
}

const WAYS: [Way; 5] =
    [Way::Commit(CommitMode::Sync), Way::Commit(CommitMode::Written), Way::Try, Way::Timeout, Way::Batch];

fn open(disk: &SimDisk) -> Result<Engine> {
    Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), "db")
}

/// Puts `number`, with a value that makes eight of them take several segments.
fn put(engine: &Engine, number: u8, way: Way) -> Result<Token> {
    let (keyspace, value) = (engine.open_keyspace("k")?, [number; 1500]);
    let mut batch = engine.batch()?;
    let mut tx = engine.begin()?;
    batch.put(&keyspace, [number], value)?;
    tx.put(&keyspace, [number], value)?;
    let receipt = match way {
        Way::Commit(mode) => tx.commit_with(mode)?,
        Way::Try => tx.try_commit_with(CommitMode::Written)?,
        Way::Timeout => tx.commit_timeout(CommitMode::Sync, Duration::from_secs(5))?,
        Way::Batch => batch.commit()?,
    };
    Ok(receipt.token())
}

fn holds(engine: &Engine, number: u8) -> bool {
    let keyspace = engine.open_keyspace("k").unwrap();
    engine.snapshot().unwrap().get(&keyspace, [number]).unwrap().is_some()
}

/// A closed database with a keyspace.
fn prepared() -> SimDisk {
    let disk = SimDisk::new();
    let engine = open(&disk).unwrap();
    engine.create_keyspace("k").unwrap();
    engine.close().unwrap();
    disk
}

/// What a client saw of an attempt: its token, or its error and whether the engine had stopped.
type Seen = std::result::Result<Token, (Error, bool)>;

struct Run {
    /// With the number that was put.
    attempts: Vec<(u8, Seen)>,
    operations: u64,
    hits: u64,
}

/// Eight commits, each tried until it succeeds, is in doubt or is refused for good.
fn run(disk: &SimDisk, way: Way, fault: Option<Fault>) -> Run {
    schedule::run(5, || {
        let engine = open(disk).unwrap();
        let before = disk.ops();
        if let Some(fault) = fault {
            disk.inject(fault);
        }
        let mut attempts = Vec::new();
        for number in 0..COMMITS {
            for _ in 0..50 {
                let result = put(&engine, number, way);
                let retry = result.as_ref().is_err_and(Error::is_retryable);
                let result = result.map_err(|error| (error, engine.poisoned().is_some()));
                attempts.push((number, result));
                if !retry {
                    break;
                }
                schedule::sleep(Duration::from_millis(1));
            }
        }
        let operations = disk.ops() - before;
        let _ = engine.close();
        Run { attempts, operations, hits: disk.fault_hits() }
    })
}

/// The first commit after an open that failed to prepare the log was told `Io`, which no list had.
#[test]
fn each_error_of_a_commit_says_what_became_of_it() {
    let kinds = Mutex::new(BTreeSet::new());
    let (mut runs, mut hits) = (0, 0);
    for way in WAYS {
        let operations = run(&prepared(), way, None).operations;
        let mut faults = vec![FaultKind::SyncFails { pages: Pages::KeepNew }];
        faults.extend([5, 12, 13, 24, 28].map(FaultKind::Errno));
        for number in 0..operations {
            for kind in &faults {
                let what = format!("{way:?}, operation {number}, {kind:?}");
                let disk = prepared();
                let at = OpSelector::any().skip(number);
                let run = run(&disk, way, Some(Fault::once(at, kind.clone())));
                (runs, hits) = (runs + 1, hits + run.hits);
                disk.clear_faults();
                check(&disk, &run, &what, &kinds);
            }
        }
    }
    let kinds = kinds.into_inner().unwrap();
    println!("{runs} runs, {hits} faults, kinds {kinds:?}");
    assert!(hits * 2 > runs);
    for kind in [ErrorKind::Io, ErrorKind::DiskFull, ErrorKind::Poisoned, ErrorKind::Indeterminate] {
        assert!(kinds.contains(&format!("{kind:?}")), "{kind:?} was never met");
    }
}

fn check(disk: &SimDisk, run: &Run, what: &str, kinds: &Mutex<BTreeSet<String>>) {
    let engine = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut done = BTreeSet::new();
    let mut in_doubt = BTreeSet::new();
    for (number, result) in &run.attempts {
        let (error, is_stopped) = match result {
            Ok(token) => {
                // A `Written` commit survives this: the process ended, the machine did not.
                assert_eq!(engine.outcome(token).unwrap(), Outcome::Durable, "{what}: commit {number}");
                done.insert(*number);
                continue;
            }
            Err(failure) => failure,
        };
        let what = format!("{what}, commit {number}: {:?}, {error}", error.kind());
        kinds.lock().unwrap().insert(format!("{:?}", error.kind()));
        let documented = match error.kind() {
            ErrorKind::Io | ErrorKind::DiskFull => (false, true),
            ErrorKind::WouldBlock => (false, true),
            ErrorKind::Poisoned => (true, false),
            ErrorKind::Indeterminate => (true, false),
            _ => panic!("{what}: not in the list"),
        };
        assert_eq!((*is_stopped, error.is_retryable()), documented, "{what}");
        assert_eq!(error.token().is_some(), error.kind() == ErrorKind::Indeterminate, "{what}");
        if let Some(token) = error.token() {
            let is_there = engine.outcome(&token).unwrap() == Outcome::Durable;
            assert_eq!(is_there, holds(&engine, *number), "{what}");
            in_doubt.insert(*number);
        }
    }
    for number in 0..COMMITS {
        assert!(in_doubt.contains(&number) || holds(&engine, number) == done.contains(&number), "{what}: {number}");
    }
}
