//! A committed transaction, as a tail shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::base::error::Result;
use crate::format::batch::{Batch, Op};
use crate::index::{Key, Value};
use crate::log::Receipt;
use crate::txn::pipeline::Pipeline;

/// A transaction that was committed.
#[derive(Clone)]
#[non_exhaustive]
pub struct Commit {
    /// Where it is: its LSN, its token, whether it is durable by now.
    pub receipt: Receipt,
    /// What it did, in the order in which it takes effect: of several writes to one key the last one holds.
    pub changes: Vec<Change>,
}

/// A keyspace, as a tail knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ChangedKeyspace {
    /// No other keyspace of the database ever has it.
    pub id: u32,
    /// Its name; `None` if it was dropped before the tail began, and no reader can see it any more: then the id tells which of those that were made it is.
    pub name: Option<Arc<str>>,
}

/// One write of a transaction.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A key has this value from now on.
    Put {
        /// Its keyspace.
        keyspace: ChangedKeyspace,
        /// The key.
        key: Key,
        /// Its value.
        value: Value,
    },
    /// A key was removed, if it was there.
    Delete {
        /// Its keyspace.
        keyspace: ChangedKeyspace,
        /// The key.
        key: Key,
    },
    /// All keys of a range were removed.
    DeleteRange {
        /// Their keyspace.
        keyspace: ChangedKeyspace,
        /// The first key of the range.
        from: Key,
        /// The first key behind the range; `None`: it goes to the end.
        to: Option<Key>,
    },
    /// A keyspace was made.
    CreateKeyspace {
        /// The new one.
        keyspace: ChangedKeyspace,
    },
    /// A keyspace was dropped with all that was in it.
    DropKeyspace {
        /// The one that was.
        keyspace: ChangedKeyspace,
    },
}

impl Change {
    /// The keyspace that it is about.
    pub fn keyspace(&self) -> &ChangedKeyspace {
        match self {
            Change::Put { keyspace, .. }
            | Change::Delete { keyspace, .. }
            | Change::DeleteRange { keyspace, .. }
            | Change::CreateKeyspace { keyspace }
            | Change::DropKeyspace { keyspace } => keyspace,
        }
    }
}

/// Sizes only: what is in it is the user's.
impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("lsn", &self.receipt.lsn()).field("changes", &self.changes.len()).finish()
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Change::Put { .. } => "Put",
            Change::Delete { .. } => "Delete",
            Change::DeleteRange { .. } => "DeleteRange",
            Change::CreateKeyspace { .. } => "CreateKeyspace",
            Change::DropKeyspace { .. } => "DropKeyspace",
        };
        f.debug_struct(what).field("keyspace", self.keyspace()).finish_non_exhaustive()
    }
}

/// The names of keyspaces by their ids.
pub(super) struct Names(BTreeMap<u32, Option<Arc<str>>>);

impl Names {
    /// Those that are known now: one that is dropped before the tail has come so far is known by its name all the same.
    pub(super) fn known(pipeline: &Pipeline) -> Self {
        Names(pipeline.index_now().trees_from(0).iter().map(|tree| (tree.id(), Some(tree.name().into()))).collect())
    }

    fn of(&mut self, id: u32, pipeline: &Pipeline) -> ChangedKeyspace {
        let known = || pipeline.index().known_by_id(id).map(|tree| tree.name().into());
        ChangedKeyspace { id, name: self.0.entry(id).or_insert_with(known).clone() }
    }

    /// What a record did.
    pub(super) fn read(&mut self, batch: &Batch<'_>, pipeline: &Pipeline) -> Vec<Change> {
        batch.iter().map(|op| self.change(&op, pipeline)).collect()
    }

    fn change(&mut self, op: &Op<'_>, pipeline: &Pipeline) -> Change {
        if let Op::CreateKeyspace { keyspace, name } = op {
            self.0.insert(*keyspace, Some((*name).into()));
        }
        let keyspace = self.of(op.keyspace(), pipeline);
        match *op {
            Op::Put { key, value, .. } => Change::Put { keyspace, key: key.into(), value: value.into() },
            Op::Delete { key, .. } => Change::Delete { keyspace, key: key.into() },
            Op::DeleteRange { from, to, .. } => {
                Change::DeleteRange { keyspace, from: from.into(), to: to.map(Key::from) }
            }
            Op::CreateKeyspace { .. } => Change::CreateKeyspace { keyspace },
            Op::DropKeyspace { .. } => {
                self.0.remove(&keyspace.id);
                Change::DropKeyspace { keyspace }
            }
        }
    }
}

/// The next one; `None` if there is none in time.
pub(super) type Next = Result<Option<Commit>>;
