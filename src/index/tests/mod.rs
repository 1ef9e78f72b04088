mod cursors;
mod keyspaces;
mod load;
mod map;
mod model;
mod pruning;
mod ranges;
mod residency;
mod sizes;
mod snapshots;
mod undo;
mod values;

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::base::types::Lsn;
use crate::format::batch::{Batch, BatchBuilder};

use super::meter::Measured;
use super::*;

/// How many cases of a property are tried. With the simulated disk beside them these tests run for a second time.
const fn cases(all: u32) -> u32 {
    if cfg!(feature = "sim") { all / 4 } else { all }
}

const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

/// An index with its one committer. Commits are durable at once, unless a test says otherwise.
struct Fixture {
    index: Index,
    last: u64,
    durable: Option<Lsn>,
}

impl Fixture {
    /// An empty index.
    fn new() -> Self {
        Fixture { index: Index::new(), last: 0, durable: None }
    }

    /// An index with one keyspace, `1`.
    fn with_keyspace() -> (Self, Arc<Tree>) {
        let mut fixture = Fixture::new();
        let lsn = fixture.commit(|batch| batch.create_keyspace(1, "one").unwrap());
        let tree = fixture.index.keyspace_by_name("one", lsn).unwrap().unwrap();
        (fixture, tree)
    }

    fn prune_to(&self) -> Lsn {
        self.durable.unwrap_or(Lsn::new(u64::MAX))
    }

    fn try_apply(&mut self, fill: impl FnOnce(&mut BatchBuilder)) -> std::result::Result<Lsn, ApplyError> {
        let mut batch = BatchBuilder::new();
        fill(&mut batch);
        let bytes = batch.batch().bytes().to_vec();
        let lsn = Lsn::new(self.last + 8);
        self.index.apply(lsn, &Batch::parse(&bytes).unwrap(), self.prune_to())?;
        self.last += 8;
        Ok(lsn)
    }

    /// Applies and publishes.
    fn commit(&mut self, fill: impl FnOnce(&mut BatchBuilder)) -> Lsn {
        let lsn = self.try_apply(fill).unwrap();
        self.index.publish(lsn);
        lsn
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Lsn {
        self.commit(|batch| batch.put(1, key, value).unwrap())
    }

    fn delete(&mut self, key: &[u8]) -> Lsn {
        self.commit(|batch| batch.delete(1, key).unwrap())
    }

    fn prune(&self) {
        while self.index.prune(self.prune_to(), 100) >= 100 {}
    }
}

type Entries = std::iter::Map<Cursor, fn(Result<(Key, Value)>) -> (Key, Value)>;

/// A cursor whose reads never fail.
fn entries(tree: Arc<Tree>, range: KeyRange<'_>, at: Lsn) -> Entries {
    Cursor::new(tree, range, at).map(Result::unwrap)
}

fn scan(tree: &Arc<Tree>, range: KeyRange<'_>, at: Lsn) -> Vec<(Key, Value)> {
    entries(Arc::clone(tree), range, at).collect()
}
