//! Which keyspaces there are at an LSN: the list of the last checkpoint, and what the log has done to it since.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::merge::{Gone, Retain};
use crate::base::types::{Incarnation, Lsn};
use crate::format::batch::{Batch, Op};
use crate::format::table::FileIdentity;
use crate::format::table::keyspaces::{Keyspace, Keyspaces};
use crate::format::table::range_tombstones::{RangeTombstone, Says};

#[cfg(test)]
mod tests;

/// The keyspaces that live, and those that something may still ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct KeyspaceList {
    next_id: u32,
    by_id: BTreeMap<u32, Arc<Keyspace>>,
}

impl KeyspaceList {
    /// The list of a file.
    pub(crate) fn of(file: &Keyspaces) -> Self {
        let by_id = file.list.iter().map(|one| (one.id, Arc::new(one.clone()))).collect();
        KeyspaceList { next_id: file.next_id, by_id }
    }

    /// An empty one: no id below this is used again.
    pub(crate) fn from_id(next_id: u32) -> Self {
        KeyspaceList { next_id, by_id: BTreeMap::new() }
    }

    /// Enters a keyspace that lives.
    pub(crate) fn insert(&mut self, id: u32, name: &str, created: Lsn) {
        self.next_id = self.next_id.max(id + 1);
        let created = Keyspace { id, name: name.to_owned(), created, dropped: None };
        self.by_id.insert(id, Arc::new(created));
    }

    /// Enters a drop. What was created is listed until no reader can ask for it.
    pub(crate) fn drop_at(&mut self, id: u32, lsn: Lsn) {
        self.by_id.entry(id).and_modify(|one| Arc::make_mut(one).dropped = Some(lsn));
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Those with these ids.
    pub(super) fn within(&self, ids: RangeInclusive<u32>) -> impl Iterator<Item = &Keyspace> {
        self.by_id.range(ids).map(|(_, keyspace)| &**keyspace)
    }

    /// By id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Keyspace> {
        self.by_id.values().map(|keyspace| &**keyspace)
    }

    /// Takes in what the record that ends at `lsn` does to keyspaces.
    pub(crate) fn add(&mut self, lsn: Lsn, batch: &Batch<'_>) {
        if batch.only_writes() {
            return;
        }
        for op in batch {
            match op {
                Op::CreateKeyspace { keyspace: id, name } => {
                    self.insert(id, name, lsn);
                }
                Op::DropKeyspace { keyspace: id } => self.drop_at(id, lsn),
                Op::Put { .. } | Op::Delete { .. } | Op::DeleteRange { .. } => {}
            }
        }
    }

    /// Forgets the dropped keyspaces that no reader can ask for. Their ids are never used again.
    pub(crate) fn prune(&mut self, retain: &Retain) {
        // What one record creates and drops no LSN shows.
        self.by_id.retain(|_, one| one.dropped != Some(one.created) && retain.needs(one.created, one.dropped));
    }

    /// The keyspaces that are not listed any more.
    pub(crate) fn gone(&self) -> Gone {
        Gone { next_id: self.next_id, listed: self.by_id.keys().copied().collect() }
    }

    /// The drops of listed keyspaces, as deletions of all that is in them, for a merge to leave out what nothing can ask
    /// for. No run has them: the list says it.
    pub(crate) fn drops(&self) -> Vec<RangeTombstone> {
        let bound = |id: u32| id.to_be_bytes().to_vec();
        let dropped = self.by_id.values().filter_map(|one| Some((one.id, one.dropped?)));
        dropped
            .map(|(id, lsn)| RangeTombstone { start: bound(id), end: bound(id + 1), lsn, says: Says::Deleted })
            .collect()
    }

    /// The content of a file that lists them as of `to`.
    pub(crate) fn to_file(&self, identity: FileIdentity, to: Lsn, branch: Incarnation) -> Keyspaces {
        Keyspaces { identity, to, branch, next_id: self.next_id, list: self.iter().cloned().collect() }
    }
}
