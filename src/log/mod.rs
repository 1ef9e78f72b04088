//! The write-ahead log on its own: for a Raft log, a queue, or a database of your own. It knows bytes and LSNs, never
//! keys.
//!
//! [`Log`] appends and flushes, [`Scan`] reads what is durable, [`Tail`] follows it.

// Down this list is a commit, up it is recovery:
//
// | file | what it does |
// |---|---|
// | `inner` | one open log, put together; the order of its locks |
// | `write/append`, `stall` | takes a place in the log order, within the loss budget; why there is none yet |
// | `write/buffer`, `segment` | frames that have their place and are not yet in a file; the files of an incarnation |
// | `write/flush` | the one path to written and durable; what each mode waits for; group commit |
// | `write/gather` | for whom a leader waits before it flushes, and how long: measured |
// | `write/budget`, `waiters` | what a crash could take; who waits for what |
// | `positions`, `mark` | the three watermarks; proof, outside the segments, of how far a log at rest is durable |
// | `receipts/` | how a commit's durability is learned: receipt, callbacks, and for ever, outcome |
// | `begin`, `close`, `incarnations` | begin and end of an incarnation; HISTORY and the list of segments |
// | `clean_up` | cutting and removing what is above the end of an incarnation, or retired |
// | `prepare`, `write/jobs` | the thread that prepares segments and writes the mark; what it is asked for |
// | `room`, `reserve` | how large a segment may be; what is left of the disk for others |
// | `retain`, `pins` | giving up old records; what keeps them |
// | `log_dir` | the log's files in the directory |
// | `failure` | fail-stop, and the alarm that wakes those who wait |
// | `read/scan` | reading: scans and tails |
// | `read/record_end` | whether a position that a caller brings along is one of this log's history |
// | `read/walk` | the one walk over frames, and records put together from them |
// | `read/reader` | reads and checks one frame |
// | `open/` | opening: `directory`, what is there; `decide`, the verdict; `settle`, making it durable |

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::options::{Settings, setters};
use crate::base::types::{CommitMode, LogId, Lsn, Outcome, Token};
use crate::disk::{self, Disk, IoBackend, OsDisk};
use crate::rt::guard::contain;

mod begin;
pub(crate) mod clean_up;
mod close;
pub(crate) mod failure;
pub(crate) mod incarnations;
pub(crate) mod inner;
mod keep;
pub(crate) mod log_dir;
pub(crate) mod mark;
pub(crate) mod open;
pub(crate) mod pins;
pub(crate) mod positions;
mod prepare;
pub(crate) mod read;
pub(crate) mod receipts;
pub(crate) mod reserve;
pub(crate) mod retain;
mod retained;
pub(crate) mod retention;
mod room;
pub(crate) mod stats;
pub(crate) mod write;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use failure::{Poisoned, Refused};
pub(crate) use inner::LogInner;
pub(crate) use open::decide::{CheckOnly, Recovery, Replay};
pub(crate) use open::directory::{Files, Look, no_tables};
pub(crate) use open::prior::Prior;
pub(crate) use open::unfinished::{Marked, UNFINISHED, UNFINISHED_HISTORY, is_of_unfinished, may_go_on};
pub(crate) use receipts::callbacks::runs_callbacks;
#[cfg(unix)]
pub(crate) use receipts::durable_fd::DurableFd;
pub(crate) use receipts::receipt::Receipt;
pub(crate) use reserve::Reserve;
pub(crate) use stats::Stats;
pub(crate) use write::append::refuse_waiting_mode;
pub(crate) use write::budget::LossWindow;
pub(crate) use write::buffer::Prepared;
pub(crate) use write::flush::LoneFlush;
pub(crate) use write::flush::lead::wake_all;
pub(crate) use write::stall::{Stall, WaitLimit};

pub use pins::Pin;
pub use read::record_end::{Position, RecordEnd};
pub use read::scan::{Record, Scan, Tail};
pub(crate) use retention::{LetGo, LogPin};

/// How a [`Log`] is opened.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    settings: Settings,
}

impl LogOptions {
    /// The defaults.
    pub fn new() -> Self {
        LogOptions::default()
    }

    setters!();

