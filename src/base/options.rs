//! The options of an open, with limits that are checked before anything is touched.

use std::time::Duration;

use super::error::{Error, Result};
use super::types::CommitMode;

/// The most that a crash may take: limits on the commits that are acknowledged and not yet durable, at every instant.
///
/// Only commits that are acknowledged before they are durable count (`Async`, `Within`, `Written`). A commit that would
/// exceed a limit waits until a flush makes room; if it was told not to wait, or not for that long, it returns
/// `WouldBlock` or `TimedOut`. A transaction larger than `max_bytes` is admitted when nothing else is at risk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LossBudget {
    /// Bytes of log, at most. Default 16 MiB.
    pub max_bytes: u64,
    /// Commits, at most. Default 1,000,000.
    pub max_commits: u64,
    /// The longest time between the acknowledgements of two commits that are both at risk. Default 1 s.
    pub max_age: Duration,
}

impl Default for LossBudget {
    fn default() -> Self {
        LossBudget { max_bytes: 16 << 20, max_commits: 1_000_000, max_age: Duration::from_secs(1) }
    }
}

impl LossBudget {
    /// Sets the limit in bytes of log.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the limit in commits.
    #[must_use]
    pub fn max_commits(mut self, commits: u64) -> Self {
        self.max_commits = commits;
        self
    }

    /// Sets the limit in time between acknowledgements.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }
}

/// When an engine makes checkpoints: see [`Engine::checkpoint`](crate::Engine::checkpoint).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Checkpoints {
    /// Of its own accord: when the log has grown by [`checkpoint_bytes`](crate::Options::checkpoint_bytes) since the last
    /// one, when a sixteenth of that is there and nothing was committed for a second, and at a close, if there is between a
    /// sixteenth and a quarter of it. And on request.
    #[default]
    Automatic,
    /// On request alone. Without one the log grows for ever.
    OnRequest,
    /// Never: the database stays one without tables, which versions of forelog without tables can open, and its log grows
    /// for ever. Tables that are there already are read, and no layer is added to them.
    Never,
}

/// The smallest allowed `checkpoint_bytes`.
pub const MIN_CHECKPOINT_BYTES: u64 = 4096;
/// The largest allowed `checkpoint_bytes`.
pub const MAX_CHECKPOINT_BYTES: u64 = 1 << 30;
/// The smallest allowed `memory_bytes`.
pub const MIN_MEMORY_BYTES: u64 = 16 << 20;
/// The smallest allowed segment.
pub const MIN_SEGMENT_BYTES: u64 = 4096;
/// The largest allowed segment.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// The largest allowed limit on one transaction's encoded size.
pub const MAX_TRANSACTION_BYTES: u64 = 1 << 30;
/// The first segment of an incarnation is at most this large; each further one doubles, up to `segment_bytes`.
pub(crate) const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// Which segments of the log stay though tables have all that is in them (`table/RETENTION.md`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RetainLog {
    /// As long as together they have no more bytes than this.
    pub(crate) bytes: Option<u64>,
    /// As long as their newest record is no older than this.
    pub(crate) age: Option<Duration>,
    /// What an earlier open has retained, and what joins it.
    pub(crate) as_found: bool,
    /// A pin is dropped if it keeps more bytes than this.
    pub(crate) pinned_bytes: u64,
}

impl Default for RetainLog {
    fn default() -> Self {
        RetainLog { bytes: None, age: None, as_found: false, pinned_bytes: 1 << 30 }
    }
}

impl RetainLog {
    /// Whether any segment may stay.
    pub(crate) fn is_any(&self) -> bool {
        self.bytes.is_some_and(|bytes| bytes > 0) || self.age.is_some() || self.as_found
    }
}

/// The options of [`Options`] that the layers below the engine need.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    pub(crate) commit_mode: CommitMode,
    pub(crate) flush_interval: Duration,
    pub(crate) flush_bytes: u64,
    pub(crate) loss_budget: LossBudget,
    /// `None` until the user says so, or it follows from what a checkpoint takes in.
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) max_transaction_bytes: u64,
    pub(crate) create: bool,
    pub(crate) mapped_reads: bool,
    /// A flush is one submission: see `disk::write_and_sync`.
    pub(crate) io_uring: bool,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) checkpoint_bytes: u64,
    /// The user has said how many bytes a checkpoint takes in.
    pub(crate) is_checkpoint_chosen: bool,
    /// What the engine may use; `None` for a part of what there is.
    pub(crate) memory_bytes: Option<u64>,
    /// What of that records may take, if it does not follow from `memory_bytes`.
    pub(crate) records_bytes: Option<u64>,
    /// It lives in memory alone, and no open comes after this one.
    pub(crate) is_volatile: bool,
    pub(crate) retain: RetainLog,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            commit_mode: CommitMode::Sync,
            flush_interval: Duration::from_millis(10),
            flush_bytes: 1 << 20,
            loss_budget: LossBudget::default(),
            segment_bytes: None,
            max_transaction_bytes: 256 << 20,
            create: true,
            mapped_reads: false,
            io_uring: false,
            checkpoints: Checkpoints::Automatic,
            checkpoint_bytes: 64 << 20,
            is_checkpoint_chosen: false,
            memory_bytes: None,
            records_bytes: None,
            is_volatile: false,
            retain: RetainLog::default(),
        }
    }
}

