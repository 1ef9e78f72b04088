//! What a transaction read, so that the commit can tell whether any of it has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::consumed::{Consumed, RangesRead};
use super::keyspace::dropped_error;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::index::{Key, KeyRange, Tree};

#[derive(Debug)]
struct TreeReads {
    tree: Arc<Tree>,
    keys: BTreeSet<Key>,
    ranges: RangesRead,
}

impl TreeReads {
    fn changed_since(&self, snapshot: Lsn) -> Result<bool> {
        for key in &self.keys {
            if self.tree.changed_since(key, snapshot)? {
                return Ok(true);
            }
        }
        self.ranges.any(|range| self.tree.range_changed_since(range, snapshot))
    }
}

/// Keys and ranges read, by keyspace id; absent keys and empty ranges count, too.
#[derive(Debug, Default)]
pub(super) struct Reads {
    trees: BTreeMap<u32, TreeReads>,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    #[cfg(test)]
    pub(super) fn ranges(&self) -> usize {
        let mut count = 0;
        for reads in self.trees.values() {
            let _ = reads.ranges.any(|_| {
                count += 1;
                Ok(false)
            });
        }
        count
    }

    fn of(&mut self, tree: &Arc<Tree>) -> &mut TreeReads {
        self.trees.entry(tree.id()).or_insert_with(|| TreeReads {
            tree: Arc::clone(tree),
            keys: BTreeSet::new(),
            ranges: RangesRead::default(),
        })
    }

    pub(super) fn key(&mut self, tree: &Arc<Tree>, key: &[u8]) {
        let keys = &mut self.of(tree).keys;
        if !keys.contains(key) {
            keys.insert(Key::from(key));
        }
    }

    /// Of a range, what its iterator will have shown.
    pub(super) fn range(&mut self, tree: &Arc<Tree>, range: KeyRange<'_>) -> Arc<Consumed> {
        self.of(tree).ranges.watch(range)
    }

    /// Refuses if anything read has changed since `snapshot`. Called under the order lock, so that nothing can change
    /// between this and the commit's place in the order.
    pub(super) fn check(&self, snapshot: Lsn) -> Result<()> {
        for reads in self.trees.values() {
            let tree = &reads.tree;
            if tree.dropped().is_some() {
                return Err(dropped_error(tree.name()));
            }
            if reads.changed_since(snapshot)? {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "what was read in '{}' has changed since, or the transaction ran for too long: run it again",
                        tree.name()
                    ),
                ));
            }
        }
        Ok(())
    }
}
