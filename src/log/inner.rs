//! One open log, put together: what all handles, receipts and background threads of it share.
//!
//! Each part owns what it locks, and the one below it, so that the order of the locks is the nesting:
//!
//! | lock | in | held |
//! |---|---|---|
//! | the right to retire | `pins` | by a retirement to its last unlink; a close waits for it, a commit never |
//! | the right to replace HISTORY | `incarnations` | during that I/O; a commit waits for it if it begins the incarnation |
//! | the right to write | `flush` | during a write call |
//! | the append lock | `append` | for a few instructions |
//! | the queue of jobs | `write/jobs` | while its thread is started, before the first append; else for a few instructions |
//! | the background threads | `rt/background` | while one is started |
//! | who has the right to sync, and who waits | `flush` | for a few instructions |
//! | callbacks; what is known of HISTORY and the segments; pins | `callbacks`; `incarnations`; `pins` | for a few instructions, and none within another |
//! | the list of descriptors | `receipts/bells` | for a write to each, which never blocks; nothing is taken under it |
//!
//! They are taken from the top down. The lock of MARK is held during I/O on it, under the right to replace HISTORY or alone.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::task::Waker;

use super::failure::{Alarm, Poisoned, Refused, WakeEveryone};
use super::incarnations::Incarnations;
use super::log_dir::LogDir;
use super::mark::Marker;
use super::pins::Retention;
use super::positions::Positions;
use super::reserve::Reserve;
use super::retained::RetainedStats;
use super::stats::Stats;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::{CommitMode, LogId, Lsn, Token};
use crate::disk::{Dir, DirHandle, IoBackend};
use crate::log::open::decide::Recovery;
use crate::log::write::append::Appender;
use crate::log::write::budget::LossWindow;
use crate::log::write::buffer::Prepared;
use crate::log::write::flush::{Flusher, LoneFlush};
use crate::log::write::segment::Segment;
use crate::log::write::stall::{Stall, WaitLimit};
use crate::log::write::waiters::{Callback, Waited};
use crate::rt::background::{Background, Start, Task};
use crate::rt::clock::Moment;
use crate::rt::guard::Panicked;
use crate::rt::process;
use crate::rt::sync::{Condvar, Mutex, OnceLock};

/// One open log.
pub(crate) struct LogInner {
    /// For the background threads, which share it too.
    me: Weak<LogInner>,
    pub(crate) place: LogDir,
    pub(super) report: Recovery,
    pub(super) retention: Arc<Retention>,
    /// For what it leaves room on the disk, if for anything.
    pub(super) reserve: OnceLock<Arc<dyn Reserve>>,
    pub(super) flusher: Flusher,
    pub(crate) background: Background,
    pub(super) marker: Marker,
    pub(super) closing: Mutex<Closing>,
    /// The segments that were looked at last.
    checked: Mutex<Vec<Arc<Segment>>>,
    /// With `closing`: it is [`Closing::Closed`].
    pub(super) closed: Condvar,
    pub(super) generation: u64,
}

/// How far closing has come.
#[derive(Clone, Debug, Default)]
pub(super) enum Closing {
    #[default]
    Open,
    Underway,
    Closed(Result<()>),
}

/// A line, which takes no lock and shows nothing of the records: handles are printed by programs that log what they do.
impl fmt::Debug for LogInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show("Log", f)
    }
}

impl WakeEveryone for LogInner {
    fn wake_everyone(&self) {
        self.flusher.wake_everyone();
    }
}

impl LogInner {
    pub(super) fn new(place: LogDir, appender: Appender, report: Recovery) -> Arc<Self> {
        let oldest = appender.incarnations.oldest();
        let retention = Arc::new(Retention::new(oldest, report.tables_up_to));
        Arc::new_cyclic(|me| LogInner {
            me: me.clone(),
            place,
            report,
            retention,
            reserve: OnceLock::new(),
            flusher: Flusher::new(appender),
            background: Background::default(),
            marker: Marker::default(),
            closing: Mutex::default(),
            checked: Mutex::default(),
            closed: Condvar::new(),
            generation: process::generation(),
        })
    }

    // ---- its parts

    pub(super) fn appender(&self) -> &Appender {
        &self.flusher.appender
    }

    pub(crate) fn incarnations(&self) -> &Incarnations {
        &self.flusher.appender.incarnations
    }

    pub(crate) fn positions(&self) -> &Positions {
        &self.flusher.appender.positions
    }

