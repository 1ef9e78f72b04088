//! Serializable transactions.

use std::fmt;
use std::sync::Arc;

use super::async_commit::{CommitFuture, Request};
use super::bounds::{KeyBounds, end_of_prefix, prefix_range};
use super::entries::Entries;
use super::keyspace::Keyspace;
use super::pipeline::{Check, Pipeline};
use super::reads::Reads;
use super::writes::Writes;
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::types::{CommitMode, Lsn};
use crate::index::{Index, KeyRange, SnapshotGuard, Tree, Value};
use crate::log::{Receipt, WaitLimit};

/// A strictly serializable transaction, optimistic: it reads a snapshot and its own writes, and finds out at commit
/// whether anything that it read has changed since. How durable the commit is, it says at commit.
///
/// Dropped without a commit, it is rolled back. It keeps other transactions from nothing; run it again after
/// [`Conflict`](crate::ErrorKind::Conflict):
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-tx-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{Engine, ErrorKind};
/// let engine = Engine::open(&dir)?;
/// let counters = engine.create_keyspace("counters")?;
/// let receipt = loop {
///     let mut tx = engine.begin()?;
///     let count = tx.get(&counters, b"visits")?.map_or(0, |value| value[0]);
///     tx.put(&counters, b"visits", [count + 1])?;
///     match tx.commit() {
///         Err(error) if error.kind() == ErrorKind::Conflict => continue,
///         other => break other?,
///     }
/// };
/// assert!(receipt.is_durable());
/// # drop(engine); std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
///
/// In a mode other than `Sync` a crash can take the last counts, and they are handed out again: see [`CommitMode`].
///
/// A transaction that was committed cannot be used again, which the compiler knows:
///
/// ```compile_fail,E0382
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = forelog::Engine::in_memory()?;
/// # let counters = engine.create_keyspace("counters")?;
/// let mut tx = engine.begin()?;
/// tx.try_commit_with(forelog::CommitMode::Async)?;
/// tx.put(&counters, b"visits", [1])?;
/// # Ok(()) }
/// ```
pub struct Transaction {
    pipeline: Arc<Pipeline>,
    hold: SnapshotGuard,
    reads: Reads,
    writes: Writes,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (snapshot, writes) = (self.snapshot_lsn(), self.writes.len());
        f.debug_struct("Transaction").field("snapshot", &snapshot).field("writes", &writes).finish_non_exhaustive()
    }
}

impl Transaction {
    pub(crate) fn new(pipeline: &Arc<Pipeline>, hold: SnapshotGuard) -> Self {
        Transaction { pipeline: Arc::clone(pipeline), hold, reads: Reads::default(), writes: Writes::default() }
    }

    /// The LSN of the newest commit that it sees.
    pub fn snapshot_lsn(&self) -> Lsn {
        self.hold.lsn()
    }

