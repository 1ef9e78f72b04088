//! Promise 14, and promise 5 after a failed fsync.

use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector, Pages};
use forelog::{CommitMode, ErrorKind, Outcome};

use super::{count, open, power_loss, put, simulate};

fn fail_next_sync(disk: &forelog::sim::SimDisk, pages: Pages) {
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages }));
}

#[test]
fn promise_14_fail_stop_with_a_verdict_for_each() {
    simulate(|disk, engine, keys| {
        let kept = put(engine, keys, 0, CommitMode::Sync).unwrap();
        fail_next_sync(disk, Pages::KeepNew);
        let pending = put(engine, keys, 1, CommitMode::Async).unwrap();
        let waiters: Vec<_> = (2..5)
            .map(|number| {
                let (engine, keys) = (engine.clone(), keys.clone());
                sim::start("waiter", move || {
                    let error = put(&engine, &keys, number, CommitMode::Sync).unwrap_err();
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Indeterminate | ErrorKind::Poisoned), "{error:?}");
                    assert_eq!(kind == ErrorKind::Indeterminate, error.token().is_some());
                })
            })
            .collect();
        for waiter in waiters {
            waiter.join();
        }
        assert!(kept.is_durable() && kept.wait().is_ok(), "earlier durable commits stay so");
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Indeterminate);
        assert_eq!(engine.outcome(&pending.token()).unwrap(), Outcome::Indeterminate);
        let poison = engine.poisoned().expect("poisoned");
        assert!(poison.durable >= kept.lsn() && poison.appended >= pending.lsn());
        // The next fsync would succeed; nobody may be told so.
        assert_eq!(put(engine, keys, 9, CommitMode::Sync).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(put(engine, keys, 9, CommitMode::Async).unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(!pending.is_durable());
        assert!(engine.snapshot().unwrap().get(keys, 0u32.to_be_bytes()).unwrap().is_some(), "reads go on");
        assert_eq!(engine.close().unwrap_err().kind(), ErrorKind::Poisoned);
        let after = open(disk);
        let settled = after.outcome(&pending.token()).unwrap();
        let keys = after.open_keyspace("keys").unwrap();
        let found = after.snapshot().unwrap().get(&keys, 1u32.to_be_bytes()).unwrap().is_some();
        assert_eq!(settled == Outcome::Durable, found);
        assert!(matches!(settled, Outcome::Durable | Outcome::Lost));
    });
}

/// After a failed fsync the kernel holds the pages clean: they read well, the next fsync succeeds, and they are gone
/// once the power is cut. What a reopened engine reports must have been written again.
#[test]
fn promise_5_a_power_cut_after_the_reopen_that_followed_a_failed_fsync() {
    for pages in [Pages::KeepNew, Pages::RevertOld] {
        simulate(|disk, engine, keys| {
            put(engine, keys, 0, CommitMode::Sync).unwrap();
            for number in 1..6 {
                put(engine, keys, number, CommitMode::Written).unwrap();
            }
            fail_next_sync(disk, pages);
            engine.flush().unwrap_err();
            let _ = engine.close();
            let reopened = open(disk);
            let reported = count(&reopened);
            assert!(reported >= 1);
            let after = open(&power_loss(disk));
            assert_eq!(count(&after), reported, "reported by the reopened engine, and gone ({pages:?})");
        });
    }
}

#[test]
fn promise_14_a_failed_write_is_final_too() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::Errno(5)));
        let error = put(engine, keys, 1, CommitMode::Written).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        assert_eq!(put(engine, keys, 2, CommitMode::Written).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(count(&open(&power_loss(disk))), 1);
    });
}
