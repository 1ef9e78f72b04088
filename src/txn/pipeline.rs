//! The commit pipeline: the steps of a commit, in order.
//!
//! 1. Outside every lock the writes are encoded and their checksum is computed.
//! 2. The order lock is taken, which makes steps 2 to 5 one. The reads are validated against everything that took its
//!    place before; a conflict ends it here.
//! 3. The record takes its place in the log, within the loss budget. Without room, the lock is given up, the room
//!    waited for, and everything is done again from step 2.
//! 4. The writes are applied to the index under the record's LSN.
//! 5. The LSN becomes visible, and the order lock is given up.
//! 6. Without any lock, what the commit mode promises is waited for.
//!
//! Steps 4 and 5 are done for several small commits together: a commit leaves its writes with the order lock, and
//! whoever comes to look at the index (a snapshot, a transaction that validates what it has read) does them for all that
//! were left; or the one who leaves the sixteenth write. So nobody ever sees the difference, and the waits for memory,
//! which are most of what a commit costs, overlap. What makes or drops a keyspace is not left.
//!
//! A `Sync` commit that is alone has its flush begin between 3 and 4, without the lock, and does steps 4 and 5 while the
//! device works, unless somebody has done them by then.
//!
//! A crash between any two steps is harmless: before 3 nothing happened, after it the log decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::prune::{Prunable, Pruner};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::{CommitMode, Lsn};
use crate::format::batch::{Batch, BatchBuilder};
use crate::index::{Commit, Index};
use crate::log::{LogInner, LoneFlush, Prepared, Receipt, Refused, Stall, WaitLimit};
use crate::rt::sync::{AtomicBool, Mutex};

/// What transactions need of an engine.
pub(crate) struct Pipeline {
    /// Tells the handles of one open engine from those of another.
    pub(crate) id: u64,
    index: Index,
    pub(crate) log: Arc<LogInner>,
    pub(crate) settings: Settings,
    /// Guards the order in which commits take their place, in the log and in the index alike.
    order: Mutex<Order>,
    /// There is an acknowledged commit that is not in the index yet. Set and cleared under the order lock.
    is_behind: AtomicBool,
    closed: AtomicBool,
    pruner: Pruner,
}

/// What the order lock guards.
#[derive(Default)]
struct Order {
    /// The newest commits, if they have their places in the log and were not applied yet. Whoever needs them in the index
    /// applies them.
    unapplied: Vec<Commit>,
    /// Their operations.
    ops: BatchBuilder,
}

impl Order {
    /// So many operations are applied at once: most of what one alone costs is the wait for memory.
    const ENOUGH: usize = 16;
    /// A batch of more bytes takes longer to be copied than it would wait.
    const MOST_TO_WAIT: usize = 4 << 10;
    /// A batch of more bytes is applied by the one who has it, who would hold the right to sync for too long.
    const MOST_BESIDE_A_FLUSH: usize = 64 << 10;

    /// Whether `batch` can be left to be applied with others. Whether a keyspace is there must be known at once.
    fn can_wait(batch: &Batch<'_>) -> bool {
        batch.only_writes() && batch.len() < Self::ENOUGH && batch.bytes().len() <= Self::MOST_TO_WAIT
    }

    /// Whether `batch` can be left to be applied while the device works.
    fn can_go_beside_a_flush(batch: &Batch<'_>) -> bool {
        batch.only_writes() && batch.bytes().len() <= Self::MOST_BESIDE_A_FLUSH
    }

    fn leave(&mut self, lsn: Lsn, batch: &Batch<'_>) {
        if self.unapplied.is_empty() {
            self.ops.clear();
        }
        self.ops.append(batch);
        self.unapplied.push(Commit { lsn, ops: batch.len() });
    }

    fn has_enough(&self) -> bool {
        // A commit counts also if it has no operations: what is salvaged may have none.
        self.ops.batch().len().max(self.unapplied.len()) >= Self::ENOUGH
    }

    /// Applies what was left.
    fn catch_up(&mut self, pipeline: &Pipeline) -> std::result::Result<(), Refused> {
        if !self.unapplied.is_empty() {
            // Not again, should it panic.
            let mut commits = std::mem::take(&mut self.unapplied);
            let applied = pipeline.apply(&commits, &self.ops.batch());
            commits.clear();
            self.unapplied = commits;
            applied?;
        }
        // Not before they are visible: a reader who finds it cleared does not come here.
        pipeline.is_behind.store(false, Ordering::Release);
        Ok(())
    }
}

/// A commit that has its place in the log and is not in the index. If it stays so, by an error or a panic, the log stops:
/// readers and later commits must not go on as if nothing had happened, nor whoever waits for it be told that it is there.
struct Unapplied<'a> {
    log: &'a LogInner,
    is_applied: bool,
}

impl Drop for Unapplied<'_> {
    fn drop(&mut self) {
        if !self.is_applied {
            // The error is there already, if it was one, and its alarm goes up with it.
            self.log.stop(Error::bug("a commit could not be applied to the index")).left_to_the_flusher();
        }
    }
}

/// A commit that has its place in the log.
struct Placed<'a> {
    lsn: Lsn,
    /// The flush that was begun for it.
    flush: Option<LoneFlush<'a>>,
    /// It could not be applied, which has stopped the log.
    failed: Option<Refused>,
}

