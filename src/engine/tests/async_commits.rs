//! Commits of tasks behind work that does not keep up, in simulated time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::options::Checkpoints;
use crate::base::types::CommitMode;
use crate::disk::sim::SimDisk;
use crate::engine::Options;
use crate::rt::schedule;
use crate::txn::due::Amount;
use crate::txn::throttle::Load;

/// A helper that lets each of them pass with the patience of a thread, and then asks again as one without, never comes to an end; and a
/// background thread passes at once.
#[test]
fn each_commit_passes_the_back_pressure_once() {
    schedule::run(1, || {
        let options = Options::new().checkpoints(Checkpoints::Never);
        let engine = options.open_on(Arc::new(SimDisk::new()), "db").unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let pipeline = engine.pipeline();
        // A second for a MiB, of which each has a quarter.
        let merges = Duration::from_secs(1);
        let (none, never) = (Amount::default(), Load::NOTHING);
        let load = Load { done: none, bound: never, stop: never, log: Duration::ZERO, merges };
        pipeline.throttle.set(load, None, pipeline.due.counted());
        let mut futures: Vec<_> = (0..8)
            .map(|number| {
                let mut batch = engine.batch().unwrap();
                batch.put(&keyspace, [number], vec![0; 1 << 18]).unwrap();
                batch.commit_async(CommitMode::Async)
            })
            .collect();
        let begin = schedule::now().unwrap();
        let waited = || schedule::now().unwrap().since(begin);
        while !futures.is_empty() {
            let before = waited();
            futures.retain_mut(|future| Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert!(waited() - before < Duration::from_millis(10), "a poll has waited");
            schedule::sleep(Duration::from_millis(10));
            assert!(waited() < Duration::from_secs(4), "{} are left", futures.len());
        }
        assert!(waited() > Duration::from_millis(1700), "{:?}", waited());
        assert_eq!(pipeline.throttle.waited().0, 7, "the first one finds nobody before it");
        engine.close().unwrap();
    });
}

/// A callback alone came with the flush that was due anyway.
#[test]
fn a_commit_that_is_in_a_hurry_is_durable_soon() {
    schedule::run(1, || {
        let engine = Options::new().open_on(Arc::new(SimDisk::new()), "db").unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        for hurries in [false, true] {
            let mut batch = engine.batch().unwrap();
            batch.put(&keyspace, "key", "value").unwrap();
            let receipt = batch.commit_with(CommitMode::Within(Duration::from_millis(500))).unwrap();
            let told = Arc::new(AtomicBool::new(false));
            let tell = Arc::clone(&told);
            receipt.on_durable(move |verdict| tell.store(verdict.is_ok(), Ordering::Relaxed)).unwrap();
            if hurries {
                receipt.hurry().unwrap();
            }
            schedule::sleep(Duration::from_millis(100));
            assert_eq!((receipt.is_durable(), told.load(Ordering::Relaxed)), (hurries, hurries));
            receipt.wait().unwrap();
        }
        engine.close().unwrap();
    });
}
