//! A panic while a commit is applied to the index, which only a bug can make: nobody is told that the commit is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::base::error::{ErrorKind, Result};
use crate::base::types::CommitMode;
use crate::disk::sim::{OpKind, SimDisk};
use crate::engine::{Engine, Options};
use crate::format::batch::Batch;
use crate::index::Index;
use crate::log::{LogInner, Receipt, WaitLimit};
use crate::rt::schedule;
use crate::txn::pipeline::Pipeline;
use crate::txn::prune::{self, Prunable};

fn commit_broken(engine: &Engine, mode: CommitMode) -> Result<Receipt> {
    engine.pipeline().commit(Batch::broken(), mode, WaitLimit::Forever, &|| Ok(()))
}

fn put(engine: &Engine, key: &str, mode: CommitMode) -> Result<Receipt> {
    let keyspace = engine.open_keyspace("k")?;
    let mut batch = engine.batch()?;
    batch.put(&keyspace, key, "x")?;
    batch.commit_with(mode)
}

/// One with a flush in two calls, one with a flush in one submission.
fn engines() -> [(SimDisk, Engine); 2] {
    [false, true].map(|io_uring| {
        let disk = SimDisk::new();
        let engine = Options::new().io_uring(io_uring).open_on(Arc::new(disk.clone()), "db").unwrap();
        engine.create_keyspace("k").unwrap();
        (disk, engine)
    })
}

fn assert_stopped(engine: &Engine) {
    assert_eq!(
        engine.poisoned().map(|poisoned| poisoned.cause.kind()),
        Some(ErrorKind::Internal),
        "a bug is no I/O error"
    );
    for mode in [CommitMode::Async, CommitMode::Sync] {
        assert_eq!(put(engine, "later", mode).unwrap_err().kind(), ErrorKind::Poisoned);
    }
}

#[test]
fn the_log_stops() {
    for (_disk, engine) in engines() {
        // It is applied by whoever looks.
        commit_broken(&engine, CommitMode::Async).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| engine.snapshot())).is_err());
        assert_stopped(&engine);
        assert_eq!(engine.snapshot().unwrap().keyspace_names().unwrap(), ["k"], "reads go on");
    }
}

#[test]
fn the_log_stops_for_a_lone_commit_too() {
    for (_disk, engine) in engines() {
        assert!(catch_unwind(AssertUnwindSafe(|| commit_broken(&engine, CommitMode::Sync))).is_err());
        assert_stopped(&engine);
    }
}

/// The writes of a lone commit are applied by whoever looks at the index first. It panicked there, and the commit itself,
/// which found nothing left to apply, was acknowledged.
#[test]
fn a_lone_commit_that_another_thread_could_not_apply_is_not_acknowledged() {
    for (disk, engine) in engines() {
        let (other, panicked) = (engine.clone(), Arc::new(AtomicBool::new(false)));
        let noted = Arc::clone(&panicked);
        // Not the thread that prepares segments, which writes, too.
        let committer = std::thread::current().id();
        disk.on_op(move |_, op| {
            let is_its_write = op.kind == OpKind::Write && std::thread::current().id() == committer;
            if is_its_write && !noted.swap(true, Ordering::Relaxed) {
                put(&other, "behind", CommitMode::Async).unwrap();
                assert!(catch_unwind(AssertUnwindSafe(|| other.snapshot())).is_err());
            }
        });
        let error = commit_broken(&engine, CommitMode::Sync).unwrap_err();
        disk.clear_on_op();
        assert!(panicked.load(Ordering::Relaxed));
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        assert!(error.token().is_some());
        assert_stopped(&engine);
    }
}

/// A pipeline whose commits that wait to be applied cannot be.
struct Dying(Arc<Pipeline>);

impl Prunable for Dying {
    fn index(&self) -> &Index {
        self.0.index()
    }

    fn log(&self) -> &LogInner {
        &self.0.log
    }

    fn catch_up(&self) {
        panic!("while the pruner applies what was left");
    }
}

/// The pruner had no guard: it was gone without a word, with what it did to the index half done.
#[test]
fn a_pruner_that_panics_stops_the_log() {
    for (_disk, engine) in engines() {
        prune::start(&Arc::new(Dying(Arc::clone(engine.pipeline()))));
        let log = &engine.pipeline().log;
        while log.poisoned().is_none() {
            std::thread::yield_now();
        }
        let cause = log.poisoned().unwrap().cause.to_string();
        assert!(cause.contains("forelog-prune") && cause.contains("while the pruner applies"), "{cause}");
        assert_eq!(put(&engine, "later", CommitMode::Sync).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(engine.close().unwrap_err().kind(), ErrorKind::Poisoned);
    }
}

/// The panic stopped the log and told nobody: who had a callback waited for ever, or until somebody else came.
#[test]
fn whoever_waits_is_told() {
    let verdict = schedule::run(7, || {
        let options = Options::new().flush_interval(Duration::from_millis(50));
        let engine = options.open_on(Arc::new(SimDisk::new()), "db").unwrap();
        engine.create_keyspace("k").unwrap();
        // The thread that prepares segments would tell, too.
        schedule::sleep(Duration::from_millis(100));
        let receipt = put(&engine, "waits", CommitMode::Async).unwrap();
        let (told, verdict) = mpsc::channel();
        receipt.on_durable(move |verdict| told.send(verdict).unwrap()).unwrap();
        commit_broken(&engine, CommitMode::Async).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| engine.snapshot())).is_err());
        schedule::sleep(Duration::from_secs(3600));
        verdict.try_recv()
    });
    assert_eq!(verdict.expect("told").unwrap_err().kind(), ErrorKind::Indeterminate);
}
