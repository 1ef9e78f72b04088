//! Taking a place in the log: the append lock, what it guards, and those who wait for it to have room.
//!
//! Everything that is appended passes [`Appender::reserve`]. The other methods are what the flusher, the preparer and a
//! failure change under the same lock: each holds it for a few instructions and never during I/O.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::budget::{Ledger, LossWindow};
use super::buffer::{Buffer, NeedsSegment, Prepared, Tail};
use super::segment::Segment;
use super::stall::{Stall, WaitLimit};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::{CommitMode, Lsn};
use crate::log::failure::{Alarm, Failure, Poisoned, Refused};
use crate::log::incarnations::Incarnations;
use crate::log::log_dir::LogDir;
use crate::log::mark::{Arming, Look};
use crate::log::positions::Positions;
use crate::log::stats::{Counters, Stats};
use crate::log::write::jobs::{Job, Jobs};
use crate::rt::clock::{self, Moment};
use crate::rt::sync::{AtomicU64, Condvar, Mutex};

/// No LSN: the flusher was asked already.
const ASKED: u64 = u64::MAX;

/// Where the next record goes, and everything that must agree with it.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) settings: Settings,
    pub(crate) incarnations: Incarnations,
    pub(crate) positions: Positions,
    pub(crate) failure: Failure,
    pub(crate) stats: Counters,
    pub(crate) jobs: Arc<Jobs>,
    core: Mutex<Core>,
    /// With `core`: room in the loss budget, a prepared segment, or the end.
    room: Condvar,
    /// With `core`: a flush is due, or the end.
    due: Condvar,
    /// The memory of the buffer that is being written, or was last, in bytes.
    writing: AtomicU64,
    /// A flush of everything up to here is due now; [`ASKED`] until the flusher has woken, which flushes all that is
    /// appended by then.
    asked: AtomicU64,
}

/// What the append lock guards.
#[derive(Debug)]
struct Core {
    buffer: Buffer,
    tail: Tail,
    ledger: Ledger,
    /// When the background flusher must issue a flush; `None` if no flush is due.
    due: Option<Moment>,
    /// Closed or poisoned: no append is taken any more.
    stopped: bool,
    /// A segment is being prepared.
    preparing: bool,
    /// The preparation failed; told to the append that needs the segment.
    prepare_error: Option<Error>,
    /// A deletion needs the segment that is asked for.
    is_spare_wanted: bool,
    /// The last segment was made of what is left for deletions: no other record has a place there.
    is_spare: bool,
    /// Whether MARK lags behind the durable LSN.
    arming: Arming,
    /// Segments prepared in this incarnation: their sizes double from the first on.
    prepared: u32,
}

impl Core {
    /// Where `record` would end, if it may have a place in what is prepared.
    fn end_of(&self, record: &Prepared<'_>) -> std::result::Result<u64, NeedsSegment> {
        if self.is_spare && !record.may_use_spare {
            return Err(NeedsSegment);
        }
        self.tail.end_of(record.payload().len() as u64)
    }
}

/// Refuses the one mode whose commit is a wait for the device, which a call that never waits excludes.
pub(crate) fn refuse_waiting_mode(mode: CommitMode) -> Result<()> {
    if mode == CommitMode::Sync {
        return Err(Error::invalid_input("Sync waits for the device: try Async and ask the receipt"));
    }
    Ok(())
}

/// Whether the commit is acknowledged before it is durable, and so counts against the loss budget.
fn is_at_risk(mode: CommitMode) -> bool {
    mode != CommitMode::Sync
}

