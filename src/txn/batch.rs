//! Blind write batches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::async_commit::{CommitFuture, Request};
use super::bounds::{KeyBounds, first_and_end};
use super::keyspace::Keyspace;
use super::pipeline::Pipeline;
use super::writes::{check_alive, check_bounds, check_key, check_value, refused};
use crate::base::error::Result;
use crate::base::types::{CommitMode, Lsn};
use crate::format::batch::BatchBuilder;
use crate::index::Tree;
use crate::log::{Receipt, WaitLimit, refuse_waiting_mode};

/// Writes that are committed together without having read anything: they never conflict.
///
/// It holds the writes in the order in which they were made; of several to one key the last one wins. Dropped without
/// a commit, nothing of it happens. A commit leaves it as it is: it can be committed again.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-batch-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{CommitMode, Engine};
/// let engine = Engine::open(&dir)?;
/// let users = engine.create_keyspace("users")?;
/// let logins = engine.create_keyspace("logins")?;
/// let mut batch = engine.batch()?;
/// batch.put(&users, "alice", "seen")?;
/// batch.delete(&logins, "alice")?;
/// batch.commit_with(CommitMode::Written)?;    // both or neither, after any crash
/// # drop(engine); std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
pub struct WriteBatch {
    pipeline: Arc<Pipeline>,
    ops: BatchBuilder,
    /// The keyspace written to first, which is mostly the only one.
    first: Option<Arc<Tree>>,
    /// The others.
    others: Vec<Arc<Tree>>,
}

impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (writes, bytes) = (self.ops.batch().len(), self.ops.len());
        f.debug_struct("WriteBatch").field("writes", &writes).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl WriteBatch {
    /// Bytes of memory for the writes to begin with: enough for some small ones.
    const ROOM: usize = 240;

    pub(crate) fn new(pipeline: &Arc<Pipeline>) -> Self {
        WriteBatch {
            pipeline: Arc::clone(pipeline),
            ops: BatchBuilder::with_capacity(Self::ROOM),
            first: None,
            others: Vec::new(),
        }
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) over the limits, and once the batch is over
    /// `max_transaction_bytes`, with which no commit takes it;
    /// [`KeyspaceDropped`](crate::ErrorKind::KeyspaceDropped), [`Forked`](crate::ErrorKind::Forked).
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let tree = keyspace.at(&self.pipeline, Lsn::new(u64::MAX))?;
        check_key(key.as_ref())?;
        check_value(value.as_ref())?;
        self.check_len()?;
        self.ops.put(tree.id(), key.as_ref(), value.as_ref()).map_err(refused)?;
        self.note(tree);
        Ok(())
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        let tree = keyspace.at(&self.pipeline, Lsn::new(u64::MAX))?;
        check_key(key.as_ref())?;
        self.check_len()?;
        self.ops.delete(tree.id(), key.as_ref()).map_err(refused)?;
        self.note(tree);
        Ok(())
    }

    /// Removes all keys of a range, as [`Transaction::delete_range`](crate::Transaction::delete_range): what the batch has put there
    /// before goes, too; what it puts there later stays.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl KeyBounds) -> Result<()> {
        let tree = keyspace.at(&self.pipeline, Lsn::new(u64::MAX))?;
        check_bounds(range.bounds())?;
        self.check_len()?;
        if let Some((from, to)) = first_and_end(range.bounds()) {
            self.ops.delete_range(tree.id(), &from, to.as_deref()).map_err(refused)?;
            self.note(tree);
        }
        Ok(())
    }

    /// Removes all keys, as [`WriteBatch::delete_range`]. The keyspace stays.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn clear(&mut self, keyspace: &Keyspace) -> Result<()> {
        self.delete_range(keyspace, ..)
    }

    /// Refuses what comes after a write that took it over the limit: nothing makes it smaller again.
    fn check_len(&self) -> Result<()> {
        self.pipeline.settings.check_record(self.ops.len() as u64)
    }

    fn note(&mut self, tree: &Arc<Tree>) {
        match &self.first {
            None => self.first = Some(Arc::clone(tree)),
            Some(first) if Arc::ptr_eq(first, tree) => {}
            // The last one first: writes to one keyspace mostly come together.
            Some(_) if self.others.iter().rev().any(|known| Arc::ptr_eq(known, tree)) => {}
            Some(_) => self.others.push(Arc::clone(tree)),
        }
    }

    /// The keyspaces that it writes to.
    fn trees(&self) -> impl Iterator<Item = &Arc<Tree>> {
        self.first.iter().chain(&self.others)
    }

    /// Commits in the engine's default mode.
    ///
    /// # Errors
    /// As [`Transaction::commit`](crate::Transaction::commit), [`Conflict`](crate::ErrorKind::Conflict) excepted.
    pub fn commit(&self) -> Result<Receipt> {
        self.commit_with(self.pipeline.settings.commit_mode)
    }

    /// Commits in `mode`.
    ///
    /// # Errors
    /// As [`WriteBatch::commit`].
    pub fn commit_with(&self, mode: CommitMode) -> Result<Receipt> {
        self.commit_within(mode, WaitLimit::Forever)
    }

    /// Commits without waiting for the device; the batch stays as it is if that cannot be.
    ///
    /// # Errors
    /// As [`Transaction::try_commit_with`](crate::Transaction::try_commit_with).
    pub fn try_commit_with(&self, mode: CommitMode) -> Result<Receipt> {
        refuse_waiting_mode(mode)?;
        self.commit_within(mode, WaitLimit::Never)
    }

    /// Commits, waiting for at most `time`.
    ///
    /// # Errors
    /// As [`Transaction::commit_timeout`](crate::Transaction::commit_timeout).
    pub fn commit_timeout(&self, mode: CommitMode, time: Duration) -> Result<Receipt> {
        self.commit_within(mode, WaitLimit::lasting(time))
    }

    /// Commits in `mode`, as [`Transaction::commit_async`](crate::Transaction::commit_async) does. The batch stays as it is.
    pub fn commit_async(&self, mode: CommitMode) -> CommitFuture {
        if self.ops.batch().is_empty() {
            let read = self.pipeline.check_open();
            let read = read.map(|()| self.pipeline.receipt_of_reads(self.pipeline.index_now().visible()));
            return CommitFuture::over(&self.pipeline, mode, read);
        }
        let trees: Vec<_> = self.trees().cloned().collect();
        let check = move || check_alive(trees.iter().map(|tree| &**tree));
        CommitFuture::new(&self.pipeline, mode, Request { ops: self.ops.clone(), check: Box::new(check) })
    }

    fn commit_within(&self, mode: CommitMode, limit: WaitLimit) -> Result<Receipt> {
        self.pipeline.check_open()?;
        let batch = self.ops.batch();
        if batch.is_empty() {
            return Ok(self.pipeline.receipt_of_reads(self.pipeline.index_now().visible()));
        }
        self.pipeline.commit(batch, mode, limit, &|| check_alive(self.trees().map(|tree| &**tree)))
    }
}
