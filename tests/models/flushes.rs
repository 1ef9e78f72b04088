//! The model of a flush that is one submission: its sync goes on while others have the right to write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, Pages, Phase, SimDisk};
use forelog::{CommitMode, Error, ErrorKind, Options};
use shuttle::rand::Rng;

use crate::run::check;
use crate::witness::{Promise, Witness, name, open, options, records, settle, start};
use crashkit::{kind_of, open_on, put};

/// The log's files were created under this name.
const SEGMENTS: &str = ".log.tmp";

fn assert_stopped(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Poisoned), "{error}");
}

/// Has a sync of the Sync committer last until the `Written` commits are done: should those wait for it, nothing ends.
fn hold_syncs(disk: &SimDisk, written: &Arc<AtomicBool>) {
    let written = Arc::clone(written);
    disk.on_op(move |_, op| {
        let is_held = op.kind == OpKind::Sync && op.phase == Phase::InFlight && name() == "sync";
        while is_held && !written.load(Ordering::Relaxed) {
            shuttle::thread::yield_now();
        }
    });
}

#[test]
fn flush_in_one_submission() {
    check("flush_in_one_submission", || {
        let disk = SimDisk::new();
        let engine = open_on(&disk, Options::new().segment_bytes(8192).io_uring(true)).unwrap();
        let keys = engine.create_keyspace("k").unwrap();
        settle(|| engine.stats().segments_prepared);
        let witness = Witness::of(&disk);
        let mut random = shuttle::rand::thread_rng();
        if random.gen_bool(0.5) {
            let which = OpSelector::of(OpKind::Sync).on(SEGMENTS).skip(random.gen_range(0..2));
            disk.inject(Fault::once(which, FaultKind::SyncFails { pages: Pages::KeepNew }));
        }
        let are_written = Arc::new(AtomicBool::new(false));
        hold_syncs(&disk, &are_written);
        let commits = |name: &'static str, mode, promise| {
            let (engine, keys, witness) = (engine.clone(), keys.clone(), witness.clone());
            start(name, move || {
                for number in 0..2 {
                    match put(&engine, &keys, &format!("{name}-{number}"), "x", mode) {
                        Ok(receipt) => {
                            witness.note(receipt.lsn(), promise);
                            if receipt.is_durable() {
                                witness.note(receipt.lsn(), Promise::Durable);
                            }
                        }
                        Err(error) => return assert_stopped(&error),
                    }
                }
            })
        };
        // Alone or not, it is applied to the index while its sync is under way.
        let sync = commits("sync", CommitMode::Sync, Promise::Durable);
        let written = commits("written", CommitMode::Written, Promise::Written);
        let (other, noted) = (engine.clone(), witness.clone());
        let watcher = start("watcher", move || (0..4).for_each(|_| noted.note(other.durable_lsn(), Promise::Durable)));
        written.join().unwrap();
        are_written.store(true, Ordering::Relaxed);
        sync.join().unwrap();
        watcher.join().unwrap();
        match engine.flush() {
            Ok(lsn) => witness.note(lsn, Promise::Durable),
            Err(error) => {
                assert_stopped(&error);
                let poison = engine.poisoned().expect("a sync failed").clone();
                assert_eq!(engine.durable_lsn(), poison.durable, "it moved after the failure");
                assert_eq!(kind_of(put(&engine, &keys, "late", "x", CommitMode::Async)), ErrorKind::Poisoned);
            }
        }
        disk.clear_on_op();
        drop((engine, keys));
        // The failed sync dropped no page, so what is in doubt survives here.
        witness.check(&records(&open(&disk.crash_point().process_kill(), options())));
    });
}
