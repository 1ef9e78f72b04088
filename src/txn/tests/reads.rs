//! What a transaction keeps of what it read.

use std::ops::Bound::{Excluded, Included};

use crate::base::types::Lsn;
use crate::format::batch::BatchBuilder;
use crate::index::Index;
use crate::txn::reads::Reads;

/// A transaction that takes a thousand jobs from a queue reads the same range a thousand times. Its commit compared each
/// of them with everything that others had done since, while all other commits waited.
#[test]
fn a_range_that_is_read_often_is_kept_once() {
    let (index, mut batch) = (Index::new(), BatchBuilder::new());
    batch.create_keyspace(1, "jobs").unwrap();
    index.apply(Lsn::new(8), &batch.batch(), Lsn::new(8)).unwrap();
    let tree = index.keyspace_by_name("jobs", Lsn::new(8)).unwrap().unwrap();
    let mut reads = Reads::default();
    for _ in 0..1000 {
        for (low, high) in [(b"job:", b"job;"), (b"old:", b"old;")] {
            reads.range(&tree, (Included(low), Excluded(high)));
        }
    }
    // With the last one, which is put with the others when one more comes.
    assert_eq!(reads.ranges(), 3);
}
