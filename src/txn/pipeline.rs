//! The commit pipeline: the steps of a commit, in order.
//!
//! 1. Outside every lock the writes are encoded and their checksum is computed. If the background does not keep up, the
//!    commit waits.
//! 2. The order lock is taken, which makes steps 2 to 5 one. The reads are validated against everything that took its
//!    place before; a conflict ends it here.
//! 3. The record takes its place in the log, within the loss budget. Without room, the lock is given up, the room
//!    waited for, and everything is done again from step 2.
//! 4. The writes are applied to the index under the record's LSN.
//! 5. The LSN becomes visible, and the order lock is given up.
//! 6. Without any lock, what the commit mode promises is waited for.
//!
//! Steps 4 and 5 are done for several small commits together. A commit appends its writes to a list guarded by the order
//! lock. The committer that brings the list to 16 operations applies it; so does any reader that needs the index sooner: a
//! snapshot, a validating transaction, a keyspace being created or dropped. So no reader sees the difference, and the waits
//! for memory, which are most of what a commit costs, overlap. A commit that makes or drops a keyspace is applied at once.
//!
//! A `Sync` commit that is alone begins its flush between 3 and 4, gives up the lock, and does steps 4 and 5 while the
//! device works, unless a reader has done them by then.
//!
//! A crash between any two steps is harmless: before 3 nothing happened, after it the log decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::due::{Amount, Due};
use super::helper::Helper;
use super::prune::{Prunable, Pruner};
use super::throttle::Throttle;
use super::watchers::Watchers;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::{CommitMode, Lsn};
use crate::format::batch::{Batch, BatchBuilder, Op};
use crate::index::{Commit, Index};
use crate::log::{LogInner, LoneFlush, Prepared, Receipt, Refused, Stall, WaitLimit, wake_all};
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
    pub(crate) due: Due,
    pub(crate) throttle: Throttle,
    pub(super) helper: Arc<Helper>,
    pub(crate) watchers: Watchers,
}

/// What the order lock guards.
#[derive(Default)]
struct Order {
    /// The newest commits, which have their places in the log and are not applied yet.
    unapplied: Vec<Commit>,
    /// Their operations.
    ops: BatchBuilder,
}

impl Order {
    /// With this many operations the list is applied: most of what one alone costs is the wait for memory.
    const ENOUGH: usize = 16;
    /// In bytes: to copy a larger batch to the list takes longer than to apply it.
    const MOST_TO_WAIT: usize = 4 << 10;
    /// In bytes: to apply a larger batch during its own flush would hold the right to sync for too long.
    const MOST_BESIDE_A_FLUSH: usize = 64 << 10;

    /// Whether `batch` can be left to be applied with others. One that makes or drops a keyspace cannot: later commits ask
    /// whether the keyspace is there. One that deletes a range cannot, as what it covers is told within one commit.
    fn can_wait(batch: &Batch<'_>) -> bool {
        batch.only_writes()
            && !batch.has_ranges()
            && batch.len() < Self::ENOUGH
            && batch.bytes().len() <= Self::MOST_TO_WAIT
    }

    /// Whether `batch` can be left to be applied while the device works.
    fn can_go_beside_a_flush(batch: &Batch<'_>) -> bool {
        batch.only_writes() && !batch.has_ranges() && batch.bytes().len() <= Self::MOST_BESIDE_A_FLUSH
    }

    fn leave(&mut self, lsn: Lsn, batch: &Batch<'_>) {
        if self.unapplied.is_empty() {
            self.ops.clear();
        }
        self.ops.append(batch);
        self.unapplied.push(Commit { lsn, ops: batch.len() });
    }

    fn has_enough(&self) -> bool {
        // A commit without operations counts, too: a salvaged one may have none.
        self.ops.batch().len().max(self.unapplied.len()) >= Self::ENOUGH
    }

    /// Applies the list.
    fn catch_up(&mut self, pipeline: &Pipeline) -> std::result::Result<(), Refused> {
        if !self.unapplied.is_empty() {
            // Taken first, so that they are not applied again after a panic.
            let mut commits = std::mem::take(&mut self.unapplied);
            let applied = pipeline.apply(&commits, &self.ops.batch());
            commits.clear();
            self.unapplied = commits;
            applied?;
        }
        // Cleared only when they are visible: a reader that finds it cleared applies nothing.
        pipeline.is_behind.store(false, Ordering::Release);
        Ok(())
    }
}