impl Settings {
    /// The size of a segment of the log, once the log has come to it.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.unwrap_or(64 << 20)
    }

    /// Refuses a record of `bytes` bytes if it is over the limit.
    pub(crate) fn check_record(&self, bytes: u64) -> Result<()> {
        let limit = self.max_transaction_bytes;
        if bytes > limit {
            return Err(Error::invalid_input(format!(
                "the record takes {bytes} bytes and max_transaction_bytes is {limit}: split it, or raise the limit"
            )));
        }
        Ok(())
    }

    /// Refuses values that are impossible or contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::invalid_input(text));
        let segment = self.segment_bytes();
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&segment) || !segment.is_multiple_of(512) {
            return refuse(format!(
                "segment_bytes is {segment}: choose a multiple of 512 from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
            ));
        }
        if !(1..=MAX_TRANSACTION_BYTES).contains(&self.max_transaction_bytes) {
            return refuse(format!(
                "max_transaction_bytes is {}: choose 1 to {MAX_TRANSACTION_BYTES}",
                self.max_transaction_bytes
            ));
        }
        if !(MIN_CHECKPOINT_BYTES..=MAX_CHECKPOINT_BYTES).contains(&self.checkpoint_bytes) {
            return refuse(format!(
                "checkpoint_bytes is {}: choose {MIN_CHECKPOINT_BYTES} to {MAX_CHECKPOINT_BYTES}",
                self.checkpoint_bytes
            ));
        }
        if let Some(memory) = self.memory_bytes.filter(|memory| *memory < MIN_MEMORY_BYTES) {
            return refuse(format!("memory_bytes is {memory}: choose {MIN_MEMORY_BYTES} or more"));
        }
        let budget = &self.loss_budget;
        if budget.max_bytes == 0 || budget.max_commits == 0 || budget.max_age.is_zero() {
            return refuse(
                "a loss budget of zero admits no commit but Sync ones: set commit_mode to Sync instead".into(),
            );
        }
        if self.flush_bytes == 0 || self.flush_bytes > budget.max_bytes {
            return refuse(format!(
                "flush_bytes is {}: choose 1 to the loss budget's max_bytes ({}), or a full budget would wait for the interval",
                self.flush_bytes, budget.max_bytes
            ));
        }
        if self.flush_interval > budget.max_age {
            return refuse(format!(
                "flush_interval ({:?}) is longer than the loss budget's max_age ({:?}): commits would wait for each flush",
                self.flush_interval, budget.max_age
            ));
        }
        Ok(())
    }
}

/// The setters that [`crate::Options`] and [`crate::LogOptions`] share.
macro_rules! setters {
    () => {
        /// How long an `Async` or `Written` commit may stay without a flush being issued for it. Default 10 ms.
        #[must_use]
        pub fn flush_interval(mut self, interval: std::time::Duration) -> Self {
            self.settings.flush_interval = interval;
            self
        }

        /// Issues a background flush as soon as this many bytes are not durable. Default 1 MiB.
        #[must_use]
        pub fn flush_bytes(mut self, bytes: u64) -> Self {
            self.settings.flush_bytes = bytes;
            self
        }

        /// The most that a crash may take.
        #[must_use]
        pub fn loss_budget(mut self, budget: $crate::LossBudget) -> Self {
            self.settings.loss_budget = budget;
            self
        }

        /// The size of a log segment in bytes: a multiple of 512 from 4 KiB to 1 GiB. Default 64 MiB; in an engine whose
        /// checkpoints take in less, about that much, but no less than 4 MiB: the log keeps a segment in use and one ahead.
        /// The first segments after an open are smaller, so that a small database stays small.
        #[must_use]
        pub fn segment_bytes(mut self, bytes: u64) -> Self {
            self.settings.segment_bytes = Some(bytes);
            self
        }

        /// The largest record in encoded bytes; larger ones are refused before anything is written. Default 256 MiB,
        /// at most 1 GiB.
        #[must_use]
        pub fn max_transaction_bytes(mut self, bytes: u64) -> Self {
            self.settings.max_transaction_bytes = bytes;
            self
        }

        /// Whether to create the database if the path does not exist or is an empty directory. Default yes.
        #[must_use]
        pub fn create(mut self, create: bool) -> Self {
            self.settings.create = create;
            self
        }

        /// Reads sealed segments through a memory mapping in scans. Faster for large logs; but a medium error under a
        /// mapping kills the process (SIGBUS) where a plain read returns an error. Default no. Recovery and `verify`
        /// never use it, but for the second walk of an open whose log is more than memory.
        #[must_use]
        pub fn mapped_reads(mut self, mapped: bool) -> Self {
            self.settings.mapped_reads = mapped;
            self
        }

        /// Gives each flush to the kernel in one submission to io_uring: the write and, linked to it, the fdatasync.
        /// Default no. Promises and file format stay the same. Where there is no io_uring (another system, an old
        /// kernel, a sandbox, a disk of one's own), ordinary calls are made; `io()` of the engine or log tells which,
        /// and why.
        ///
        /// Measure before you choose it: Linux runs every fdatasync of a ring on a thread of its own, and the wake-ups
        /// cost what the system call saves. On ext4 it is no faster in any mode, and a lone `Sync` commit is slower
        /// (ARCHITECTURE.md has figures and the command).
        #[cfg(feature = "io-uring")]
        #[must_use]
        pub fn io_uring(mut self, wanted: bool) -> Self {
            self.settings.io_uring = wanted;
            self
        }
    };
}
pub(crate) use setters;
