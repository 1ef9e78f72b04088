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
//! A `Sync` commit that is alone has its flush begin between 3 and 4, without the lock, so that the device works while
//! the index does: it leaves its writes with the lock, and whoever takes that next does steps 4 and 5 for it. Nothing
//! takes its place, or is validated, before that.
//!
//! A crash between any two steps is harmless: before 3 nothing happened, after it the log decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::batch::{Batch, BatchBuilder};
use crate::index::Index;
use crate::log::{LoneFlush, NoRoom, Patience, Prepared, Receipt, Shared};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::options::Settings;
use crate::words::plant::planted;
use crate::words::sync::{AtomicBool, Mutex, yield_now};
use crate::words::types::{CommitMode, Lsn};

/// What transactions need of an engine.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Tells the handles of one open engine from those of another.
    pub(crate) id: u64,
    pub(crate) index: Index,
    pub(crate) log: Arc<Shared>,
    pub(crate) settings: Settings,
    /// Guards the order in which commits take their place, in the log and in the index alike.
    order: Mutex<Order>,
    closed: AtomicBool,
}

/// What the order lock guards.
#[derive(Debug, Default)]
struct Order {
    /// The newest commit, if it has its place in the log and was not applied yet: its record goes to the device first.
    /// Whoever needs the order next applies it.
    unapplied: Option<Lsn>,
    /// Its writes. Kept for its memory otherwise.
    batch: BatchBuilder,
}

impl Order {
    /// A batch of more bytes is applied by the one who has it, who would hold the right to sync for too long.
    const MOST: usize = 64 << 10;

    fn leave(&mut self, lsn: Lsn, batch: &Batch<'_>) {
        self.batch.copy_from(batch);
        self.unapplied = Some(lsn);
    }

    /// Applies what was left.
    fn catch_up(&mut self, pipeline: &Pipeline) -> Result<()> {
        self.unapplied.take().map_or(Ok(()), |lsn| pipeline.apply(lsn, &self.batch.batch()))
    }
}

/// A commit that has its place in the log and is not in the index. If it stays so, by an error or a panic, the log stops:
/// readers and later commits must not go on as if nothing had happened, nor whoever waits for it be told that it is there.
struct Unapplied<'a> {
    log: &'a Shared,
    is_applied: bool,
}

impl Drop for Unapplied<'_> {
    fn drop(&mut self) {
        if !self.is_applied {
            // The error is there already, if it was one. Whoever waits is told by the thread that flushes.
            self.log.stop(bug("a commit could not be applied to the index"));
        }
    }
}

fn bug(what: &str) -> Error {
    Error::new(ErrorKind::Io, format!("bug in forelog: {what}"))
}

/// Looks, under the order lock, whether a commit may still take its place.
pub(crate) type Check<'a> = dyn Fn(&Index) -> Result<()> + 'a;

impl Pipeline {
    pub(crate) fn new(index: Index, log: Arc<Shared>, settings: Settings) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Pipeline { id, index, log, settings, order: Mutex::default(), closed: AtomicBool::new(false) }
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
        &self,
        batch: Batch<'_>,
        mode: CommitMode,
        patience: Patience,
        check: &Check<'_>,
    ) -> Result<Receipt> {
        let limit = self.settings.max_transaction_bytes;
        let payload = batch.bytes();
        if payload.len() as u64 > limit {
            let message = format!(
                "the transaction takes {} bytes and max_transaction_bytes is {limit}: split it, or raise the limit",
                payload.len()
            );
            return Err(Error::invalid_input(message));
        }
        let record = Prepared::new(payload);
        let (lsn, lone) = loop {
            let placed = self.take_place(&record, &batch, mode, patience, check);
            match placed.inspect_err(|_| self.log.tell_if_poisoned())? {
                Ok(placed) => break placed,
                Err(missing) => self.log.wait_for_room(missing, &record, patience)?,
            }
        };
        if let Some(flush) = lone {
            flush.run(|| {
                if !planted!("race-acknowledged-before-it-is-visible") {
                    // A failure has stopped the log: what is waited for below tells of it.
                    let _ = self.order.lock().catch_up(self);
                }
            });
        }
        self.log.fulfil(lsn, mode, patience)?;
        Ok(Receipt::new(&self.log, lsn))
    }

    /// Steps 2 to 5, but that a flush begins between 3 and 4 if one is returned.
    fn take_place(
        &self,
        record: &Prepared<'_>,
        batch: &Batch<'_>,
        mode: CommitMode,
        patience: Patience,
        check: &Check<'_>,
    ) -> Result<std::result::Result<(Lsn, Option<LoneFlush<'_>>), NoRoom>> {
        let mut order = self.order.lock();
        if !planted!("later-commit-first-in-the-index") {
            order.catch_up(self)?;
        }
        check(&self.index)?;
        let lsn = match self.log.try_place(record, mode)? {
            Ok(lsn) => lsn,
            Err(missing) => return Ok(Err(missing)),
        };
        if mode == CommitMode::Sync
            && patience == Patience::Forever
            && batch.bytes().len() <= Order::MOST
            && let Some(flush) = self.log.lead_alone()
        {
            order.leave(lsn, batch);
            return Ok(Ok((lsn, Some(flush))));
        }
        self.apply(lsn, batch)?;
        Ok(Ok((lsn, None)))
    }

    /// Steps 4 and 5, under the order lock.
    fn apply(&self, lsn: Lsn, batch: &Batch<'_>) -> Result<()> {
        if planted!("visible-before-applied") {
            self.index.publish(lsn);
            yield_now();
        }
        let mut applying = Unapplied { log: &self.log, is_applied: false };
        self.index.apply(lsn, batch, self.log.durable()).map_err(|error| {
            let error = bug(&error.to_string());
            self.log.stop(error.clone());
            error
        })?;
        self.index.publish(lsn);
        applying.is_applied = true;
        Ok(())
    }

    /// A receipt for a transaction that wrote nothing: durable as soon as everything that it could read is.
    pub(crate) fn receipt_of_reads(&self, lsn: Lsn) -> Receipt {
        Receipt::new(&self.log, lsn)
    }
}