/// A commit that has its place in the log and is not in the index. If it stays so, by an error or a panic, the log stops:
/// readers and later commits must not go on without it, and no waiter may be told that it is there.
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
pub(super) struct Placed<'a> {
    lsn: Lsn,
    /// The flush that was begun for it.
    flush: Option<LoneFlush<'a>>,
    /// It could not be applied, which has stopped the log.
    failed: Option<Refused>,
    /// A checkpoint has become due.
    is_due: bool,
}

impl Placed<'_> {
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }
}

fn amount_of(batch: &Batch<'_>) -> Amount {
    Amount { bytes: batch.bytes().len() as u64, ops: batch.len() as u64 }
}

/// Whether `batch` does nothing but delete keys and ranges and drop keyspaces. Reads all of it.
fn only_removes(batch: &Batch<'_>) -> bool {
    let removes = |op| matches!(op, Op::Delete { .. } | Op::DeleteRange { .. } | Op::DropKeyspace { .. });
    !batch.is_empty() && batch.iter().all(removes)
}

/// Looks, under the order lock, whether a commit may still take its place. A closure is one that looks at nothing that a write may
/// change.
pub(crate) trait Check {
    /// Whether it depends on what others write: all that took its place before is in the index then.
    fn depends_on_writes(&self) -> bool;
    fn check(&self, index: &Index) -> Result<()>;
}

impl<F: Fn() -> Result<()>> Check for F {
    fn depends_on_writes(&self) -> bool {
        false
    }

    fn check(&self, _index: &Index) -> Result<()> {
        self()
    }
}

impl Pipeline {
    pub(crate) fn new(index: Index, log: Arc<LogInner>, settings: Settings) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (is_behind, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        let (order, pruner, due) = Default::default();
        let (throttle, helper, watchers) = (Throttle::new(), Arc::default(), Watchers::default());
        Pipeline { id, index, log, settings, order, is_behind, closed, pruner, due, throttle, helper, watchers }
    }