    /// Opens the log in directory `dir`, creating it if needed.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Log> {
        let disk = disk::operating_system(self.settings.io_uring);
        self.on(&*disk, dir.as_ref())
    }

    /// Opens the log on a disk of your own.
    ///
    /// # Errors
    /// As [`Log::open`].
    #[cfg(feature = "unstable")]
    #[allow(clippy::needless_pass_by_value, reason = "a disk is shared, and callers should not have to borrow it")]
    pub fn open_on(self, disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Log> {
        self.on(&*disk, dir.as_ref())
    }

    fn on(self, disk: &dyn Disk, dir: &Path) -> Result<Log> {
        self.settings.check()?;
        let handle = disk::claim(disk, dir, self.settings.create, |claim| {
            let decided = open::read(claim, self.settings.create, &mut no_tables)?.decide(&mut CheckOnly)?;
            decided.settle(self.settings.clone(), |_| Ok(true), |_| Ok((true, None)))
        })?;
        Ok(Log { handle: Arc::new(handle) })
    }
}

/// A write-ahead log on its own: for a Raft log, a queue, or a database of your own.
///
/// Cheap to clone and to share between threads. The last clone closes it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-log-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{CommitMode, Lsn};
/// use forelog::log::Log;
/// let log = Log::open(&dir)?;
/// log.append(b"first", CommitMode::Async)?;
/// let second = log.append(b"second", CommitMode::Sync)?;      // proves the first durable, too
/// assert!(second.is_durable());
/// let payloads: Vec<_> = log.scan(Lsn::ZERO)?.map(|record| record.map(|r| r.payload)).collect::<Result<_, _>>()?;
/// assert_eq!(payloads, [b"first".to_vec(), b"second".to_vec()]);
/// log.close()?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().fmt(f)
    }
}

/// Closes the log when the last clone is dropped.
#[derive(Debug)]
pub(crate) struct Handle(Arc<LogInner>);

impl Handle {
    pub(crate) fn new(log: Arc<LogInner>) -> Self {
        Handle(log)
    }

    pub(crate) fn log(&self) -> &Arc<LogInner> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // No caller takes an error here: `close` returns it.
        let close = || drop(self.0.close());
        if std::thread::panicking() && !cfg!(any(loom, shuttle)) {
            // The disk may panic a second time, which would end the process.
            let _ = contain(close);
        } else {
            close();
        }
    }
}

