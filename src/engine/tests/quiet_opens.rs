//! An open that finds nothing to do changes nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::base::types::CommitMode;
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::schedule;
use crate::rt::sync::Mutex;

fn open(disk: &SimDisk) -> Engine {
    Options::new().segment_bytes(8192).open_on(Arc::new(disk.clone()), "db").unwrap()
}

fn put(engine: &Engine, value: u8) {
    let keys = engine.create_keyspace("keys").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keys, [value], [value; 600]).unwrap();
    batch.commit_with(CommitMode::Sync).unwrap();
}

/// The calls of an open and a close that change the disk, or try to.
fn changes(disk: &SimDisk) -> Vec<String> {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&calls);
    disk.on_op(move |_, op| {
        if op.kind.mutates() && op.kind != OpKind::Lock {
            noted.lock().push(format!("{:?} of {}", op.kind, op.path.display()));
        }
    });
    open(disk).close().unwrap();
    disk.clear_on_op();
    std::mem::take(&mut *calls.lock())
}

#[test]
fn an_open_after_a_close_makes_no_call_that_changes_the_disk() {
    schedule::run(1, || {
        let disk = SimDisk::new();
        let engine = open(&disk);
        put(&engine, 1);
        engine.checkpoint().unwrap();
        put(&engine, 2);
        engine.close().unwrap();
        assert_eq!(changes(&disk), Vec::<String>::new());
    });
}

#[test]
fn a_manifest_that_history_does_not_name_is_written_again_by_one_open() {
    schedule::run(1, || {
        let disk = SimDisk::new();
        let engine = open(&disk);
        put(&engine, 1);
        engine.checkpoint().unwrap();
        put(&engine, 2);
        engine.close().unwrap();
        let engine = open(&disk);
        engine.checkpoint().unwrap();
        // HISTORY names the former MANIFEST: nothing has begun that would have replaced it, and no close has come.
        let disk = disk.crash_point().process_kill();
        engine.close().unwrap();
        assert_ne!(changes(&disk), Vec::<String>::new());
        assert_eq!(changes(&disk), Vec::<String>::new());
    });
}

/// The warmer held the layers that it was reading. A merge replaced them, the close came, and their files were left: the open after a
/// clean close removed them.
#[test]
fn a_close_leaves_no_file_that_the_warmer_still_reads() {
    schedule::run(1, || {
        let disk = SimDisk::new();
        let engine = open(&disk);
        for value in 1..4 {
            put(&engine, value);
            engine.checkpoint().unwrap();
        }
        engine.close().unwrap();
        let slow = FaultKind::Stall(Duration::from_secs(2));
        let engine = open(&disk);
        disk.inject(Fault::once(OpSelector::of(OpKind::Read).on(".run"), slow));
        put(&engine, 4);
        schedule::sleep(Duration::from_millis(1));
        assert_eq!(disk.fault_hits(), 1, "the warmer reads");
        engine.compact().unwrap();
        engine.close().unwrap();
        assert_eq!(changes(&disk), Vec::<String>::new());
    });
}
