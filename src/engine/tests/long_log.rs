//! An open that finds more log behind the layers than a checkpoint takes in.

use super::merging::{open_small, put};
use crate::base::options::Checkpoints;
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use crate::engine::Engine;
use crate::rt::schedule;

fn delete(engine: &Engine, number: u32) {
    let keys = engine.open_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.delete(&keys, number.to_be_bytes()).unwrap();
    batch.commit().unwrap();
}

/// No commit came through that would have started the thread which takes the log in.
#[test]
fn commits_go_on_behind_an_open_with_a_long_log() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 400, 1);
        engine.close().unwrap();
        drop(engine);
        let engine = open_small(&disk, Checkpoints::Automatic);
        assert!(engine.table_stats().pending_ops > 5 * 4096 / 160);
        put(&engine, "k", 0, 10, 2);
        assert!(engine.table_stats().checkpoints > 0);
        engine.close().unwrap();
    });
}

/// The layers had the put and not yet the deletion, of which a load had left no record: memory had it forgotten, and the layers
/// brought the key back. (A debug build asks the layers wherever memory says "absent".)
#[test]
fn a_deletion_that_was_replayed_is_not_forgotten_before_layers_have_it() {
    // Searched for, and built anew.
    for filler in [20, 400] {
        let pieces = (1..40).filter(|runs| is_left_to_a_later_piece(filler, *runs)).count();
        assert!(pieces > 0, "no piece came through without the next one");
    }
}

/// Whether a piece came through before the file of the run with this number could not be made, and the next one did not.
fn is_left_to_a_later_piece(filler: u32, runs: u64) -> bool {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_small(&disk, Checkpoints::OnRequest);
        put(&engine, "k", 0, 1, 1);
        put(&engine, "k", 10, filler, 1);
        put(&engine, "k", 10, 100, 1);
        delete(&engine, 0);
        engine.close().unwrap();
        drop(engine);
        let engine = open_small(&disk, Checkpoints::OnRequest);
        let keys = engine.open_keyspace("k").unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run").skip(runs), FaultKind::Errno(28)));
        let has_failed = engine.checkpoint().is_err();
        let read = || engine.snapshot().unwrap().get(&keys, 0_u32.to_be_bytes()).unwrap();
        assert!(read().is_none(), "{runs}");
        let index = engine.pipeline().index();
        for tree in index.trees_from(0) {
            tree.forget(&[], 1000, index.installed());
        }
        assert!(read().is_none(), "{runs}");
        has_failed && engine.table_stats().layers > 0
    })
}
