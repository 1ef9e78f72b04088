//! How an engine is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::checkpointer::Checkpointer;
use super::inner::Inner;
use super::room::TableRoom;
use super::{Engine, open, warmer};
use crate::base::error::Result;
use crate::base::options::{Checkpoints, Settings, setters};
use crate::base::types::CommitMode;
use crate::disk::{self, Claim, Disk, MemoryDisk};
#[cfg(doc)]
use crate::txn::Transaction;

/// How an [`Engine`] is opened.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-options-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{CommitMode, LossBudget, Options};
/// use std::time::Duration;
/// let engine = Options::new()
///     .commit_mode(CommitMode::Async)
///     .flush_interval(Duration::from_millis(2))
///     .loss_budget(LossBudget::default().max_commits(10_000))
///     .open(&dir)?;
/// # drop(engine); std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    settings: Settings,
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Options::default()
    }

    /// The mode of [`Transaction::commit`] and of keyspace creation. Default [`CommitMode::Sync`].
    #[must_use]
    pub fn commit_mode(mut self, mode: CommitMode) -> Self {
        self.settings.commit_mode = mode;
        self
    }

    /// When checkpoints are made. Default [`Checkpoints::Automatic`].
    #[must_use]
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.settings.checkpoints = checkpoints;
        self
    }

    /// A checkpoint takes in so many bytes of log, or an operation for each 160 of them, whichever comes first: 4 KiB to 1 GiB.
    /// Default 64 MiB, or a sixteenth of [`memory_bytes`](Options::memory_bytes) if that is less. An open replays at most about twice as much. While a checkpoint runs, sorting takes about one and a
    /// half times as much memory.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.settings.checkpoint_bytes = bytes;
        self.settings.is_checkpoint_chosen = true;
        self
    }

    /// The memory that the engine may use, in bytes: 16 MiB or more. Default half of what the machine has, or of what the
    /// control groups or the limits of the process (`ulimit -v`, `ulimit -d`) allow, if that is less.
    ///
    /// Data that fit stay in memory. Of data that do not, what was not read lately is forgotten once a checkpoint has it in
    /// tables, and read from there. [`Engine::memory_stats`] has the parts. What held snapshots need comes on top. With
    /// [`Checkpoints::Never`] nothing can be forgotten. A log without tables that is more than this, such as one that was written so, is
    /// sorted into tables by the first open with [`Checkpoints::Automatic`], which takes about as long as a copy.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.settings.memory_bytes = Some(bytes);
        self
    }

    /// Segments of the log that checkpoints need no more stay, as long as together they have no more than this many bytes: for a
    /// restore to a moment ([`Engine::restore_to`]). The oldest go first. Default: none stay. With
    /// [`retain_log_for`](Options::retain_log_for) both limits hold.
    ///
    /// What an earlier open has retained goes with an open that retains less. If the disk has no room for a commit, all of it is
    /// let go, and [`Stats::retention_gave_way`](crate::Stats::retention_gave_way) tells.
    #[must_use]
    pub fn retain_log_bytes(mut self, bytes: u64) -> Self {
        self.settings.retain.bytes = Some(bytes);
        self
    }

    /// Segments of the log that checkpoints need no more stay until their newest commit is this old, by the time at which their
    /// files were changed last. They are looked at after each checkpoint, and in between once there was one. Default: none stay.
    #[must_use]
    pub fn retain_log_for(mut self, time: Duration) -> Self {
        self.settings.retain.age = Some(time);
        self
    }

    /// What an earlier open has retained of the log stays, with what follows it: for a program that opens a database for a moment,
    /// and does not know how much is to be retained.
    #[must_use]
    pub fn retain_log_as_found(mut self) -> Self {
        self.settings.retain.as_found = true;
        self
    }

    /// The most that a pin keeps of the log ([`Engine::retain_from`]), in bytes of segments; one that would keep more is dropped.
    /// Default 1 GiB.
    #[must_use]
    pub fn retain_pinned_bytes(mut self, bytes: u64) -> Self {
        self.settings.retain.pinned_bytes = bytes;
        self
    }

    setters!();

    /// Refuses what each open refuses without looking at a database: values that are out of range, or contradict each other.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), which names the option and what it may be.
    pub fn check(&self) -> Result<()> {
        self.settings.check()
    }

    /// Opens the database in directory `dir`, creating it if needed.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Engine> {
        let disk = disk::operating_system(self.settings.io_uring);
        self.on(disk, dir.as_ref())
    }

    /// Opens a new database that lives in memory alone: see [`Engine::in_memory`].
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn in_memory(mut self) -> Result<Engine> {
        self.settings.is_volatile = true;
        self.create(true).on(Arc::new(MemoryDisk::new()), "memory".as_ref())
    }

    /// What of [`memory_bytes`](Options::memory_bytes) records may take, in bytes, for tests: with little of it, a database of a few
    /// KiB forgets at each checkpoint what it can, and reads it from tables.
    #[cfg(feature = "unstable")]
    #[must_use]
    pub fn records_bytes(mut self, bytes: u64) -> Self {
        self.settings.records_bytes = Some(bytes);
        self
    }

    /// Opens the database on a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::open`].
    #[cfg(feature = "unstable")]
    pub fn open_on(self, disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Engine> {
        self.on(disk, dir.as_ref())
    }

    #[allow(clippy::needless_pass_by_value, reason = "a disk is shared, and callers should not have to borrow it")]
    pub(super) fn on(self, disk: Arc<dyn Disk>, dir: &Path) -> Result<Engine> {
        open::open(&*disk, dir, &self.settings).map(engine)
    }

    /// Opens the database in a directory that is claimed already.
    pub(super) fn in_claimed(&self, claim: Claim<'_>) -> Result<Engine> {
        self.settings.check()?;
        open::open_claimed(claim, &self.settings).map(engine)
    }
}

fn engine(open::Opened { pipeline, log, tables, at_open, has_sorted }: open::Opened) -> Engine {
    let (pipeline, tables) = (Arc::new(pipeline), Arc::new(tables));
    pipeline.due.begin_at(at_open);
    pipeline.sweep_what_was_replayed();
    let checkpointer = Checkpointer::begin(&pipeline, &tables);
    if !pipeline.index().unsettled().is_empty() {
        warmer::start(&pipeline, &tables);
    }
    TableRoom::begin(&pipeline, &tables, checkpointer.as_ref());
    if let Some(checkpointer) = checkpointer.as_ref().filter(|_| has_sorted) {
        // It has written already, or tried to: that is tried again, and merges go on.
        checkpointer.wake();
    }
    Engine { inner: Arc::new(Inner { pipeline, log, tables, checkpointer }) }
}
