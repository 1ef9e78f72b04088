//! How much of the log lies behind the last checkpoint, and who is told that it has become much.
//!
//! Commits count under the order lock, so that counting costs them no more than two stores. One commit tells: the one that
//! comes to the mark, which is set again by who is told. If it misses a mark that is set at the same moment, the next
//! commit tells.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::options::Settings;
use crate::base::types::Lsn;
use crate::rt::sync::OnceLock;

/// Bytes for which an operation counts.
const OP: u64 = 160;

/// So much of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    /// Bytes of its records, without headers.
    pub(crate) bytes: u64,
    /// Writes to keys, each create and drop of a keyspace.
    pub(crate) ops: u64,
}

impl Amount {
    /// A checkpoint takes in so much at a time.
    pub(crate) fn of_a_checkpoint(settings: &Settings) -> Self {
        // 400,000 operations in 64 MiB: as much as an open replays in 0.4 s (TABLES.md of the design, section 5).
        Amount { bytes: settings.checkpoint_bytes, ops: (settings.checkpoint_bytes / OP).max(1) }
    }

    /// What reaches this reaches one of the two.
    pub(crate) fn least(self, other: Amount) -> Self {
        Amount { bytes: self.bytes.min(other.bytes), ops: self.ops.min(other.ops) }
    }

    /// As bytes, of which an operation counts for no fewer than it does for a checkpoint.
    pub(crate) fn weight(self) -> u64 {
        self.bytes.max(self.ops.saturating_mul(OP))
    }

    /// So many times as much.
    pub(crate) fn times(self, factor: u64) -> Self {
        Amount { bytes: self.bytes.saturating_mul(factor), ops: self.ops.saturating_mul(factor) }
    }

    /// This part of it.
    pub(crate) fn part(self, divisor: u64) -> Self {
        Amount { bytes: (self.bytes / divisor).max(1), ops: (self.ops / divisor).max(1) }
    }

    /// Whether it is as much as `mark`, by either measure.
    pub(crate) fn reaches(self, mark: Amount) -> bool {
        self.bytes >= mark.bytes || self.ops >= mark.ops
    }

    /// With so much more of it.
    pub(crate) fn add(&mut self, bytes: usize, ops: usize) {
        *self = self.plus(Amount { bytes: bytes as u64, ops: ops as u64 });
    }

    pub(crate) fn plus(mut self, more: Amount) -> Self {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.ops = self.ops.saturating_add(more.ops);
        self
    }

    /// What it is more than `less`.
    pub(crate) fn above(self, less: Amount) -> Self {
        Amount { bytes: self.bytes.saturating_sub(less.bytes), ops: self.ops.saturating_sub(less.ops) }
    }
}

/// Told, on the thread of a commit that holds no lock.
type Told = Box<dyn Fn() + Send + Sync>;

/// The count, and the mark.
#[derive(Default)]
pub(crate) struct Due {
    counted: SharedAmount,
    /// Commits compare with the mark.
    is_set: AtomicBool,
    mark: SharedAmount,
    /// The newest commit that has deleted a range.
    deleted: AtomicU64,
    told: OnceLock<Told>,
}

/// An amount that others read while it changes: each of its measures by itself.
#[derive(Default)]
pub(super) struct SharedAmount {
    bytes: AtomicU64,
    ops: AtomicU64,
}

impl SharedAmount {
    pub(super) fn new(amount: Amount) -> Self {
        SharedAmount { bytes: AtomicU64::new(amount.bytes), ops: AtomicU64::new(amount.ops) }
    }

    pub(super) fn load(&self) -> Amount {
        Amount { bytes: self.bytes.load(Ordering::Relaxed), ops: self.ops.load(Ordering::Relaxed) }
    }

    pub(super) fn store(&self, amount: Amount) {
        self.bytes.store(amount.bytes, Ordering::Relaxed);
        self.ops.store(amount.ops, Ordering::Relaxed);
    }
}

impl Due {
    /// What the log had behind the last checkpoint when it was opened. No commit counts yet.
    pub(crate) fn begin_at(&self, at_open: Amount) {
        self.counted.store(at_open);
    }

    /// Who is told of marks.
    pub(crate) fn set_told(&self, told: impl Fn() + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(told));
    }

    /// So much was counted since the database was made, less what was in checkpoints when it was opened.
    pub(crate) fn counted(&self) -> Amount {
        self.counted.load()
    }

    /// Counts a commit, under the order lock. What is counted then, and whether it comes to the mark, and its thread is to
    /// [`Due::tell`].
    pub(super) fn count(&self, commit: Amount) -> (Amount, bool) {
        let counted = self.counted().plus(commit);
        self.counted.store(counted);
        let is_set = self.is_set.load(Ordering::Acquire);
        (counted, is_set && counted.reaches(self.mark.load()) && self.is_set.swap(false, Ordering::AcqRel))
    }

    /// A commit that ends at `lsn` has deleted a range. Whether it is the first one that layers up to `installed` do not know, and
    /// its thread is to [`Due::tell`].
    pub(super) fn note_deleted(&self, lsn: Lsn, installed: Lsn) -> bool {
        self.deleted.fetch_max(lsn.get(), Ordering::Relaxed) <= installed.get()
    }

    /// Whether a range was deleted that layers up to `installed` do not know of.
    pub(crate) fn has_deleted_behind(&self, installed: Lsn) -> bool {
        self.deleted.load(Ordering::Relaxed) > installed.get()
    }

    pub(super) fn tell(&self) {
        if let Some(told) = self.told.get() {
            told();
        }
    }

    /// The commit that comes to `mark` tells. Whether one had come to it already, which tells nobody.
    pub(crate) fn set_mark(&self, mark: Amount) -> bool {
        self.is_set.store(false, Ordering::Release);
        self.mark.store(mark);
        self.is_set.store(true, Ordering::Release);
        self.counted().reaches(mark)
    }
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("counted", &self.counted()).finish_non_exhaustive()
    }
}