impl Log {
    /// Opens the log in directory `dir` with the default options, creating it if needed.
    ///
    /// # Errors
    /// A typed refusal for every bad state: [`ErrorKind::Locked`], [`ErrorKind::NotADatabase`],
    /// [`ErrorKind::Unsupported`], [`ErrorKind::Damaged`] (which names segment, LSN and cause), [`ErrorKind::Io`],
    /// [`ErrorKind::DiskFull`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Log> {
        LogOptions::new().open(dir)
    }

    /// Reads and checks everything in the log in directory `dir`, which must not be open, and changes nothing; says what
    /// an open would find. [`Engine::verify`](crate::Engine::verify) is for a database.
    ///
    /// # Errors
    /// The first damage, by segment, LSN and cause; or why there is nothing to check.
    pub fn verify(dir: impl AsRef<Path>) -> Result<Recovery> {
        open::verify(&OsDisk, dir.as_ref(), &mut no_tables, &mut CheckOnly)
    }

    pub(crate) fn inner(&self) -> &Arc<LogInner> {
        self.handle.log()
    }

    /// Appends a record and waits for what `mode` promises.
    ///
    /// # Errors
    /// Nothing was done, and the log goes on: [`ErrorKind::DiskFull`] and [`ErrorKind::Io`] if the next segment, HISTORY
    /// or a thread cannot be prepared, which can be tried again; [`ErrorKind::InvalidInput`] for a record over the limit.
    /// Nothing was done, and nothing will be: [`ErrorKind::Poisoned`] after a write or fsync that failed, before or in
    /// this call, [`ErrorKind::Closed`], [`ErrorKind::Forked`]. In doubt: [`ErrorKind::Indeterminate`], with a token, if a
    /// write or fsync failed while the record was in flight. This list is complete.
    pub fn append(&self, payload: &[u8], mode: CommitMode) -> Result<Receipt> {
        self.append_within(payload, mode, WaitLimit::Forever)
    }

    /// [`Log::append`], but waits for at most `time`, for room and for durability together. (The first append after an open
    /// prepares the log first, however long that takes.)
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: with a token if the record has its place and only its durability is pending, without
    /// one if nothing was done. Otherwise as [`Log::append`].
    pub fn append_timeout(&self, payload: &[u8], mode: CommitMode, time: Duration) -> Result<Receipt> {
        self.append_within(payload, mode, WaitLimit::lasting(time))
    }

    /// [`Log::append`] that never waits for the device: not for room, not for a segment, not for an fsync. (The first
    /// append after an open prepares the log, which takes some milliseconds, in this mode too.)
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if it would have to wait, [`ErrorKind::InvalidInput`] in mode `Sync`, which means
    /// waiting. Otherwise as [`Log::append`].
    pub fn try_append(&self, payload: &[u8], mode: CommitMode) -> Result<Receipt> {
        refuse_waiting_mode(mode)?;
        self.append_within(payload, mode, WaitLimit::Never)
    }

    fn append_within(&self, payload: &[u8], mode: CommitMode, limit: WaitLimit) -> Result<Receipt> {
        let log = self.inner();
        log.check_process()?;
        let record = log.prepare(payload)?;
        let lsn = loop {
            match log.reserve(&record, mode).map_err(|refused| refused.raise(&**log))? {
                Ok(lsn) => break lsn,
                Err(stall) => log.wait_for_room(stall, &record, limit)?,
            }
        };
        log.wait_for_mode(lsn, mode, limit)?;
        Ok(Receipt::new(log, lsn))
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`ErrorKind::Indeterminate`] if a write or fsync failed.
    pub fn flush(&self) -> Result<Lsn> {
        self.inner().check_process()?;
        let target = self.inner().positions().appended();
        self.inner().flush_to(target)?;
        Ok(Lsn::new(target))
    }

    /// Makes everything up to `position` durable.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `position` was not handed out yet, or is no position of this log's history: see
    /// [`Position`]. Below what was retired it cannot be told, and is durable. Otherwise as [`Log::flush`].
    pub fn flush_to(&self, position: impl Into<Position>) -> Result<()> {
        self.inner().check_process()?;
        self.inner().flush_to_position(position.into())
    }

    /// As [`Engine::durable_fd`](crate::Engine::durable_fd).
    ///
    /// # Errors
    /// As there.
    #[cfg(unix)]
    pub fn durable_fd(&self) -> Result<DurableFd> {
        DurableFd::new(self.inner())
    }

    /// The end of the last record accepted.
    pub fn appended_lsn(&self) -> Lsn {
        Lsn::new(self.inner().positions().appended())
    }

    /// Everything up to here survives the death of the process.
    pub fn written_lsn(&self) -> Lsn {
        Lsn::new(self.inner().positions().written())
    }

    /// Everything up to here survives power loss.
    pub fn durable_lsn(&self) -> Lsn {
        self.inner().durable()
    }

    /// The records after `after` that are durable now, in order; after [`Lsn::ZERO`], those that were not retired.
    /// It begins to read there: what it costs does not grow with the records before. To go on where an earlier reader
    /// ended, after a restart too, keep the [`token`](Record::token) of its last record, and pass that.
    ///
    /// # Errors
    /// [`ErrorKind::Retired`] if records after another `after` were retired; [`ErrorKind::InvalidInput`] if `after` is no
    /// position of this log's history: see [`Position`]. If it lies above the written LSN the log buffer is written first,
    /// as for a `Written` commit, with its errors.
    pub fn scan(&self, after: impl Into<Position>) -> Result<Scan> {
        self.inner().check_process()?;
        Scan::new(self.inner(), after.into())
    }

    /// As [`Log::scan`], with what was appended and is not durable yet: of that a crash may take some. Has it written, as a `Written` commit is, and waits
    /// for no fsync.
    ///
    /// # Errors
    /// As [`Log::scan`]; [`ErrorKind::Indeterminate`] if a write fails.
    pub fn scan_appended(&self, after: impl Into<Position>) -> Result<Scan> {
        self.inner().check_process()?;
        Scan::of_appended(self.inner(), after.into())
    }

    /// Follows the log from `after` on: each record as soon as it is durable.
    ///
    /// # Errors
    /// As [`Log::scan`].
    pub fn tail(&self, after: impl Into<Position>) -> Result<Tail> {
        self.inner().check_process()?;
        Tail::new(self.inner(), after.into())
    }

    /// Keeps all records after `position` from being retired until the pin is dropped: for a backup, a checkpoint, or a
    /// reader that must not be overtaken.
    ///
    /// # Errors
    /// As [`Log::scan`].
    pub fn pin(&self, position: impl Into<Position>) -> Result<Pin> {
        self.inner().pin(position.into())
    }

    /// The position up to where records were retired: [`Lsn::ZERO`] if none was, and in a forked child.
    pub fn oldest_lsn(&self) -> Lsn {
        if self.inner().is_of_this_process() { self.inner().incarnations().oldest() } else { Lsn::ZERO }
    }

    /// Gives up records at or below `up_to`, where a durable record ends, and removes segments that hold no others. It goes
    /// as far as the lowest [`pin`](Log::pin). Readers without a pin that are inside such a segment finish it. A
    /// [`RecordEnd`] costs no read; an LSN or a token may cost that of a whole segment.
    ///
    /// No commit waits for it, except the first after an open, which may wait while HISTORY is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Retired`] for a token whose incarnation was pruned; [`ErrorKind::InvalidInput`] above the durable LSN, or
    /// where no record of this log ends. [`ErrorKind::DiskFull`] and
    /// [`ErrorKind::Io`] if the operating system refuses, which can be tried again: segments that are retired and cannot
    /// be removed go with the next open. [`ErrorKind::Poisoned`].
    pub fn retire(&self, up_to: impl Into<Position>) -> Result<()> {
        self.inner().retire(up_to.into())
    }

    /// What became of the record that `token` names, after any number of crashes. Nothing is read for an answer, so a
    /// token that no append returned gets the answer of its position: [`Outcome::Invalid`] says when.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`] only.
    pub fn outcome(&self, token: &Token) -> Result<Outcome> {
        self.inner().outcome(token)
    }

    /// Forgets how incarnations with a number below `incarnation` ended, as far as all of their segments are
    /// retired. Tokens of theirs are answered [`Outcome::Pruned`] from the return of this call on; a crash inside it
    /// may leave either answer, or one and later, after a power loss, the other.
    ///
    /// # Errors
    /// I/O errors.
    pub fn prune_history(&self, incarnation: u64) -> Result<()> {
        self.inner().prune_history(incarnation)
    }

    /// The log's random identity.
    pub fn id(&self) -> LogId {
        self.inner().log_id()
    }

    /// What a crash right now could take. Nothing in a forked child.
    pub fn at_risk(&self) -> LossWindow {
        self.inner().at_risk()
    }

    /// What this log has done since it was opened. In a forked child the largest window is empty.
    pub fn stats(&self) -> Stats {
        self.inner().stats()
    }

    /// How records reach their files, and if io_uring was asked for and is not used, why.
    pub fn io(&self) -> IoBackend {
        self.inner().io()
    }

    /// The account of opening it.
    pub fn recovery(&self) -> &Recovery {
        self.inner().report()
    }

    /// Why the log takes no more appends, if a write or fsync failed.
    pub fn poisoned(&self) -> Option<&Poisoned> {
        self.inner().poisoned()
    }

    /// The background flusher, for a model that runs it on a thread of its own; returns once the log is closed.
    #[cfg(loom)]
    #[doc(hidden)]
    pub fn run_flusher(&self) {
        self.inner().flusher.run();
    }

    /// Flushes, ends the incarnation cleanly and releases the lock, for all clones; then waits until every callback of
    /// [`Receipt::on_durable`] has run, so do not call it with a lock held that a callback needs. Called from a callback,
    /// of this log or of another, it does not wait for callbacks. Dropping the last clone never does; they run all the
    /// same. A call that meets another one waits for it, and returns its result.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] after a failure, [`ErrorKind::Removed`] if it finds its files removed (if that was noticed
    /// before, the log is poisoned, and says by what), I/O errors. [`ErrorKind::Closed`] in a callback or a waker while
    /// another call is closing the log: to wait for that could be to wait for itself.
    pub fn close(&self) -> Result<()> {
        self.inner().close_and_drain()
    }
}