    fn tree<'k>(&self, keyspace: &'k Keyspace) -> Result<&'k Arc<Tree>> {
        keyspace.at(&self.pipeline, self.hold.lsn())
    }

    /// The value of `key`, own writes included.
    ///
    /// # Errors
    /// [`KeyspaceDropped`](crate::ErrorKind::KeyspaceDropped); [`InvalidInput`](crate::ErrorKind::InvalidInput) for a
    /// keyspace of another engine; [`Damaged`](crate::ErrorKind::Damaged) or [`Io`](crate::ErrorKind::Io) if it has to be read
    /// from a table and cannot be; [`Forked`](crate::ErrorKind::Forked).
    pub fn get(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (tree, key) = (self.tree(keyspace)?, key.as_ref());
        if let Some(own) = self.writes.get(tree, key) {
            return Ok(own.clone());
        }
        self.reads.key(tree, key);
        tree.get(key, self.hold.lsn())
    }

    /// The commit that wrote the value of `key`, as [`Snapshot::written_by`](crate::Snapshot::written_by); `None` for an own write, too. The key counts as read.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn written_by(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Receipt>> {
        let (tree, key) = (self.tree(keyspace)?, key.as_ref());
        if self.writes.get(tree, key).is_some() {
            return Ok(None);
        }
        self.reads.key(tree, key);
        Ok(tree.written_at(key, self.hold.lsn())?.map(|lsn| self.pipeline.receipt_of_reads(lsn)))
    }

    /// The entries in a range of keys, such as `"a".."b"` or `..` (see [`KeyBounds`]), with the writes made so far.
    ///
    /// The range counts as read as far as the iterator has shown it: a key that appears, changes or goes there later is a conflict, and
    /// one beyond is none. So who takes the first entry of a queue conflicts with others who take it, and not with those who add to its
    /// end. If the iterator has come to its end, all of the range was read; so it was if the iterator is still there at the
    /// commit, since it may show the rest later.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn range(&mut self, keyspace: &Keyspace, range: impl KeyBounds) -> Result<Entries> {
        let tree = self.tree(keyspace)?;
        Ok(self.read_range(tree, range.bounds()))
    }

    /// All entries, as [`Transaction::range`].
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn iter(&mut self, keyspace: &Keyspace) -> Result<Entries> {
        self.range(keyspace, ..)
    }

    /// The entries whose keys begin with `prefix`, as [`Transaction::range`].
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn prefix(&mut self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Result<Entries> {
        let tree = self.tree(keyspace)?;
        let end = end_of_prefix(prefix.as_ref());
        Ok(self.read_range(tree, prefix_range(prefix.as_ref(), end.as_deref())))
    }

    fn read_range(&mut self, tree: &Arc<Tree>, range: KeyRange<'_>) -> Entries {
        let consumed = self.reads.range(tree, range);
        Entries::new(tree, range, self.writes.range(tree, range), &self.hold).watched_by(consumed)
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) over the limits (keys 65,535 bytes, values 64 MiB), and for a
    /// write that makes the transaction larger when it is over `max_transaction_bytes` already; otherwise as
    /// [`Transaction::get`].
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let tree = self.tree(keyspace)?;
        self.writes.put(tree, key.as_ref(), value.as_ref(), &self.pipeline.settings)
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        let tree = self.tree(keyspace)?;
        self.writes.delete(tree, key.as_ref(), &self.pipeline.settings)
    }

    /// Removes all keys of a range (see [`KeyBounds`]), whatever their number: it takes one record in the log, and the commit looks
    /// at none of them. Own writes to the range that were made before are gone, too; those that follow stay.
    ///
    /// It counts as a write to every key of the range, there or not: other transactions that have read one of them, or a part of
    /// the range, get [`Conflict`](ErrorKind::Conflict). The memory and the disk space of what was deleted come back in the
    /// background.
    ///
    /// The first commit in the life of a database that deletes a range marks the database, which takes some milliseconds, in
    /// every mode: a forelog that does not know range deletions refuses it by name from then on.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let readings = engine.create_keyspace("readings")?;
    /// # let mut batch = engine.batch()?;
    /// # for day in ["2026-01-30", "2026-01-31", "2026-02-01"] { batch.put(&readings, day, "21.5")?; }
    /// # batch.commit()?;
    /// let mut tx = engine.begin()?;
    /// tx.delete_range(&readings, .."2026-02")?;
    /// tx.put(&readings, "2026-01-01", "kept")?;
    /// assert_eq!(tx.iter(&readings)?.count(), 2);
    /// tx.commit()?;
    /// # assert_eq!(engine.snapshot()?.iter(&readings)?.count(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl KeyBounds) -> Result<()> {
        let tree = self.tree(keyspace)?;
        self.writes.delete_range(tree, range.bounds(), &self.pipeline.settings)
    }

    /// Removes all keys, as [`Transaction::delete_range`]. The keyspace stays.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn clear(&mut self, keyspace: &Keyspace) -> Result<()> {
        self.delete_range(keyspace, ..)
    }

    /// Commits in the engine's default mode.
    ///
    /// A transaction that wrote nothing commits without waiting; its receipt becomes durable with the newest commit
    /// that it could read.
    ///
    /// # Errors
    /// This list is complete.
    ///
    /// | kind | the commit | next |
    /// |---|---|---|
    /// | [`Conflict`](ErrorKind::Conflict) | not done | run the transaction again |
    /// | [`DiskFull`](ErrorKind::DiskFull) | not done: the log cannot grow; earlier commits stay, the engine goes on | free some space and try again |
    /// | [`Io`](ErrorKind::Io) | not done: a segment, HISTORY or a thread of the log could not be prepared, for want of descriptors, memory or permission, or by an error in a file that nothing depends on yet; the engine goes on | try again |
    /// | [`KeyspaceDropped`](ErrorKind::KeyspaceDropped), [`InvalidInput`](ErrorKind::InvalidInput) (over `max_transaction_bytes`) | not done | correct the call |
    /// | [`Poisoned`](ErrorKind::Poisoned) | not done: a write or fsync failed, by now or in this call | close, check the disk, reopen |
    /// | [`Closed`](ErrorKind::Closed), [`Forked`](ErrorKind::Forked) | not done | open the database |
    /// | [`Indeterminate`](ErrorKind::Indeterminate), with a token | in doubt: a write or fsync failed while it was in flight | reopen, and ask for the outcome of the token |
    ///
    /// [`Error::is_retryable`](crate::Error::is_retryable) says whether trying again can help,
    /// [`Error::token`](crate::Error::token) whether the commit has its place.
    pub fn commit(self) -> Result<Receipt> {
        let mode = self.pipeline.settings.commit_mode;
        self.commit_with(mode)
    }

    /// Commits in `mode`.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit_with(self, mode: CommitMode) -> Result<Receipt> {
        self.commit_within(mode, WaitLimit::Forever)
    }

    /// Commits in `mode`, for an async program: the future completes when the commit has what the mode promises. To poll it blocks no
    /// thread: it makes no call to the disk, and waits neither for room in the loss budget nor for a log segment. Nothing happens
    /// before the first poll. After `WouldBlock` of [`Transaction::try_commit_with`], this is what can be awaited.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let orders = engine.create_keyspace("orders")?;
    /// use forelog::CommitMode;
    /// let order = async {
    ///     let mut tx = engine.begin()?;
    ///     tx.put(&orders, "7", "two loaves")?;
    ///     let receipt = tx.commit_async(CommitMode::Within(std::time::Duration::from_millis(5))).await?;
    ///     receipt.clone().await?; // durable, too
    ///     Ok::<_, forelog::Error>(receipt.token())
    /// };
    /// # let mut order = std::pin::pin!(order);
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # while order.as_mut().poll(&mut context).is_pending() { std::thread::yield_now(); }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Transaction::commit`], when it completes.
    pub fn commit_async(self, mode: CommitMode) -> CommitFuture {
        let pipeline = Arc::clone(&self.pipeline);
        if self.writes.is_empty() {
            let read = pipeline.check_open().map(|()| pipeline.receipt_of_reads(self.hold.lsn()));
            return CommitFuture::over(&pipeline, mode, read);
        }
        match self.writes.encode(&pipeline.settings) {
            Ok(ops) => CommitFuture::new(&pipeline, mode, Request { ops, check: Box::new(self) }),
            Err(error) => CommitFuture::over(&pipeline, mode, Err(error)),
        }
    }

    pub(super) fn commit_within(&self, mode: CommitMode, limit: WaitLimit) -> Result<Receipt> {
        self.pipeline.check_open()?;
        if self.writes.is_empty() {
            return Ok(self.pipeline.receipt_of_reads(self.hold.lsn()));
        }
        let writes = self.writes.encode(&self.pipeline.settings)?;
        self.pipeline.commit(writes.batch(), mode, limit, self)
    }

    /// Gives the transaction up. Dropping it does the same.
    pub fn rollback(self) {}
}

impl Check for Transaction {
    fn depends_on_writes(&self) -> bool {
        !self.reads.is_empty()
    }

    fn check(&self, _index: &Index) -> Result<()> {
        self.writes.check_alive()?;
        self.reads.check(self.hold.lsn())
    }
}
