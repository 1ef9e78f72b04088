//! What is read from tables again and again comes back into memory, in the place of what nobody reads.

use std::sync::Arc;
use std::time::Duration;

use crate::base::options::Checkpoints;
use crate::base::types::CommitMode;
use crate::engine::Options;

/// It stayed in tables until the next open, however often it was read.
#[test]
fn what_is_read_again_and_again_is_in_memory_again() {
    let dir = crashkit::TempDir::new("promotion");
    let options = Options::new().memory_bytes(16 << 20).checkpoint_bytes(1 << 20).checkpoints(Checkpoints::OnRequest);
    let engine = options.open(&dir).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    for first in (0..40_000_u32).step_by(1000) {
        let mut batch = engine.batch().unwrap();
        (first..first + 1000).for_each(|key| batch.put(&keys, key.to_be_bytes(), [7; 500]).unwrap());
        batch.commit_with(CommitMode::Async).unwrap();
        engine.checkpoint().unwrap();
    }
    // A checkpoint takes in what is durable: what is behind it cannot be forgotten, and might fill memory.
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    let tree = engine.pipeline().index().keyspace_by_id(keys.id()).unwrap();
    let is_away = |key: u32| crate::index::Filler::from(Arc::clone(&tree), &key.to_be_bytes()).is_needed();
    let away: Vec<_> = (0..40_000).step_by(500).filter(|key| is_away(*key)).take(20).collect();
    assert!(away.len() == 20, "there is more than memory may have");
    let snapshot = engine.snapshot().unwrap();
    let is_back = (0..6000).any(|_| {
        for key in &away {
            assert_eq!(snapshot.get(&keys, key.to_be_bytes()).unwrap().unwrap(), [7; 500][..]);
        }
        std::thread::sleep(Duration::from_millis(5));
        !away.iter().any(|key| is_away(*key))
    });
    let left = away.iter().filter(|key| is_away(**key)).count();
    assert!(is_back, "{left} of {} are away: {:?}, {:?}", away.len(), engine.memory_stats(), engine.table_stats());
    let stats = engine.memory_stats();
    assert!(stats.records <= stats.records_limit, "{stats:?}");
    assert_eq!(snapshot.iter(&keys).unwrap().count(), 40_000);
}

/// To make room, all that can be forgotten was, and there was none: what fills memory was written since the last checkpoint.
#[test]
fn what_cannot_be_brought_in_drives_nothing_out() {
    let dir = crashkit::TempDir::new("promotion");
    let options = Options::new().memory_bytes(64 << 20).checkpoint_bytes(1 << 20).checkpoints(Checkpoints::OnRequest);
    let engine = options.open(&dir).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let put = |keys: std::ops::Range<u32>, of: &crate::txn::Keyspace| {
        let mut batch = engine.batch().unwrap();
        keys.for_each(|key| batch.put(of, key.to_be_bytes(), [7; 500]).unwrap());
        batch.commit_with(CommitMode::Async).unwrap();
    };
    for first in (0..120_000_u32).step_by(4000) {
        put(first..first + 4000, &keys);
        engine.checkpoint().unwrap();
    }
    let other = engine.create_keyspace("other").unwrap();
    (0..60_000).step_by(4000).for_each(|first| put(first..first + 4000, &other));
    let tree = engine.pipeline().index().keyspace_by_id(keys.id()).unwrap();
    let is_away = |key: &u32| crate::index::Filler::from(Arc::clone(&tree), &key.to_be_bytes()).is_needed();
    let (away, there): (Vec<u32>, Vec<u32>) = (0..120_000).step_by(100).partition(is_away);
    assert!(away.len() > 100 && there.len() > 20, "{} are away, and {} there", away.len(), there.len());
    let snapshot = engine.snapshot().unwrap();
    for _ in 0..20 {
        for key in away.iter().take(50) {
            snapshot.get(&keys, key.to_be_bytes()).unwrap().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = there.iter().filter(|key| !is_away(key)).count();
    assert!(left * 4 > there.len() * 3, "{left} of {} are left", there.len());
}
