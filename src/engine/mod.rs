//! The engine: opens and recovers a database, hands out its handles, closes it.

mod backup;
mod checkpoint;
mod checkpointer;
mod compact;
mod copied;
mod copy;
#[cfg(feature = "sim")]
pub(crate) mod crash_test;
mod debt;
mod first_table;
mod flush;
mod heal;
mod health;
mod inner;
mod install;
mod keep_up;
mod keeper;
mod keyspaces;
mod memory;
mod merger;
mod merging;
mod open;
mod options;
mod read_only;
mod replay;
mod residency;
mod retention;
mod room;
pub(crate) mod salvage;
mod save;
mod scrubs;
mod tables;
mod tail;
mod transact;
mod turn;
mod unfinished;
mod warmer;

#[cfg(test)]
mod tests;

pub use backup::{BackupOptions, BackupProgress, BackupReport, RestorePoint};
pub use compact::{CompactOptions, CompactProgress, CompactReport};
pub use health::TableStats;
pub use memory::MemoryStats;
pub use options::Options;
pub use read_only::ReadOnlyOptions;
pub use save::CopyReport;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use checkpoint::{Then, checkpoint};
use inner::Inner;
use turn::Wait;

use crate::base::error::Result;
#[cfg(doc)]
use crate::base::error::{Error, ErrorKind};
use crate::base::types::{CommitMode, LogId, Lsn, Outcome, Token};
use crate::care::pace::ScrubOptions;
use crate::care::scrub::Scrub;
#[cfg(feature = "unstable")]
use crate::disk::Disk;
use crate::disk::{IoBackend, OsDisk};
use crate::engine::salvage::Salvaged;
use crate::log::{self, LossWindow, Poisoned, Recovery, Stats};
use crate::txn::pipeline::Pipeline;
use crate::txn::{Keyspace, ReadOnly, Snapshot, Transaction, WriteBatch};

/// An open database.
///
/// Cheap to clone and to share between threads. [`Engine::close`] closes it for all clones; dropping the last clone
/// does the same without telling of errors, and makes no checkpoint. A drop waits for the device and never for callbacks, which run all the same;
/// it may be done anywhere, in a callback too.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pipeline().log.show("Engine", f)
    }
}

