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

/// One write of a transaction.
///
/// Its keyspace is by name; `None` if that was dropped since, and no reader can see it any more.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A key has this value from now on.
    Put {
        /// Its keyspace.
        keyspace: Option<Arc<str>>,
        /// The key.
        key: Key,
        /// Its value.
        value: Value,
    },
    /// A key was removed, if it was there.
    Delete {
        /// Its keyspace.
        keyspace: Option<Arc<str>>,
        /// The key.
        key: Key,
    },
    /// All keys of a range were removed.
    DeleteRange {
        /// Their keyspace.
        keyspace: Option<Arc<str>>,
        /// The first key of the range.
        from: Key,
        /// The first key behind the range; `None`: it goes to the end.
        to: Option<Key>,
    },
    /// A keyspace was made.
    CreateKeyspace {
        /// Its name.
        name: Arc<str>,
    },
    /// A keyspace was dropped with all that was in it.
    DropKeyspace {
        /// Its name.
        name: Option<Arc<str>>,
    },
}

/// Sizes only: what is in it is the user's.
impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("lsn", &self.receipt.lsn()).field("changes", &self.changes.len()).finish()
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, keyspace) = match self {
            Change::Put { keyspace, .. } => ("Put", keyspace.as_deref()),
            Change::Delete { keyspace, .. } => ("Delete", keyspace.as_deref()),
            Change::DeleteRange { keyspace, .. } => ("DeleteRange", keyspace.as_deref()),
            Change::CreateKeyspace { name } => ("CreateKeyspace", Some(&**name)),
            Change::DropKeyspace { name } => ("DropKeyspace", name.as_deref()),
        };
        f.debug_struct(what).field("keyspace", &keyspace).finish_non_exhaustive()
    }
}

/// The names of keyspaces by their ids.
#[derive(Default)]
pub(super) struct Names(BTreeMap<u32, Arc<str>>);

impl Names {
    fn of(&mut self, id: u32, pipeline: &Pipeline) -> Option<Arc<str>> {
        if let Some(name) = self.0.get(&id) {
            return Some(Arc::clone(name));
        }
        // No id is used twice.
        let trees = pipeline.index().trees_from(id);
        let tree = trees.first().filter(|tree| tree.id() == id)?;
        Some(Arc::clone(self.0.entry(id).or_insert_with(|| tree.name().into())))
    }

    /// What a record did, each with the id of its keyspace.
    pub(super) fn read(&mut self, batch: &Batch<'_>, pipeline: &Pipeline) -> Vec<(u32, Change)> {
        batch.iter().map(|op| (op.keyspace(), self.change(&op, pipeline))).collect()
    }

    fn change(&mut self, op: &Op<'_>, pipeline: &Pipeline) -> Change {
        match *op {
            Op::Put { keyspace, key, value } => {
                Change::Put { keyspace: self.of(keyspace, pipeline), key: key.into(), value: value.into() }
            }
            Op::Delete { keyspace, key } => Change::Delete { keyspace: self.of(keyspace, pipeline), key: key.into() },
            Op::DeleteRange { keyspace, from, to } => {
                Change::DeleteRange { keyspace: self.of(keyspace, pipeline), from: from.into(), to: to.map(Key::from) }
            }
            Op::CreateKeyspace { keyspace, name } => {
                let name: Arc<str> = name.into();
                self.0.insert(keyspace, Arc::clone(&name));
                Change::CreateKeyspace { name }
            }
            Op::DropKeyspace { keyspace } => {
                let name = self.of(keyspace, pipeline);
                self.0.remove(&keyspace);
                Change::DropKeyspace { name }
            }
        }
    }
}

/// A transaction, as it was read.
pub(super) struct Read {
    pub(super) receipt: Receipt,
    pub(super) changes: Vec<(u32, Change)>,
}

impl Read {
    /// All of it.
    pub(super) fn whole(self) -> Commit {
        self.only(|_, _| true)
    }

    /// What concerns somebody.
    pub(super) fn only(self, which: impl Fn(u32, &Change) -> bool) -> Commit {
        let of_interest = self.changes.into_iter().filter(|(id, change)| which(*id, change));
        Commit { receipt: self.receipt, changes: of_interest.map(|(_, change)| change).collect() }
    }
}

pub(super) type Next = Result<Option<Read>>;
