//! A reader's consistent view.

use std::fmt;
use std::sync::Arc;

use super::bounds::{KeyBounds, end_of_prefix, prefix_range};
use super::entries::Entries;
use super::keyspace::Keyspace;
use super::pipeline::Pipeline;
use super::writes::Own;
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::index::{SnapshotGuard, Value};
use crate::log::Receipt;

/// The state of all keyspaces at one LSN, unchanged for as long as it is held.
///
/// A commit is visible from the moment it takes its place in the log, which is before it is durable; the snapshot can
/// tell the difference ([`Snapshot::is_durable`]) and wait it out ([`Snapshot::wait_durable`]).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-snapshot-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{CommitMode, Engine};
/// let engine = Engine::open(&dir)?;
/// let users = engine.create_keyspace("users")?;
/// let mut batch = engine.batch()?;
/// batch.put(&users, "alice", "1")?;
/// batch.put(&users, "bob", "2")?;
/// batch.commit_with(CommitMode::Async)?;
///
/// let snapshot = engine.snapshot()?;          // sees the batch, durable or not
/// let keys: Vec<_> = snapshot.range(&users, "a".."c")?.rev().map(|entry| entry.map(|(key, _)| key)).collect::<Result<_, _>>()?;
/// assert_eq!(keys, [b"bob".as_slice(), b"alice"]);
/// assert_eq!(snapshot.prefix(&users, "al")?.count(), 1);
/// snapshot.wait_durable()?;                   // from here on no crash can take back what it showed
/// assert_eq!(engine.durable_snapshot()?.lsn(), snapshot.lsn());
/// # drop(snapshot);
/// # drop(engine); std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Snapshot {
    hold: SnapshotGuard,
    /// Dropped, and so pruning, after the hold is gone.
    pruner: Pruner,
}

/// How many keys a keyspace has: [`Snapshot::len`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Len {
    /// So many: all of them are in memory, and nothing was committed to the keyspace since.
    Exact(usize),
    /// About so many. Commits since are counted. Of keys that are not in memory, those in tables were counted at the open, and overwritten ones
    /// may have been counted more than once. To count them, read them: `iter(..)?.count()`.
    About(usize),
}

impl Len {
    /// The number, exact or not.
    pub fn get(self) -> usize {
        match self {
            Len::Exact(keys) | Len::About(keys) => keys,
        }
    }
}

/// Prunes a part of what a snapshot kept; the next snapshot that goes, the next commit, or the pruner prunes the rest.
#[derive(Clone)]
struct Pruner(Arc<Pipeline>);

/// Old versions that are pruned when a snapshot goes, at most.
const PRUNED_AT_DROP: usize = 1024;

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("lsn", &self.lsn()).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(pipeline: &Arc<Pipeline>, hold: SnapshotGuard) -> Self {
        Snapshot { hold, pruner: Pruner(Arc::clone(pipeline)) }
    }

    fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pruner.0
    }

    /// The LSN of the newest commit that it sees.
    pub fn lsn(&self) -> Lsn {
        self.hold.lsn()
    }

    /// Whether everything it sees is durable by now.
    pub fn is_durable(&self) -> bool {
        self.pipeline().log.durable() >= self.lsn()
    }

    /// Makes everything it sees durable: waits for the newest commit that it sees, and for none after it.
    ///
    /// # Errors
    /// [`Indeterminate`](crate::ErrorKind::Indeterminate) if a write or fsync failed.
    pub fn wait_durable(&self) -> Result<()> {
        self.pipeline().log.check_process()?;
        self.pipeline().log.flush_to(self.lsn().get())
    }

    /// [`Snapshot::wait_durable`] for an async program: to poll it blocks no thread.
    ///
    /// # Errors
    /// As there.
    pub async fn wait_durable_async(&self) -> Result<()> {
        self.pipeline().receipt_of_reads(self.lsn()).await
    }

    /// The value of `key`. What is not in memory is read from tables.
    ///
    /// # Errors
    /// [`KeyspaceDropped`](crate::ErrorKind::KeyspaceDropped) if the keyspace was dropped before this snapshot;
    /// [`Damaged`](crate::ErrorKind::Damaged) with the file and the position, or [`Io`](crate::ErrorKind::Io), if it has to be read
    /// from a table and cannot be; [`Forked`](crate::ErrorKind::Forked).
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        keyspace.at(self.pipeline(), self.lsn())?.get(key.as_ref(), self.lsn())
    }

    /// The commit that wrote the value of `key`, as a receipt: by its token, the value is the same for as long as the key is neither written nor
    /// deleted, which tells a client that what it has read is what there is.
    ///
    /// In a copy that [`Engine::save_to`](crate::Engine::save_to) or a salvage has made it is the commit that copied the value. If the history with that commit was
    /// shortened by an explicit call, the token may be one of no incarnation.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn written_by(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Receipt>> {
        let written = keyspace.at(self.pipeline(), self.lsn())?.written_at(key.as_ref(), self.lsn())?;
        Ok(written.map(|lsn| self.pipeline().receipt_of_reads(lsn)))
    }

    /// The entries in a range of keys, such as `"a".."b"` or `..`: see [`KeyBounds`].
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyBounds) -> Result<Entries> {
        let tree = keyspace.at(self.pipeline(), self.lsn())?;
        Ok(Entries::new(tree, range.bounds(), Own::default(), &self.hold))
    }

    /// All entries.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn iter(&self, keyspace: &Keyspace) -> Result<Entries> {
        self.range(keyspace, ..)
    }

    /// The entries whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Result<Entries> {
        let tree = keyspace.at(self.pipeline(), self.lsn())?;
        let end = end_of_prefix(prefix.as_ref());
        Ok(Entries::new(tree, prefix_range(prefix.as_ref(), end.as_deref()), Own::default(), &self.hold))
    }

    /// How many keys a keyspace has. No key is looked at: it is exact where that is known.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn len(&self, keyspace: &Keyspace) -> Result<Len> {
        let tree = keyspace.at(self.pipeline(), self.lsn())?;
        Ok(tree.len_at(self.lsn()).map_or_else(|| Len::About(tree.len_estimate()), Len::Exact))
    }

    /// The keyspace called `name` as this snapshot sees it.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked).
    pub fn keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        self.pipeline().log.check_process()?;
        let tree = self.pipeline().index().keyspace_by_name(name, self.lsn())?;
        Ok(tree.map(|tree| Keyspace::new(self.pipeline(), tree)))
    }

    /// The names of the keyspaces that it sees, in order.
    ///
    /// # Errors
    /// As [`Snapshot::keyspace`].
    pub fn keyspace_names(&self) -> Result<Vec<String>> {
        self.pipeline().log.check_process()?;
        let trees = self.pipeline().index().keyspaces(self.lsn())?;
        Ok(trees.iter().map(|tree| tree.name().to_owned()).collect())
    }
}

impl Drop for Pruner {
    fn drop(&mut self) {
        // The memory of a forked child is its own, and its locks may be held for ever.
        if self.0.log.is_of_this_process() {
            self.0.index().prune(self.0.log.durable(), PRUNED_AT_DROP);
        }
    }
}