    pub(crate) fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.flusher.appender.settings
    }

    // ---- what it says of itself

    /// The line that a handle called `name` prints.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("dir", &self.place.dir())
            .field("log_id", &self.log_id())
            .field("appended", &Lsn::new(self.positions().appended()))
            .field("durable", &self.durable())
            .field("poisoned", &self.poisoned().is_some())
            .finish_non_exhaustive()
    }

    pub(crate) fn handle(&self) -> &DirHandle {
        self.place.handle()
    }

    /// What its directory is called in messages.
    pub(crate) fn dir(&self) -> &Path {
        self.place.dir()
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.incarnations().log_id()
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.positions().durable())
    }

    /// Whether this open has begun an incarnation: whether it has written.
    pub(crate) fn has_begun(&self) -> bool {
        self.incarnations().current().is_some()
    }

    pub(crate) fn token(&self, lsn: Lsn) -> Token {
        self.incarnations().token(lsn)
    }

    pub(crate) fn report(&self) -> &Recovery {
        &self.report
    }

    pub(crate) fn at_risk(&self) -> LossWindow {
        if self.is_of_this_process() { self.appender().at_risk() } else { LossWindow::default() }
    }

    pub(crate) fn stats(&self) -> Stats {
        if !self.is_of_this_process() {
            return self.appender().read_counters();
        }
        let RetainedStats { bytes, from, gave_way, pins_dropped } = self.retained_stats();
        Stats {
            retained_bytes: bytes,
            oldest: from,
            retention_gave_way: gave_way,
            log_pins_dropped: pins_dropped,
            ..self.appender().read_stats()
        }
    }

    /// The memory of what is on its way to the files, in bytes.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        self.appender().buffer_bytes()
    }

    pub(crate) fn io(&self) -> IoBackend {
        match self.place.disk().io() {
            IoBackend::Calls { why: None } if self.settings().io_uring => {
                IoBackend::Calls { why: Some("this disk does without it".into()) }
            }
            io => io,
        }
    }

    /// Refuses a handle that crossed `fork()`.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.is_of_this_process() { Ok(()) } else { Err(Error::forked()) }
    }

    /// Whether it was opened in this process. A child must take no lock: a thread that was not copied may hold it.
    pub(crate) fn is_of_this_process(&self) -> bool {
        process::is_current(self.generation)
    }

    // ---- a commit

    /// Checks a record's size and computes its checksum. Takes no lock.
    pub(crate) fn prepare<'a>(&self, payload: &'a [u8]) -> Result<Prepared<'a>> {
        self.appender().prepare(payload)
    }

    /// Takes a place in the log order for `record`, if there is room. Never waits.
    pub(crate) fn reserve(
        &self,
        record: &Prepared<'_>,
        mode: CommitMode,
    ) -> std::result::Result<std::result::Result<Lsn, Stall>, Refused> {
        self.appender().reserve(record, mode)
    }

    /// Waits until there may be room; the caller tries again. Called without any lock.
    pub(crate) fn wait_for_room(&self, stall: Stall, record: &Prepared<'_>, limit: WaitLimit) -> Result<()> {
        match stall {
            Stall::Begin => self.begin_for_commit(record),
            Stall::Budget | Stall::Segment => self.appender().wait_for_room(stall, record, limit),
        }
    }

    /// Makes this committer the leader if no flush is running and the last flush served no one else.
    pub(crate) fn lead_alone(&self) -> Option<LoneFlush<'_>> {
        self.flusher.lead_alone()
    }

    /// Waits for what `mode` promises about the record at `lsn`, which has its place.
    pub(crate) fn wait_for_mode(&self, lsn: Lsn, mode: CommitMode, limit: WaitLimit) -> Result<()> {
        self.flusher.wait_for_mode(lsn, mode, limit)
    }

    /// Returns once everything up to `lsn` is durable; flushes it if no other thread does.
    pub(crate) fn flush_to(&self, lsn: u64) -> Result<()> {
        self.flusher.flush_to(lsn)
    }

    /// What a commit at `lsn` is told when it is not waited for any longer.
    pub(crate) fn verdict_on(&self, lsn: u64) -> Result<()> {
        self.appender().verdict_on(lsn)
    }

    /// Makes a flush of the record at `lsn` due.
    pub(crate) fn ask_for_flush(&self, lsn: Lsn) {
        self.appender().ask_for_flush(lsn.get());
    }

    /// Returns once the record at `lsn` is written.
    pub(crate) fn write_to(&self, lsn: Lsn) -> Result<()> {
        self.flusher.write_to(lsn.get())
    }

    /// Whether a commit that was written is to be waited for until it is durable: the loss window is older than it may be.
    pub(crate) fn is_overdue(&self) -> bool {
        self.appender().is_overdue()
    }

    /// Has `waker` woken when the log has closed, and has given up the lock on its directory.
    pub(crate) fn wake_at_the_end(&self, waker: Waker) {
        self.flusher.wake_at_the_end(waker);
    }

    /// Waits until everything up to `lsn` is durable, or nothing more will be; `false` if `deadline` came first. It makes no flush due.
    pub(crate) fn watch_to(&self, lsn: u64, deadline: Option<Moment>) -> bool {
        !matches!(self.flusher.watch_to(lsn, deadline), Ok(Waited::TimedOut))
    }

    /// Whether nothing becomes durable any more.
    pub(crate) fn is_over(&self) -> bool {
        self.flusher.is_over()
    }

    // ---- failure

    pub(crate) fn poisoned(&self) -> Option<&Poisoned> {
        self.appender().failure.poisoned()
    }

    /// Stops the log for good; the first cause stays.
    pub(crate) fn stop(&self, cause: Error) -> Alarm {
        self.appender().stop(cause)
    }

    /// The error for new commits.
    pub(crate) fn refusal(&self) -> Error {
        self.appender().refusal()
    }

    /// Refuses to go on if a segment that is written to, or will be, was removed, replaced or cut: the next open would not
    /// find what is written to it. Asked where files are opened or replaced anyway, never by a commit. So a segment may be
    /// left between two checks: those of the last check are looked at once more.
    pub(super) fn check_segments(&self) -> Result<()> {
        let segments = self.appender().segments();
        let before = std::mem::replace(&mut *self.checked.lock(), segments.clone());
        let left = before.iter().filter(|known| !segments.iter().any(|segment| Arc::ptr_eq(segment, known)));
        left.chain(&segments).try_for_each(|segment| {
            let found = self.place.handle().check_named(&**segment.file(), segment.path(), segment.size());
            // A retirement says so before it removes anything.
            if segment.limit() <= self.incarnations().oldest().get() { Ok(()) } else { found }
        })
    }

    /// [`LogInner::check_segments`], and that LOCK is the one that this open holds.
    pub(super) fn check_files(&self) -> Result<()> {
        self.check_segments().and_then(|()| self.place.handle().check_lock())
    }

    /// What to tell of an error outside the flush path. It is final only if the disk's fail-stop latch has closed, or if a
    /// file was removed under the open log; then it stops the log.
    pub(super) fn note_failure(&self, error: Error) -> Refused {
        // If files were removed, the error says so, and not only what that led to.
        let error = self.check_segments().err().unwrap_or(error);
        if error.kind() != ErrorKind::Removed && self.place.disk().failure().is_none() {
            return error.into();
        }
        let alarm = self.stop(error);
        Refused { error: self.refusal(), alarm: Some(alarm) }
    }

    /// The error, for a thread that holds a lock: the flusher ends then, and its last act is to tell every waiter.
    pub(super) fn raise_later(&self, refused: Refused) -> Error {
        if let Some(alarm) = refused.alarm {
            alarm.left_to_the_flusher();
            // There may be none yet, and tails and descriptors that wait for the end.
            let _ = self.start_flusher();
            self.appender().wake();
        }
        refused.error
    }

    // ---- its threads

    /// Starts a background thread; `None` if the log was closed. If it panics, its last act is to stop the log, and every
    /// waiter has its verdict.
    pub(crate) fn start(
        &self,
        name: &'static str,
        task: Arc<dyn Task>,
        body: impl FnOnce() + Send + 'static,
    ) -> Option<io::Result<()>> {
        self.background.start(Start { name, task, body, died: self.when_dead(name) })
    }

    /// As [`LogInner::start`] for a thread that works on the log, and that runs once for it.
    pub(crate) fn start_once(
        &self,
        name: &'static str,
        task: Arc<dyn Task>,
        body: impl FnOnce(&Arc<LogInner>) + Send + 'static,
    ) -> Option<io::Result<()>> {
        let log = self.me.upgrade()?;
        self.background.start_once(Start { name, task, body: move || body(&log), died: self.when_dead(name) })
    }

    /// What is done when the thread called `name` has panicked: it stops the log, since waiters may be waiting for that
    /// thread. The closure does not keep the log.
    fn when_dead(&self, name: &'static str) -> impl FnOnce(&Panicked) + Send + 'static {
        let me = Weak::clone(&self.me);
        move |panicked| {
            if let Some(log) = me.upgrade() {
                let message = format!("the thread {name} panicked: {}", panicked.message);
                log.stop(Error::new(ErrorKind::Internal, message)).raise(&*log);
            }
        }
    }

    /// Has `callback` called with the verdict on `lsn`.
    pub(super) fn call_back(&self, lsn: u64, callback: Callback) -> Result<()> {
        let started = self.flusher.callbacks.start(self.when_dead("forelog-callbacks"));
        started.map_err(|error| Error::io("start the callback thread for", self.place.dir(), error))?;
        self.flusher.call_back(lsn, callback);
        Ok(())
    }
}
