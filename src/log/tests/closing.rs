//! A close against the begin of an incarnation on another thread: after it returned nothing is written any more,
//! because the lock is gone and the directory may be somebody else's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::support::*;
use crate::base::types::CommitMode::Sync;
use crate::disk::sim::{OpKind, SimDisk};
use crate::rt::schedule;

#[test]
fn nothing_is_written_after_a_close_that_met_the_first_append() {
    for seed in 0..400_usize {
        let disk = SimDisk::new();
        let closed = Arc::new(AtomicBool::new(false));
        let late = Arc::new(Mutex::new(Vec::new()));
        let (is_closed, noted) = (Arc::clone(&closed), Arc::clone(&late));
        disk.on_op(move |_, op| {
            if is_closed.load(Ordering::SeqCst) && op.kind != OpKind::Lock {
                noted.lock().unwrap().push(format!("{:?} {}", op.kind, op.path.display()));
            }
        });
        let appended = schedule::run(seed as u64, || {
            let opened = open(&disk).unwrap();
            let log = opened.log.clone();
            let appended = Arc::new(Mutex::new(None));
            let result = Arc::clone(&appended);
            let appender =
                schedule::start("append", move || *result.lock().unwrap() = Some(log.append(b"first", Sync).is_ok()));
            (0..seed % 60).for_each(|_| schedule::yield_point());
            opened.log.close().unwrap();
            closed.store(true, Ordering::SeqCst);
            appender.join();
            appended.lock().unwrap().unwrap()
        });
        disk.clear_on_op();
        assert_eq!(*late.lock().unwrap(), Vec::<String>::new(), "seed {seed}");
        let opened = open(&disk).unwrap();
        assert_eq!(opened.log.recovery().crashed, None, "seed {seed}: closed cleanly");
        assert_eq!(opened.records.len(), usize::from(appended), "seed {seed}");
    }
}
