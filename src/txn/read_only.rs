//! The state of a database that was read without opening it.

use std::fmt;
use std::sync::Arc;

use super::bounds::{KeyBounds, end_of_prefix, prefix_range};
use super::entries::Entries;
use super::keyspace::no_such_keyspace;
use super::writes::Own;
use crate::base::error::{Error, Result};
use crate::base::types::{Lsn, Outcome, Token};
use crate::disk::LockHeld;
use crate::index::{Index, SnapshotGuard, Tree, Value};
use crate::log::Recovery;
use crate::log::receipts::outcome::Fates;
use crate::rt::process;

/// What a database held when it was read: see [`Engine::read_only`](crate::Engine::read_only).
///
/// It holds no lock. Others may open the database meanwhile; this stays as it was. In memory is what the log had behind the
/// tables, and up to about 32 MiB of where in the tables what is. What tables hold is read from their files each time. These stay
/// open, up to a quarter of the files that the process may have open, and those that were replaced since take room on the disk
/// until this is dropped. On a network file system, a writer on another host may end that: reads fail then. On Windows the
/// directory can be neither renamed nor removed meanwhile.
pub struct ReadOnly {
    index: Index,
    hold: SnapshotGuard,
    report: Recovery,
    fates: Fates,
    /// That of the process that read it: in a child, a thread that is not there may hold the lock of what tables keep.
    generation: u64,
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnly").field("lsn", &self.lsn()).finish_non_exhaustive()
    }
}

impl ReadOnly {
    pub(crate) fn new(index: Index, report: Recovery, fates: Fates) -> Self {
        ReadOnly { hold: index.hold(), index, report, fates, generation: process::generation() }
    }

    /// Everything up to here is in it: after a crash, what the next open will keep; beside a writer, what it had written.
    pub fn lsn(&self) -> Lsn {
        self.report.recovered_to
    }

    /// Whether a program had the database open: then it may have gone on since, and of what is above
    /// [`Recovery::proven_durable`] a power loss may take something. Where the database could not be locked, that is not
    /// known, and this is `false`: see [`Recovery::lock`].
    pub fn has_writer(&self) -> bool {
        self.report.lock == LockHeld::Beside
    }

    /// The account of the reading: whether the database was closed, what an open would drop, and which locks were held.
    pub fn recovery(&self) -> &Recovery {
        &self.report
    }

    /// What became of the commit that a token names: as [`Engine::outcome`](crate::Engine::outcome) would say of a database that was closed. After a crash
    /// [`Pending`](Outcome::Pending) is what the next open will keep, and make durable. Beside a writer it is what is not durable yet, as far as can be seen.
    pub fn outcome(&self, token: &Token) -> Outcome {
        self.fates.outcome(token)
    }

    /// The names of the keyspaces, in order.
    ///
    /// # Errors
    /// None today: the names are in memory.
    pub fn keyspace_names(&self) -> Result<Vec<String>> {
        Ok(self.index.keyspaces(self.hold.lsn())?.iter().map(|tree| tree.name().to_owned()).collect())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`NoSuchKeyspace`](crate::ErrorKind::NoSuchKeyspace); [`Damaged`](crate::ErrorKind::Damaged) and
    /// [`Io`](crate::ErrorKind::Io) from tables; [`Removed`](crate::ErrorKind::Removed) if there are more tables than files that
    /// may stay open, and one of the others was replaced since: read the database again. [`Forked`](crate::ErrorKind::Forked) in
    /// a forked child.
    pub fn get(&self, keyspace: &str, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.keyspace(keyspace)?.get(key.as_ref(), self.hold.lsn())
    }

    /// All entries of a keyspace.
    ///
    /// # Errors
    /// As [`ReadOnly::get`].
    pub fn iter(&self, keyspace: &str) -> Result<Entries> {
        self.range(keyspace, ..)
    }

    /// The entries of a keyspace in a range of keys, such as `"a".."b"` or `..`: see [`KeyBounds`].
    ///
    /// # Errors
    /// As [`ReadOnly::get`].
    pub fn range(&self, keyspace: &str, range: impl KeyBounds) -> Result<Entries> {
        Ok(Entries::new(&self.keyspace(keyspace)?, range.bounds(), Own::default(), &self.hold))
    }

    /// The entries of a keyspace whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`ReadOnly::get`].
    pub fn prefix(&self, keyspace: &str, prefix: impl AsRef<[u8]>) -> Result<Entries> {
        let end = end_of_prefix(prefix.as_ref());
        let range = prefix_range(prefix.as_ref(), end.as_deref());
        Ok(Entries::new(&self.keyspace(keyspace)?, range, Own::default(), &self.hold))
    }

    fn keyspace(&self, name: &str) -> Result<Arc<Tree>> {
        if !process::is_current(self.generation) {
            return Err(Error::forked());
        }
        self.index.keyspace_by_name(name, self.hold.lsn())?.ok_or_else(|| no_such_keyspace(name))
    }
}