impl Appender {
    /// All positions at the recovered end of the log.
    pub(crate) fn new(settings: Settings, place: LogDir, incarnations: Incarnations, recovered_to: Lsn) -> Self {
        let core = Core {
            buffer: Buffer::default(),
            tail: Tail::default(),
            ledger: Ledger::new(settings.loss_budget),
            due: None,
            stopped: false,
            preparing: false,
            prepare_error: None,
            is_spare_wanted: false,
            is_spare: false,
            arming: Arming::default(),
            prepared: 0,
        };
        Appender {
            settings,
            incarnations,
            positions: Positions::at(recovered_to),
            failure: Failure::none(place),
            stats: Counters::default(),
            jobs: Arc::default(),
            core: Mutex::new(core),
            room: Condvar::new(),
            due: Condvar::new(),
            writing: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    /// The memory of the log buffer, and of the one that takes its place, in bytes.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        self.core.lock().buffer.capacity() + self.writing.load(Ordering::Relaxed)
    }

    /// What the buffer takes that is not the log buffer.
    pub(super) fn note_writing(&self, buffer: &Buffer) {
        self.writing.store(buffer.capacity(), Ordering::Relaxed);
    }

    /// Checks a record's size and computes its checksum. Takes no lock.
    pub(crate) fn prepare<'a>(&self, payload: &'a [u8]) -> Result<Prepared<'a>> {
        self.settings.check_record(payload.len() as u64)?;
        Ok(Prepared::new(payload))
    }

    /// Takes a place in the log order for `record`, if there is room: copies it to the log buffer. Never waits.
    pub(crate) fn reserve(
        &self,
        record: &Prepared<'_>,
        mode: CommitMode,
    ) -> std::result::Result<std::result::Result<Lsn, Stall>, Refused> {
        let mut core = self.core.lock();
        if core.stopped {
            return Err(self.refusal().into());
        }
        if core.tail.segments.is_empty() {
            return Ok(Err(Stall::Begin));
        }
        let Ok(end) = core.end_of(record) else { return Ok(Err(Stall::Segment)) };
        let bytes = end - core.tail.next;
        // Read under the lock: a time from before a wait for the lock would make the window look shorter than it is.
        let at_risk_from = is_at_risk(mode).then(clock::now);
        if at_risk_from.is_some_and(|now| !self.admits(&mut core, bytes, now)) {
            return Ok(Err(Stall::Budget));
        }
        let Core { tail, buffer, .. } = &mut *core;
        let (lsn, bytes) = tail.place(record, buffer);
        if let Err(step) = self.positions.advance_appended(lsn) {
            let alarm = self.stop_with(&mut core, step.into());
            return Err(Refused { error: self.refusal(), alarm: Some(alarm) });
        }
        if let Some(now) = at_risk_from {
            core.ledger.acknowledge(lsn, bytes, now);
            let delay = match mode {
                CommitMode::Within(delay) => delay,
                _ => self.settings.flush_interval,
            };
            let full = lsn - self.positions.durable().max(self.incarnations.begin()) >= self.settings.flush_bytes;
            self.make_due(&mut core, if full { now } else { now.after(delay) });
        }
        self.prepare_ahead(&mut core);
        self.stats.appended();
        Ok(Ok(Lsn::new(lsn)))
    }

    fn admits(&self, core: &mut Core, bytes: u64, now: Moment) -> bool {
        core.ledger.admits(bytes, now) || {
            core.ledger.release(self.positions.durable());
            core.ledger.admits(bytes, now)
        }
    }

    /// Waits until there may be room in the loss budget, or a prepared segment; the caller tries again. Called without any
    /// lock.
    pub(crate) fn wait_for_room(&self, stall: Stall, record: &Prepared<'_>, limit: WaitLimit) -> Result<()> {
        self.stats.stalled();
        let mut core = self.core.lock();
        if limit != WaitLimit::Never {
            // The next preparation may succeed. A caller that does not wait for it is told why the last one failed.
            core.prepare_error = None;
        }
        let mut tried_spare = false;
        loop {
            let room = core.end_of(record);
            let has_room = match (stall, room) {
                (Stall::Segment, room) => room.is_ok(),
                (_, Ok(end)) => {
                    let bytes = end - core.tail.next;
                    self.admits(&mut core, bytes, clock::now())
                }
                (_, Err(_)) => true,
            };
            if has_room || core.stopped {
                return Ok(());
            }
            if stall == Stall::Budget {
                self.make_due(&mut core, clock::now());
            } else {
                // What was refused to others may be there for a deletion.
                if let Some(error) = core.prepare_error.take().filter(|_| !record.may_use_spare || tried_spare) {
                    return Err(error);
                }
                if record.may_use_spare && !core.preparing {
                    (core.is_spare_wanted, tried_spare) = (true, true);
                }
                self.prepare_more(&mut core);
            }
            let deadline = stall.wait(limit)?;
            self.room.wait_until(&mut core, deadline);
        }
    }

    // ---- the loss window

    /// Whether the loss window is older than it may be, now that a commit is to be acknowledged.
    pub(crate) fn is_overdue(&self) -> bool {
        let now = clock::now();
        let mut core = self.core.lock();
        core.ledger.release(self.positions.durable());
        let overdue = core.ledger.is_overdue(now);
        if !overdue {
            core.ledger.note(now);
        }
        overdue
    }

    pub(crate) fn at_risk(&self) -> LossWindow {
        let mut core = self.core.lock();
        core.ledger.release(self.positions.durable());
        core.ledger.at_risk(clock::now())
    }

    pub(crate) fn read_stats(&self) -> Stats {
        self.stats.read(self.core.lock().ledger.largest())
    }

    /// [`Appender::read_stats`] without the largest window, and without a lock.
    pub(crate) fn read_counters(&self) -> Stats {
        self.stats.read(LossWindow::default())
    }

    // ---- for the flusher

    /// Makes a flush of everything appended so far due now, if `lsn` is not durable yet.
    pub(crate) fn ask_for_flush(&self, lsn: u64) {
        if self.positions.durable() < lsn && self.asked.load(Ordering::Acquire) < lsn {
            let mut core = self.core.lock();
            self.asked.store(ASKED, Ordering::Release);
            self.make_due(&mut core, clock::now());
        }
    }

    /// Has the background flusher issue a flush at `moment` at the latest.
    fn make_due(&self, core: &mut Core, moment: Moment) {
        if core.due.is_none_or(|due| moment < due) {
            core.due = Some(moment);
            self.due.notify_one();
        }
    }

    /// For the background flusher: waits until a flush is due; the position to flush to, or `None` once the log is stopped.
    pub(super) fn wait_until_due(&self) -> Option<u64> {
        let mut core = self.core.lock();
        loop {
            if core.stopped {
                return None;
            }
            if core.due.is_some_and(|due| due <= clock::now()) {
                // Commits that come from here on set their own time.
                core.due = None;
                let appended = self.positions.appended();
                self.asked.store(appended, Ordering::Release);
                if self.positions.durable() < appended {
                    return Some(appended);
                }
                continue;
            }
            let look = self.watch_mark(&mut core);
            match core.due.into_iter().chain(look).min() {
                None => self.due.wait(&mut core),
                next => _ = self.due.wait_until(&mut core, next),
            }
        }
    }

    /// Swaps the log buffer for `spare`, which is empty; returns where it ends, if there is anything in it. Called with the
    /// right to write.
    pub(super) fn take_buffer(&self, spare: &mut Buffer) -> Option<u64> {
        let mut core = self.core.lock();
        if core.buffer.is_empty() {
            return None;
        }
        std::mem::swap(&mut core.buffer, spare);
        self.note_writing(spare);
        Some(self.positions.appended())
    }

    /// Everything up to `target` is synced. Called with the right to sync.
    pub(super) fn note_durable(&self, target: u64) -> std::result::Result<(), Alarm> {
        // Under the lock under which a failure is noted: what the poison report calls in doubt stays in doubt, also if
        // this flush was in flight when something else failed.
        let mut core = self.core.lock();
        self.failure.check()?;
        self.positions.advance_durable(target).map_err(|step| self.stop_with(&mut core, step.into()))?;
        core.ledger.release(target);
        self.arm_mark(&mut core);
        // Also if this call released nothing: another look at the ledger may have done so before.
        self.room.notify_all();
        Ok(())
    }

    // ---- the mark

    /// Called when the durable LSN has moved: one comparison, and at most once in [`REST`](crate::log::mark::REST) a notification.
    fn arm_mark(&self, core: &mut Core) {
        if core.arming.arm() {
            self.due.notify_one();
        }
    }

    /// For the flusher: when to look again, or `None` if the mark needs nothing. Asks for the mark if the log is at rest.
    fn watch_mark(&self, core: &mut Core) -> Option<Moment> {
        match core.arming.watch(self.positions.durable()) {
            Look::Never => None,
            Look::At(at) => Some(at),
            Look::AtFiles(at) => {
                self.jobs.ask(Job::Look);
                Some(at)
            }
            Look::Write => {
                // Not by the flusher itself: an fsync of the mark must not keep a flush waiting that becomes due.
                self.jobs.ask(Job::Mark);
                None
            }
        }
    }

    /// The result of writing the mark for everything up to `durable`.
    pub(crate) fn mark_is(&self, arming: Arming, durable: u64) {
        let mut core = self.core.lock();
        core.arming = arming;
        if arming == Arming::Armed {
            self.due.notify_one();
        } else if self.positions.durable() > durable {
            self.arm_mark(&mut core);
        }
    }

    // ---- for the preparer

    /// The incarnation has begun with this segment, which is durable.
    pub(crate) fn begin(&self, first: Arc<Segment>, is_spare: bool) {
        let mut core = self.core.lock();
        core.is_spare = is_spare;
        core.tail.next = first.base();
        core.tail.segments.push_back(first);
        core.prepared = 1;
        self.prepare_ahead(&mut core);
    }

    /// Has the next segment prepared if none is ready beyond the active one, so that a roll does not wait.
    fn prepare_ahead(&self, core: &mut Core) {
        if core.tail.segments.len() < 2 && core.prepare_error.is_none() {
            self.prepare_more(core);
        }
    }

    fn prepare_more(&self, core: &mut Core) {
        if !core.preparing && !core.stopped {
            core.preparing = true;
            self.jobs.ask(Job::Segment);
        }
    }

    /// Whether a segment was asked for that is neither there nor refused.
    pub(crate) fn is_preparing(&self) -> bool {
        self.core.lock().preparing
    }

    /// Whether the segment that is asked for may be made of what is left for deletions.
    pub(crate) fn is_spare_wanted(&self) -> bool {
        self.core.lock().is_spare_wanted
    }

    /// The last segment, and how many this incarnation has.
    pub(crate) fn last_segment(&self) -> Option<(Arc<Segment>, u32)> {
        let core = self.core.lock();
        core.tail.segments.back().map(|last| (Arc::clone(last), core.prepared))
    }

    /// The segments that are written to, or will be.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.core.lock().tail.segments.iter().cloned().collect()
    }

    /// The next segment is durable, or could not be made.
    pub(crate) fn segment_is(&self, prepared: Result<(Arc<Segment>, bool)>) {
        let mut core = self.core.lock();
        (core.preparing, core.is_spare_wanted) = (false, false);
        match prepared {
            Ok((segment, is_spare)) => {
                core.is_spare = is_spare;
                core.tail.segments.push_back(segment);
                core.prepared += 1;
                self.stats.prepared();
            }
            Err(error) => core.prepare_error = Some(error),
        }
        drop(core);
        self.room.notify_all();
    }

    // ---- the end

    /// Takes no append any more: the log is being closed.
    pub(crate) fn close(&self) {
        self.core.lock().stopped = true;
    }

    /// Wakes those who wait for room, and the flusher.
    pub(crate) fn wake(&self) {
        self.room.notify_all();
        self.due.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.core.lock().stopped
    }

    /// Stops the log for good; the first cause stays.
    pub(crate) fn stop(&self, cause: Error) -> Alarm {
        self.stop_with(&mut self.core.lock(), cause)
    }

    /// Called under the append lock, so that every commit with a place is in the range that is in doubt.
    fn stop_with(&self, core: &mut Core, cause: Error) -> Alarm {
        core.stopped = true;
        self.failure.note(Poisoned {
            cause,
            durable: Lsn::new(self.positions.durable()),
            appended: Lsn::new(self.positions.appended()),
        })
    }

    /// The error for new commits.
    pub(crate) fn refusal(&self) -> Error {
        self.failure.refusal()
    }

    /// The error for a commit that asks for something the poisoned log does no more.
    pub(super) fn refuse_if_poisoned(&self, lsn: u64) -> Result<()> {
        if self.failure.poisoned().is_some() { self.verdict_on(lsn) } else { Ok(()) }
    }

    /// What a commit at `lsn` is told when it is not waited for any longer.
    pub(crate) fn verdict_on(&self, lsn: u64) -> Result<()> {
        match self.failure.poisoned() {
            _ if self.positions.durable() >= lsn => Ok(()),
            Some(poison) => Err(Error::new(
                ErrorKind::Indeterminate,
                format!(
                    "the commit at LSN {} was in flight when the log failed: reopen and ask for its outcome",
                    Lsn::new(lsn)
                ),
            )
            .with_token(self.incarnations.token(Lsn::new(lsn)))
            .with_source(poison.cause.clone())),
            None => Err(Error::new(ErrorKind::Closed, "the log was closed")),
        }
    }
}
