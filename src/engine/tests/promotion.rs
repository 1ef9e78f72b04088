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
    assert!(is_back);
    let stats = engine.memory_stats();
    assert!(stats.records <= stats.records_limit, "{stats:?}");
    assert_eq!(snapshot.iter(&keys).unwrap().count(), 40_000);
}