/// Looks, under the order lock, whether a commit may still take its place.
#[derive(Clone, Copy)]
pub(crate) enum Check<'a> {
    /// At nothing that a write may change.
    Keyspaces(&'a dyn Fn() -> Result<()>),
    /// At everything before.
    Everything(&'a dyn Fn(&Index) -> Result<()>),
}

impl Pipeline {
    pub(crate) fn new(index: Index, log: Arc<LogInner>, settings: Settings) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (is_behind, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        let (order, pruner) = (Mutex::default(), Pruner::default());
        Pipeline { id, index, log, settings, order, is_behind, closed, pruner }
    }

    /// Refuses a handle whose engine was closed, or that crossed `fork()`.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.log.check_process()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the engine was closed: open it again"));
        }
        Ok(())
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Commits `batch` in `mode`.
    pub(crate) fn commit(
        self: &Arc<Self>,
        batch: Batch<'_>,
        mode: CommitMode,
        limit: WaitLimit,
        check: Check<'_>,
    ) -> Result<Receipt> {
        let record = self.log.prepare(batch.bytes())?;
        let Placed { lsn, flush, failed } = loop {
            let placed = self.take_place(&record, &batch, mode, limit, check);
            match placed.map_err(|refused| refused.raise(&*self.log))? {
                Ok(placed) => break placed,
                Err(stall) => self.log.wait_for_room(stall, &record, limit)?,
            }
        };
        if let Some(refused) = failed {
            // It has its place, whatever has become of it, or of those that were left: its error names it.
            let _ = refused.raise(&*self.log);
            self.log.verdict_on(lsn.get())?;
        }
        self.pruner.wake(self);
        if let Some(flush) = flush {
            let mut refused = None;
            flush.run(|| refused = self.order.lock().catch_up(self).err());
            // What is waited for below tells of the failure.
            let _ = refused.map(|refused| refused.raise(&*self.log));
        }
        self.log.wait_for_mode(lsn, mode, limit)?;
        Ok(Receipt::new(&self.log, lsn))
    }

    /// Steps 2 to 5, but that a flush begins between 3 and 4 if one is returned.
    fn take_place(
        &self,
        record: &Prepared<'_>,
        batch: &Batch<'_>,
        mode: CommitMode,
        limit: WaitLimit,
        check: Check<'_>,
    ) -> std::result::Result<std::result::Result<Placed<'_>, Stall>, Refused> {
        let mut order = self.order.lock();
        let looks = matches!(check, Check::Everything(_));
        // Before it takes its place: what is large keeps the lock for long, and a reader who has nothing to apply does not wait.
        if looks || !Order::can_wait(batch) {
            order.catch_up(self)?;
        }
        match check {
            Check::Keyspaces(check) => check()?,
            Check::Everything(check) => check(&self.index)?,
        }
        let lsn = match self.log.reserve(record, mode)? {
            Ok(lsn) => lsn,
            Err(stall) => return Ok(Err(stall)),
        };
        if mode == CommitMode::Sync
            && limit == WaitLimit::Forever
            && Order::can_go_beside_a_flush(batch)
            && let Some(flush) = self.log.lead_alone()
        {
            order.leave(lsn, batch);
            return Ok(Ok(Placed { lsn, flush: Some(flush), failed: None }));
        }
        let applied = if Order::can_wait(batch) {
            order.leave(lsn, batch);
            self.is_behind.store(true, Ordering::Release);
            if order.has_enough() { order.catch_up(self) } else { Ok(()) }
        } else {
            self.apply(&[Commit { lsn, ops: batch.len() }], batch)
        };
        Ok(Ok(Placed { lsn, flush: None, failed: applied.err() }))
    }

    /// Steps 4 and 5, under the order lock.
    fn apply(&self, commits: &[Commit], batch: &Batch<'_>) -> std::result::Result<(), Refused> {
        let Some(last) = commits.last() else { return Ok(()) };
        let mut applying = Unapplied { log: &self.log, is_applied: false };
        self.index.apply_all(commits, batch, self.log.durable()).map_err(|error| {
            let error = Error::bug(error);
            let alarm = Some(self.log.stop(error.clone()));
            Refused { error, alarm }
        })?;
        self.index.publish(last.lsn);
        applying.is_applied = true;
        Ok(())
    }

    /// The index as far as it was applied.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The index, for somebody who is to see every commit that was acknowledged so far.
    pub(crate) fn index_now(&self) -> &Index {
        // Behind a fork the lock may be held by a thread that is not there.
        if self.is_behind.load(Ordering::Acquire) && self.log.check_process().is_ok() {
            self.catch_up();
        }
        &self.index
    }

    /// Applies what was left. A failure stops the log; what is in the index can be read.
    fn catch_up(&self) {
        let caught_up = self.order.lock().catch_up(self);
        if let Err(refused) = caught_up {
            let _ = refused.raise(&*self.log);
        }
    }

    /// Ends the thread that prunes, and waits for that.
    pub(crate) fn stop_pruner(&self) {
        self.pruner.stop(self);
    }

    /// A receipt for a transaction that wrote nothing: durable as soon as everything that it could read is.
    pub(crate) fn receipt_of_reads(&self, lsn: Lsn) -> Receipt {
        Receipt::new(&self.log, lsn)
    }
}

impl Prunable for Pipeline {
    fn index(&self) -> &Index {
        self.index()
    }

    fn log(&self) -> &LogInner {
        &self.log
    }

    fn catch_up(&self) {
        self.catch_up();
    }
}