    /// Refuses a handle whose engine was closed, or that crossed `fork()`.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.log.check_process()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the engine was closed: open it again"));
        }
        Ok(())
    }

    /// Wakes a task; while the engine closes, at its end.
    pub(super) fn wake(&self, waker: Waker) {
        if self.closed.load(Ordering::Acquire) {
            self.log.wake_at_the_end(waker);
        } else {
            wake_all(vec![waker]);
        }
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
        check: &dyn Check,
    ) -> Result<Receipt> {
        self.announce(&batch)?;
        let mut record = self.log.prepare(batch.bytes())?;
        if !Throttle::lets_this_thread_pass() {
            self.pass(&batch, limit, || false)?;
        }
        let placed = loop {
            let placed = self.take_place(&record, &batch, (mode, limit), check, |_| ());
            match placed.map_err(|refused| refused.raise(&*self.log))? {
                Ok(placed) => break placed,
                Err(stall) => self.wait_for_room(stall, &mut record, &batch, limit)?,
            }
        };
        let lsn = self.go_on_behind(placed, &batch)?;
        self.log.wait_for_mode(lsn, mode, limit)?;
        Ok(Receipt::new(&self.log, lsn))
    }

    /// Before `batch` has a place, and before anybody waits behind it: it may replace HISTORY.
    pub(super) fn announce(&self, batch: &Batch<'_>) -> Result<()> {
        if batch.has_ranges() { self.log.announce_ranges() } else { Ok(()) }
    }

    /// Whether `batch` cannot have a place before something was done that takes long.
    pub(super) fn is_held_up(&self, batch: &Batch<'_>) -> bool {
        self.throttle.is_on() || (batch.has_ranges() && !self.log.knows_ranges())
    }

    /// Lets background work keep up with `batch`, before it has a place: it may give up, or find that nobody waits any more.
    pub(super) fn pass(&self, batch: &Batch<'_>, limit: WaitLimit, is_needless: impl Fn() -> bool) -> Result<()> {
        self.throttle.pass(
            || self.due.counted(),
            amount_of(batch),
            limit,
            (|| self.is_over() || is_needless(), || self.due.tell(), || self.index.bytes().in_use as u64),
        )
    }

    pub(super) fn wait_for_room(
        &self,
        stall: Stall,
        record: &mut Prepared<'_>,
        batch: &Batch<'_>,
        limit: WaitLimit,
    ) -> Result<()> {
        // On a full disk deletions go on a little longer.
        record.may_use_spare = stall != Stall::Budget && only_removes(batch);
        self.log.wait_for_room(stall, record, limit)
    }

    /// What is left to do, without any lock, for a commit that has its place.
    pub(super) fn go_on_behind(self: &Arc<Self>, placed: Placed<'_>, batch: &Batch<'_>) -> Result<Lsn> {
        let Placed { lsn, flush, failed, is_due } = placed;
        if let Some(refused) = failed {
            // It has its place, whether it was applied or not: its error names its token.
            let _ = refused.raise(&*self.log);
            self.log.verdict_on(lsn.get())?;
        }
        self.pruner.wake(self);
        if is_due | (batch.has_ranges() && self.due.note_deleted(lsn, self.index.installed())) {
            self.due.tell();
        }
        if let Some(flush) = flush {
            let mut told = Vec::new();
            flush.run(|| {
                self.catch_up();
                told = self.watchers.tell();
            });
            // Not within the flush: a task may close the engine, which waits for the right to sync.
            wake_all(told);
        } else {
            wake_all(self.watchers.tell());
        }
        Ok(lsn)
    }

    /// What an open has replayed of deletions of ranges is swept: no commit has to come first.
    pub(crate) fn sweep_what_was_replayed(self: &Arc<Self>) {
        if self.index.has_ranges() {
            self.due.note_deleted(self.index.visible(), Lsn::ZERO);
            self.pruner.wake(self);
        }
    }

    /// Whether nothing is to be waited for any more: what comes next says why.
    fn is_over(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.log.poisoned().is_some()
    }

    /// Steps 2 to 5, but that a flush begins between 3 and 4 if one is returned. `note` gets the LSN between 3 and 4.
    pub(super) fn take_place(
        &self,
        record: &Prepared<'_>,
        batch: &Batch<'_>,
        (mode, limit): (CommitMode, WaitLimit),
        check: &dyn Check,
        note: impl FnOnce(Lsn),
    ) -> std::result::Result<std::result::Result<Placed<'_>, Stall>, Refused> {
        let mut order = self.order.lock();
        // Before it takes its place: a large batch keeps the lock for long, and a reader with nothing to apply does not wait.
        if check.depends_on_writes() || !Order::can_wait(batch) {
            order.catch_up(self)?;
        }
        check.check(&self.index)?;
        let lsn = match self.log.reserve(record, mode)? {
            Ok(lsn) => lsn,
            Err(stall) => return Ok(Err(stall)),
        };
        note(lsn);
        let (counted, is_due) = self.due.count(amount_of(batch));
        self.throttle.note(counted);
        if mode == CommitMode::Sync
            && limit == WaitLimit::Forever
            && Order::can_go_beside_a_flush(batch)
            && let Some(flush) = self.log.lead_alone()
        {
            order.leave(lsn, batch);
            return Ok(Ok(Placed { lsn, flush: Some(flush), failed: None, is_due }));
        }
        let applied = if Order::can_wait(batch) {
            order.leave(lsn, batch);
            self.is_behind.store(true, Ordering::Release);
            if order.has_enough() { order.catch_up(self) } else { Ok(()) }
        } else {
            self.apply(&[Commit { lsn, ops: batch.len() }], batch)
        };
        Ok(Ok(Placed { lsn, flush: None, failed: applied.err(), is_due }))
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

    /// The index with every commit that was acknowledged so far.
    pub(crate) fn index_now(&self) -> &Index {
        // In a forked child the lock may be held by a thread that was not copied.
        if self.is_behind.load(Ordering::Acquire) && self.log.check_process().is_ok() {
            self.catch_up();
        }
        &self.index
    }

    /// What a snapshot would see. Unlike a look at the index it takes the order lock: a commit that takes it later finds whatever the caller has
    /// put down before.
    pub(crate) fn visible_for_sure(&self) -> Lsn {
        self.catch_up();
        self.index.visible()
    }

    /// Applies the list. A failure stops the log; what is in the index can be read.
    fn catch_up(&self) {
        let caught_up = self.order.lock().catch_up(self);
        if let Err(refused) = caught_up {
            let _ = refused.raise(&*self.log);
        }
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