impl Engine {
    /// Opens the database in directory `dir` with the default options, creating it if needed.
    ///
    /// After a crash it recovers first: what is reported then is durable, and [`Engine::recovery`] gives the account.
    /// After a clean close nothing is written before the first commit, unless the log is more than memory.
    ///
    /// # Errors
    /// A typed refusal for every bad state, which changes no byte: [`ErrorKind::Locked`], [`ErrorKind::NotADatabase`],
    /// [`ErrorKind::Unsupported`], [`ErrorKind::Damaged`] (see [`Error::damage`] for segment, LSN and cause),
    /// [`ErrorKind::InvalidInput`] for options that contradict each other, [`ErrorKind::DiskFull`], [`ErrorKind::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Engine> {
        Options::new().open(dir)
    }

    /// A new database that lives in memory alone, for tests of your own: everything works on it, and nothing of it
    /// survives. `Sync` costs nothing, and promises nothing. Its log takes a few MiB, and up to twice
    /// [`checkpoint_bytes`](Options::checkpoint_bytes).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = forelog::Engine::in_memory()?;
    /// let accounts = engine.create_keyspace("accounts")?;
    /// let mut tx = engine.begin()?;
    /// tx.put(&accounts, "alice", "90")?;
    /// assert!(tx.commit()?.is_durable());         // as far as there is anything to be durable on
    /// assert_eq!(engine.snapshot()?.get(&accounts, "alice")?.unwrap(), b"90");
    /// # Ok(()) }
    /// ```
    ///
    /// To test what a crash leaves, use the feature `sim`, whose disk can lose its power.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the operating system has no randomness or no thread to give.
    pub fn in_memory() -> Result<Engine> {
        Options::new().in_memory()
    }

    /// Reads and checks everything in the database in directory `dir`, changing nothing; says what an open would find.
    ///
    /// Two verdicts: `Ok` if all of it is sound; and [`Recovery::obstacle`] is set if an open would fail nevertheless,
    /// [`Recovery::commit_obstacle`] if the first commit after it would.
    ///
    /// # Errors
    /// The first damage, by segment, LSN and cause; or why there is nothing to check.
    pub fn verify(dir: impl AsRef<Path>) -> Result<Recovery> {
        ReadOnlyOptions::new().verify(dir)
    }

    /// [`Engine::verify`], reading no faster than `options` says: for a disk that others need meanwhile.
    ///
    /// # Errors
    /// As [`Engine::verify`]; [`ErrorKind::InvalidInput`] if the rate is zero.
    pub fn verify_with(dir: impl AsRef<Path>, options: ScrubOptions) -> Result<Recovery> {
        ReadOnlyOptions::new().pace(options).verify(dir)
    }

    /// Reads the database in directory `dir`, changing nothing; no right to write is needed. After a crash it is read as the next
    /// open will keep it. [`ReadOnlyOptions`] has more, and an example.
    ///
    /// # Errors
    /// As [`ReadOnlyOptions::open`]; [`ErrorKind::Locked`] while a program has it open.
    pub fn read_only(dir: impl AsRef<Path>) -> Result<ReadOnly> {
        ReadOnlyOptions::new().open(dir)
    }

    /// [`Engine::read_only`] on a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::read_only`].
    #[cfg(feature = "unstable")]
    pub fn read_only_on(disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<ReadOnly> {
        ReadOnlyOptions::new().open_on(disk, dir)
    }

    /// Saves what can be proven whole of the database in `from`, which may be in any state, into a new database in `to`.
    ///
    /// The newest version of each key in the tables is saved, and every commit behind them whose record its checksums prove
    /// whole is committed again, in order, also behind damage. The result says what is missing, and which keys may be older
    /// than they were. What an earlier recovery dropped does not come back, as long as HISTORY can be read. Nothing in `from`
    /// is changed. The new database has an identity of its own: tokens of the old one are foreign to it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("forelog-doc-salvage-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// use forelog::Engine;
    /// use forelog::salvage::Completeness;
    /// let engine = Engine::open(dir.join("bank"))?;
    /// let mut tx = engine.begin()?;
    /// tx.put(&engine.create_keyspace("accounts")?, "alice", "90")?;
    /// tx.commit()?;
    /// engine.close()?;
    /// std::fs::remove_file(dir.join("bank/HISTORY"))?;
    /// assert!(Engine::open(dir.join("bank")).is_err());
    ///
    /// let salvaged = Engine::salvage(dir.join("bank"), dir.join("saved"))?;
    /// assert_eq!((salvaged.commits, salvaged.lost.len(), salvaged.completeness), (2, 0, Completeness::Unproven));
    /// let engine = Engine::open(dir.join("saved"))?;
    /// assert_eq!(engine.snapshot()?.get(&engine.create_keyspace("accounts")?, "alice")?.unwrap(), b"90");
    /// # drop(engine); std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is something in `to`, or `to` lies inside `from`; [`ErrorKind::NotADatabase`] if there is nothing of a
    /// database in `from`; [`ErrorKind::Damaged`] if two branches of a copied database are mixed in it and nothing tells which is
    /// meant; [`ErrorKind::Unsupported`] if a newer version wrote some of it; [`ErrorKind::Locked`] while it is open, or while another one opens `to` or makes a copy there;
    /// [`ErrorKind::DiskFull`], [`ErrorKind::Io`], [`ErrorKind::Poisoned`] or [`ErrorKind::Indeterminate`] (a write or fsync in
    /// `to` failed), and [`ErrorKind::Removed`] (its files were removed meanwhile), after which `to` may hold an unfinished copy. Such a one, also that of a salvage that was killed, says so and does not
    /// open: delete it, and salvage again.
    pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvaged> {
        salvage::salvage(&OsDisk, from.as_ref(), to.as_ref())
    }

    /// [`Engine::salvage`] on a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::salvage`].
    #[cfg(feature = "unstable")]
    #[expect(clippy::needless_pass_by_value, reason = "a disk is shared, and callers should not have to borrow it")]
    pub fn salvage_on(disk: Arc<dyn Disk>, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvaged> {
        salvage::salvage(&*disk, from.as_ref(), to.as_ref())
    }

    pub(crate) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.inner.pipeline
    }

    /// The keyspace called `name` (1 to 255 bytes). If it is not there it is created, by a commit in the engine's default
    /// mode; [`Engine::open_keyspace`] creates none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for the name; what a commit may return.
    pub fn create_keyspace(&self, name: &str) -> Result<Keyspace> {
        keyspaces::create(self.pipeline(), name)
    }

    /// The keyspace called `name`, which must be there. It commits nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKeyspace`] if it is not there.
    pub fn open_keyspace(&self, name: &str) -> Result<Keyspace> {
        keyspaces::open(self.pipeline(), name)
    }

    /// The names of all keyspaces, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], [`ErrorKind::Forked`].
    pub fn keyspace_names(&self) -> Result<Vec<String>> {
        self.snapshot()?.keyspace_names()
    }

    /// Drops a keyspace with everything in it, in the engine's default commit mode. Snapshots taken before go on
    /// seeing it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKeyspace`]; what a commit may return.
    pub fn drop_keyspace(&self, name: &str) -> Result<log::Receipt> {
        let receipt = keyspaces::drop(self.pipeline(), name)?;
        if let Some(checkpointer) = &self.inner.checkpointer {
            checkpointer.keyspace_dropped(receipt.lsn());
        }
        Ok(receipt)
    }

    /// Begins a transaction on the state as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], [`ErrorKind::Forked`]. A poisoned engine still begins transactions, which can read.
    pub fn begin(&self) -> Result<Transaction> {
        self.pipeline().check_open()?;
        Ok(Transaction::new(self.pipeline(), self.pipeline().index_now().hold_to_validate()))
    }

    /// An empty batch of blind writes.
    ///
    /// # Errors
    /// As [`Engine::begin`].
    pub fn batch(&self) -> Result<WriteBatch> {
        self.pipeline().check_open()?;
        Ok(WriteBatch::new(self.pipeline()))
    }

    /// The state as it is now: everything visible, durable or not.
    ///
    /// # Errors
    /// As [`Engine::begin`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.pipeline().check_open()?;
        Ok(Snapshot::new(self.pipeline(), self.pipeline().index_now().hold()))
    }

    /// The state at the durable LSN: no crash can take anything of it back.
    ///
    /// # Errors
    /// As [`Engine::begin`].
    pub fn durable_snapshot(&self) -> Result<Snapshot> {
        self.pipeline().check_open()?;
        let hold = self.pipeline().index_now().hold_at(|_| self.pipeline().log.durable());
        Ok(Snapshot::new(self.pipeline(), hold))
    }

    /// Moves everything that is durable now from the log to sorted tables beside it, and removes the segments of the log that
    /// nothing needs any more. The next open reads the tables and what the log has above them. Commits and reads go on
    /// meanwhile.
    ///
    /// The first checkpoint of a database makes its directory one that versions of forelog without tables refuse by name. An
    /// engine makes checkpoints by itself, too: see [`Checkpoints`](crate::Checkpoints). If the log cannot be read, what
    /// it had is written from memory; so are all data, as long as memory has them, if a table is missing: see [`Engine::table_stats`].
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::DiskFull`] with the file: nothing is lost, all data are in the log, and the next
    /// call tries again. [`ErrorKind::Io`] also if something in the directory `table` is not of this database.
    /// [`ErrorKind::Unsupported`] with [`Checkpoints::Never`](crate::Checkpoints::Never). [`ErrorKind::Closed`];
    /// [`ErrorKind::Poisoned`], also if files of the log or the tables were removed or replaced; [`ErrorKind::Forked`].
    pub fn checkpoint(&self) -> Result<()> {
        self.pipeline().check_open()?;
        let _unpaced = self.inner.tables.pacers.checkpoints.hurry();
        checkpoint(self.pipeline(), &self.inner.tables, Wait::ForItsTurn, Then::Merge)
    }

    /// Everything up to here survives power loss.
    pub fn durable_lsn(&self) -> Lsn {
        self.pipeline().log.durable()
    }

    /// Everything up to here can be read.
    pub fn visible_lsn(&self) -> Lsn {
        self.pipeline().index_now().visible()
    }

    /// What a crash right now could take: within the loss budget, always. Nothing in a forked child.
    pub fn at_risk(&self) -> LossWindow {
        self.pipeline().log.at_risk()
    }

    /// What the log has done since the open. In a forked child the largest window is empty.
    pub fn stats(&self) -> Stats {
        self.pipeline().log.stats()
    }

    /// What the tables hold, and how checkpoints and merges fare.
    pub fn table_stats(&self) -> TableStats {
        // In a forked child a lock may be held by a thread that was not copied.
        if self.pipeline().log.is_of_this_process() {
            self.inner.tables.stats(self.pipeline())
        } else {
            TableStats::default()
        }
    }

    /// What is in memory, by part, and what may be. Nothing in a forked child.
    pub fn memory_stats(&self) -> MemoryStats {
        if self.pipeline().log.is_of_this_process() {
            self.inner.tables.memory_stats(self.pipeline())
        } else {
            MemoryStats::default()
        }
    }

    /// How commits reach their files, and if io_uring was asked for and is not used, why.
    pub fn io(&self) -> IoBackend {
        self.pipeline().log.io()
    }

    /// Versions of keys in memory, those included that only old snapshots see. None in a forked child.
    pub fn versions_in_memory(&self) -> usize {
        if self.pipeline().log.is_of_this_process() { self.pipeline().index_now().version_count() } else { 0 }
    }

    /// What became of the commit that `token` names, after any number of crashes. An answer of `Durable`, `Lost`,
    /// `Foreign` or `Invalid` never changes. Nothing is read for it, so a token that no commit returned gets the answer of
    /// its position: [`Outcome::Invalid`] says when.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`] only.
    pub fn outcome(&self, token: &Token) -> Result<Outcome> {
        self.pipeline().log.outcome(token)
    }

    /// The account of the open: after a crash, what was proven, kept and dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("forelog-doc-recovery-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// let engine = forelog::Engine::open(&dir)?;
    /// let account = engine.recovery();
    /// if let Some(incarnation) = account.crashed {
    ///     println!("incarnation {} crashed; kept up to {}", incarnation.number, account.recovered_to);
    /// }
    /// # drop(engine); std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }
    /// ```
    pub fn recovery(&self) -> &Recovery {
        self.pipeline().log.report()
    }

    /// Why the engine takes no more commits, and which are in doubt, if a write or fsync failed.
    pub fn poisoned(&self) -> Option<&Poisoned> {
        self.pipeline().log.poisoned()
    }

    /// The random identity of the database's log.
    pub fn log_id(&self) -> LogId {
        self.pipeline().log.log_id()
    }

    /// The mode that [`Transaction::commit`] uses.
    pub fn commit_mode(&self) -> CommitMode {
        self.pipeline().settings.commit_mode
    }

    /// Begins to read and check, on a thread of its own, everything that is durable now, log and tables; says what it finds.
    ///
    /// Rot that no read comes upon is not noticed otherwise. While all data are in memory nothing is lost by it: [`Engine::save_to`].
    /// Closing the engine ends the scrub. What is in the kernel's cache is checked there, and not on the medium.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("forelog-doc-scrub-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// use forelog::Engine;
    /// use forelog::scrub::ScrubOptions;
    /// let engine = Engine::open(dir.join("bank"))?;
    /// engine.create_keyspace("accounts")?;
    /// let scrub = engine.scrub(ScrubOptions::default().bytes_per_second(64 << 20))?;
    /// scrub.wait();
    /// for damage in scrub.findings() {
    ///     println!("{} at LSN {}: {}", damage.file.display(), damage.lsn, damage.cause); // or at an offset
    /// }
    /// if scrub.progress().findings > 0 {
    ///     engine.save_to(dir.join("bank-2"))?; // fails if it needs what was found
    /// }
    /// # drop(engine); std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a rate of zero, [`ErrorKind::Closed`], [`ErrorKind::Io`] if there is no thread.
    pub fn scrub(&self, options: ScrubOptions) -> Result<Scrub> {
        self.pipeline().check_open()?;
        scrubs::scrub(&self.pipeline().log, &self.inner.tables, options)
    }

    /// Writes the state as it is now, all keyspaces at the visible LSN, durable or not, as a new database in `to`:
    /// a copy, or the way out when the log is damaged or the engine is poisoned. Commits go on meanwhile. The new
    /// database has an identity and positions of its own.
    ///
    /// It is a log alone, for versions without tables, and in memory while it is written: else make a [backup](Engine::backup).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is something in `to`, or `to` lies inside this engine's directory, wherever that
    /// is by now; [`ErrorKind::Locked`] while another one opens `to` or makes a copy there; as for opening and committing,
    /// after which `to` may hold an unfinished copy, which says so and does not open: delete it.
    pub fn save_to(&self, to: impl AsRef<Path>) -> Result<CopyReport> {
        save::save(self, &OsDisk, to.as_ref())
    }

    /// [`Engine::save_to`] on a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::save_to`].
    #[cfg(feature = "unstable")]
    #[expect(clippy::needless_pass_by_value, reason = "a disk is shared, and callers should not have to borrow it")]
    pub fn save_to_on(&self, disk: Arc<dyn Disk>, to: impl AsRef<Path>) -> Result<CopyReport> {
        save::save(self, &*disk, to.as_ref())
    }

    /// Closes the engine for all clones: makes every commit durable, ends the log cleanly, releases the lock. Waiters
    /// and receipts get their answer; snapshots that are held stay readable. Then it waits until every callback of
    /// [`Receipt::on_durable`](log::Receipt::on_durable) has run, so do not call it with a lock held that a callback needs.
    /// Called from a callback, of this engine or of another, it does not wait for callbacks. A call that meets another one
    /// waits for it, and returns its result.
    ///
    /// # When the program ends
    ///
    /// - **An engine in a `static` is never dropped**, nor is one that lives when `std::process::exit` is called: what
    ///   was committed with `Async`, `Within` or `Written` since the last flush is then lost like in a crash (`Written`
    ///   only by a power loss). Call this, or [`Engine::flush`], before `main` returns.
    /// - **A limit on the size of files** (`ulimit -f`, `RLIMIT_FSIZE`) ends the process by the signal SIGXFSZ as soon as
    ///   a segment or a table would exceed it; what was durable stays. A program that ignores the signal
    ///   (`libc::signal(libc::SIGXFSZ, libc::SIG_IGN)`, or `trap '' XFSZ` in the shell that starts it) gets
    ///   [`ErrorKind::DiskFull`] instead, and goes on; so does one whose segments
    ///   ([`Options::segment_bytes`]) fit the limit. A limit that is lowered below the segments that exist makes a write
    ///   fail: the commit is [`ErrorKind::Indeterminate`], and the engine is poisoned.
    /// - **A limit of address space** (`ulimit -v`, `RLIMIT_AS`) ends the process when the allocator is refused memory, like a
    ///   kill: what was acknowledged as `Written` stays. [`Options::memory_bytes`] follows the limit by default. Leave room
    ///   beside it for the stacks of the threads, and for the allocator: that of glibc sets 64 MiB of addresses aside for each
    ///   thread, unless `MALLOC_ARENA_MAX=1` is in the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] after a failure, [`ErrorKind::Removed`] if it finds its files removed (if that was noticed
    /// before, the engine is poisoned, and says by what), I/O errors. [`ErrorKind::Closed`] in a callback or a waker while
    /// another call is closing the engine: to wait for that could be to wait for itself.
    /// Further calls return the first result.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
