//! The one flush path. Everybody who wants bytes written or durable comes through here: Sync committers, the
//! background flusher, back-pressure and close.
//!
//! Two rights are handed out one at a time: the right to *write* (a lock, held for a write call) and the right to
//! *sync* (a flag with a queue, held for a whole flush). A `Written` commit needs only the first, so it never waits
//! for an fsync. No lock of the append path is held during either call.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::buffer::Buffer;
use super::gather::Gathering;
use super::poison::Stopped;
use super::segment::Segment;
use super::shared::Shared;
use super::waiters::{Callback, Signal, Slot, Waiter, Waiters};
use crate::disk::{write_all_at, write_and_sync};
use crate::format::frame;
use crate::words::clock::{self, Moment};
use crate::words::error::{Error, Result};
use crate::words::guard::contain;
use crate::words::plant::planted;
use crate::words::sync;

/// What the right to write guards.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Takes the log buffer's place while its bytes go to the file.
    spare: Buffer,
    /// Segments that hold bytes written since the last fsync took its list.
    dirty: Vec<Arc<Segment>>,
    /// Bytes were taken from the log buffer and are not all in the file: writing on would leave a hole.
    unfinished: bool,
}

/// The right to sync, and those who wait for it or for its result.
#[derive(Debug, Default)]
pub(crate) struct SyncState {
    taken: bool,
    pub(crate) waiters: Waiters,
    gathering: Gathering,
    /// The last flush is over.
    closed: bool,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    Reached,
    TimedOut,
}

impl Shared {
    /// Returns once everything up to `lsn` is durable, flushing it if nobody else does.
    pub(crate) fn flush_to(&self, lsn: u64) -> Result<()> {
        loop {
            if self.positions.durable() >= lsn
                || (planted!("ack-what-another-wrote") && self.positions.written() >= lsn)
            {
                return Ok(());
            }
            let mut state = self.sync.lock();
            if self.positions.durable() >= lsn {
                return Ok(());
            }
            self.refuse_if_poisoned(lsn)?;
            if !state.taken {
                state.taken = true;
                drop(state);
                self.lead();
                continue;
            }
            let slot = Slot::of_this_thread();
            state.waiters.add(lsn, Waiter::Thread(Arc::clone(&slot)));
            drop(state);
            if slot.wait(None) == Some(Signal::Lead) {
                self.lead();
            }
        }
    }

    /// [`Shared::flush_to`] with a deadline. It leaves the flush to the background flusher: the device may stall for
    /// longer than the caller wants to wait.
    pub(crate) fn flush_until(&self, lsn: u64, deadline: Moment) -> Result<Waited> {
        self.ask_for_flush(lsn);
        self.watch_to(lsn, deadline)
    }

    /// Waits until everything up to `lsn` is durable, or until `deadline`; makes no flush due.
    pub(crate) fn watch_to(&self, lsn: u64, deadline: Moment) -> Result<Waited> {
        loop {
            let slot = Slot::of_this_thread();
            let id = {
                let mut state = self.sync.lock();
                if self.positions.durable() >= lsn {
                    return Ok(Waited::Reached);
                }
                self.refuse_if_poisoned(lsn)?;
                if state.closed {
                    return Err(self.refusal());
                }
                state.waiters.add(lsn, Waiter::Watcher(Arc::clone(&slot)))
            };
            if slot.wait(Some(deadline)).is_none() {
                if self.sync.lock().waiters.remove(id).is_some() {
                    return Ok(Waited::TimedOut);
                }
                slot.wait(None);
            }
        }
    }

    /// Returns once everything up to `lsn` is written. Waits for no fsync.
    pub(crate) fn write_to(&self, lsn: u64) -> Result<()> {
        while self.positions.written() < lsn {
            self.refuse_if_poisoned(lsn)?;
            let mut writer = self.writer.lock();
            if self.positions.written() < lsn && self.write_out(&mut writer).is_err() {
                drop(writer);
                self.tell_of_poison();
            }
        }
        Ok(())
    }

    /// Flushes everything appended so far. Called with the right to sync, which it gives on.
    fn lead(&self) {
        let right = SyncRight::new(self);
        self.gather();
        right.flush(clock::now(), &mut || ());
    }

    /// The right to sync for a Sync commit that has its place, if nobody else has it or was around at the last flush.
    pub(crate) fn lead_alone(&self) -> Option<LoneFlush<'_>> {
        let mut state = self.sync.lock();
        if state.taken || !state.gathering.is_alone() || state.closed {
            return None;
        }
        state.taken = true;
        Some(LoneFlush { right: SyncRight::new(self) })
    }

    fn gather(&self) {
        let came = || self.sync.lock().waiters.threads() + 1;
        let Some(wait) = self.sync.lock().gathering.begin() else { return };
        let (begun, before) = (clock::now(), came());
        let deadline = begun.after(wait.limit);
        let mut now = before;
        while now < wait.crowd && (planted!("race-gathers-for-ever") || clock::now() < deadline) {
            sync::yield_now();
            now = came();
        }
        self.sync.lock().gathering.end(wait, before, now);
    }

    fn write_and_start_sync(&self) -> std::result::Result<(), Stopped> {
        let dirty = {
            let mut writer = self.writer.lock();
            self.write_out(&mut writer)?;
            writer.dirty.clone()
        };
        // Without the right to write, for which `Written` commits wait: a device that is full of requests lets this wait.
        for segment in &dirty {
            self.stop_if_poisoned()?;
            let started = segment.file().start_sync();
            started.map_err(|error| self.stop(Error::io("write to", segment.path(), error)))?;
        }
        Ok(())
    }

    fn write_and_sync(&self) -> std::result::Result<(), Stopped> {
        let (target, dirty) = {
            let mut writer = self.writer.lock();
            self.write_out(&mut writer)?;
            self.take_dirty(&mut writer)
        };
        if planted!("race-durable-before-sync") {
            let _ = self.positions.advance_durable(target);
        }
        self.sync(&dirty)?;
        self.note_durable(target, &dirty)
    }

    /// [`Shared::write_and_sync`] with the newest segment's write and fsync in one submission. `meanwhile` is called
    /// while only the fsync is waited for, without the right to write; it may not be after a failure.
    fn submit_flush(&self, meanwhile: &mut dyn FnMut()) -> std::result::Result<(), Stopped> {
        let mut writer = self.writer.lock();
        let Some(end) = self.take_buffer(&mut writer)? else {
            let (target, dirty) = self.take_dirty(&mut writer);
            drop(writer);
            meanwhile();
            self.sync(&dirty)?;
            return self.note_durable(target, &dirty);
        };
        let length = writer.spare.bytes.len();
        let newest = writer.spare.runs.pop().expect("there are bytes");
        // The request owns its bytes, and gives them back.
        let all = &mut writer.spare.bytes;
        let mut bytes = if newest.from == 0 { std::mem::take(all) } else { all.split_off(newest.from) };
        self.write_runs(&mut writer)?;
        seal_all(&mut bytes, &newest.segment, self.claimed_durable());
        note_dirty(&mut writer.dirty, &newest.segment);
        let mut right = Some(writer);
        let mut kept = None;
        let mut written = Ok((0, Vec::new()));
        let synced = write_and_sync(&**newest.segment.file(), bytes, newest.offset(), &mut |bytes| {
            let Some(mut writer) = right.take() else { return };
            writer.spare.bytes = bytes;
            written = self.note_written(&mut writer, length, end).map(|()| self.take_dirty(&mut writer));
            if planted!("uring-acks-written") {
                let _ = self.positions.advance_durable(end);
            }
            if planted!("race-uring-keeps-the-right-to-write") {
                kept = Some(writer);
            } else {
                drop(writer);
            }
            meanwhile();
        });
        drop(kept);
        // A failed write stops the log before the right to write is given up, so that nobody writes behind the hole.
        let what = if right.is_some() { "write to" } else { "fsync" };
        synced.map_err(|error| self.stop(Error::io(what, newest.segment.path(), error)))?;
        let (target, dirty) = written?;
        let target = if planted!("race-uring-takes-its-target-late") { self.positions.written() } else { target };
        self.sync(dirty.split_last().map_or(&[], |(_, others)| others))?;
        self.note_durable(target, &dirty)
    }

    /// Up to where bytes are written, and the segments that hold those that no fsync was begun for.
    fn take_dirty(&self, writer: &mut Writer) -> (u64, Vec<Arc<Segment>>) {
        (self.positions.written(), std::mem::take(&mut writer.dirty))
    }

    fn sync(&self, dirty: &[Arc<Segment>]) -> std::result::Result<(), Stopped> {
        for segment in dirty {
            self.stop_if_poisoned()?;
            let is_newest = dirty.last().is_some_and(|newest| Arc::ptr_eq(newest, segment));
            if planted!("skip-file-fsync") || (planted!("fsync-newest-segment-only") && !is_newest) {
                continue;
            }
            let synced = segment.file().sync_data();
            synced.map_err(|error| self.stop(Error::io("fsync", segment.path(), error)))?;
        }
        Ok(())
    }

    /// The segments in `dirty` are synced.
    fn note_durable(&self, target: u64, dirty: &[Arc<Segment>]) -> std::result::Result<(), Stopped> {
        let target = if planted!("durable-up-to-what-is-written-by-now") { self.positions.written() } else { target };
        self.stats.flushed(dirty.len() as u64);
        // Under the lock under which a failure is noted: what the poison report calls in doubt stays in doubt, also if
        // this flush was in flight when something else failed.
        let mut core = self.core.lock();
        if !planted!("race-durable-after-poison") {
            self.stop_if_poisoned()?;
        }
        self.positions.advance_durable(target).map_err(|step| self.stop_holding(&mut core, step.into()))?;
        core.ledger.release(target);
        self.arm_mark(&mut core);
        // Whether or not this call was the one that released: a look at the ledger may have come first.
        if !planted!("race-room-not-told") {
            self.room.notify_all();
        }
        Ok(())
    }

    /// Writes the log buffer to its segments. Called with the right to write. On a failure the log is poisoned before
    /// the right is given up, so that nobody writes behind the hole.
    fn write_out(&self, writer: &mut Writer) -> std::result::Result<(), Stopped> {
        let Some(end) = self.take_buffer(writer)? else { return Ok(()) };
        let length = writer.spare.bytes.len();
        self.write_runs(writer)?;
        self.note_written(writer, length, end)
    }

    /// Writes the runs of the buffer that was taken.
    fn write_runs(&self, writer: &mut Writer) -> std::result::Result<(), Stopped> {
        let durable = self.claimed_durable();
        let Writer { spare, dirty, .. } = writer;
        for index in 0..spare.runs.len() {
            let until = spare.run_end(index);
            let run = &spare.runs[index];
            let bytes = &mut spare.bytes[run.from..until];
            seal_all(bytes, &run.segment, durable);
            let written = write_all_at(&**run.segment.file(), bytes, run.offset());
            written.map_err(|error| self.stop(Error::io("write to", run.segment.path(), error)))?;
            note_dirty(dirty, &run.segment);
        }
        Ok(())
    }

    /// All `length` bytes of the buffer that was taken, which ends at `end`, are in the files.
    fn note_written(&self, writer: &mut Writer, length: usize, end: u64) -> std::result::Result<(), Stopped> {
        self.stats.wrote(length as u64);
        writer.spare.clear();
        self.positions.advance_written(end).map_err(|step| self.stop(step.into()))?;
        writer.unfinished = false;
        Ok(())
    }

    /// Takes the log buffer to be written, all of it; returns where it ends, if there is anything in it.
    fn take_buffer(&self, writer: &mut Writer) -> std::result::Result<Option<u64>, Stopped> {
        if writer.unfinished {
            let cause = Error::bug("a write to the log did not return");
            return Err(self.stop(cause));
        }
        let end = {
            let mut core = self.core.lock();
            if core.buffer.is_empty() {
                return Ok(None);
            }
            std::mem::swap(&mut core.buffer, &mut writer.spare);
            self.positions.appended()
        };
        let end = if planted!("race-written-past-the-buffer") { self.positions.appended() } else { end };
        writer.unfinished = true;
        self.stop_if_poisoned()?;
        Ok(Some(end))
    }

    /// What frames that are written now say to be durable.
    fn claimed_durable(&self) -> u64 {
        let durable = self.positions.durable().max(self.incarnations.begin());
        if planted!("frames-claim-written-as-durable") { self.positions.written().max(durable) } else { durable }
    }
    /// After the last flush: whoever waits for something beyond it is told that it will not come.
    pub(crate) fn end_waits(&self) {
        self.sync.lock().closed = true;
        self.wake_served(HandOn::Nothing);
    }

    /// Wakes waiters whose position is durable, or everybody if the log is poisoned or closed. Called without any lock.
    pub(crate) fn wake_served(&self, hand_on: HandOn) {
        let (slots, wakers, next) = {
            let mut state = self.sync.lock();
            let over = state.closed || self.poisoned().is_some();
            let over = over && !planted!("forget-waiters-on-error");
            let served = state.waiters.take_up_to(if over { u64::MAX } else { self.positions.durable() });
            let mut next = None;
            if let HandOn::Right { flush } = hand_on {
                let released = served.iter().filter(|(_, waiter)| matches!(waiter, Waiter::Thread(_))).count();
                let waiting = state.waiters.threads();
                state.gathering.flushed(flush, released, waiting);
                next = state.waiters.take_thread();
                state.taken = next.is_some();
                if planted!("race-lead-not-handed-on") {
                    next = None;
                }
            }
            // Callbacks are queued under the lock: two flushes in a row must not swap their order.
            let (mut slots, mut wakers) = (Vec::with_capacity(served.len()), Vec::new());
            for (lsn, waiter) in served {
                match waiter {
                    Waiter::Callback(callback) => self.queue_callback(callback, lsn),
                    Waiter::Thread(slot) | Waiter::Watcher(slot) => slots.push(slot),
                    Waiter::Task(waker) => wakers.push(waker),
                }
            }
            (slots, wakers, next)
        };
        // The next flusher first: the device is idle until it runs.
        if let Some(slot) = next {
            slot.signal(Signal::Lead);
        }
        for slot in slots {
            slot.signal(Signal::Look);
        }
        // A user's code comes last: it may wait for one of those threads, and it may panic.
        wake_all(wakers);
    }

    fn queue_callback(&self, callback: Callback, lsn: u64) {
        let verdict = self.verdict_on(lsn);
        self.callbacks.queue(callback, verdict);
    }
}

/// Whether the one who wakes also gives the right to sync on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandOn {
    /// Of a flush that took so long.
    Right {
        flush: Duration,
    },
    Nothing,
}

/// The right to sync; given on when dropped, also by a panic, so that nobody waits for a flusher that is gone.
struct SyncRight<'a> {
    shared: &'a Shared,
    /// What the flush took.
    took: Duration,
    /// The flush came to its end. (Whether the thread is panicking does not tell: it may flush while it unwinds.)
    returned: bool,
}

impl<'a> SyncRight<'a> {
    fn new(shared: &'a Shared) -> Self {
        SyncRight { shared, took: Duration::ZERO, returned: false }
    }

    /// Makes everything appended so far durable, which began at `begun`, and gives the right on. `meanwhile` is called
    /// once or more, at the latest when that is over.
    fn flush(mut self, begun: Moment, meanwhile: &mut dyn FnMut()) {
        let shared = self.shared;
        let flushed = if shared.settings.io_uring { shared.submit_flush(meanwhile) } else { shared.write_and_sync() };
        meanwhile();
        if flushed.is_err() {
            shared.tell_of_poison();
        }
        self.took = clock::now().since(begun);
        self.returned = true;
    }
}

impl Drop for SyncRight<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.shared.stop(Error::bug("a flush panicked"));
            self.shared.tell_of_poison();
        }
        self.shared.wake_served(HandOn::Right { flush: self.took });
    }
}

/// A flush by a committer that is alone, which does meanwhile what need not be done before the device has the record.
/// To drop it is a failure, as a panic within a flush is.
pub(crate) struct LoneFlush<'a> {
    right: SyncRight<'a>,
}

impl LoneFlush<'_> {
    /// Makes everything appended so far durable, and gives the right to sync on. Calls `meanwhile` when it is written
    /// and the device has begun with it, or when that failed.
    pub(crate) fn run(self, meanwhile: impl FnOnce()) {
        let shared = self.right.shared;
        let begun = clock::now();
        let mut meanwhile = Some(meanwhile);
        let mut once = || {
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile();
            }
        };
        if !shared.settings.io_uring {
            if shared.write_and_start_sync().is_err() {
                shared.tell_of_poison();
            }
            once();
        }
        self.right.flush(begun, &mut once);
    }
}

/// Wakes the tasks, each as often as it does not wait several times in a row.
fn wake_all(wakers: Vec<Waker>) {
    let mut before: Option<Waker> = None;
    for waker in wakers {
        // A panic of a waker is neither the other waiters' fault nor this thread's. Its drop is contained apart: in the
        // same call it would run while the first panic unwinds, and a second one would abort the process.
        let _ = contain(|| {
            if before.as_ref().is_none_or(|before| !before.will_wake(&waker)) {
                waker.wake_by_ref();
            }
        });
        if let Some(before) = before.replace(waker) {
            let _ = contain(|| drop(before));
        }
    }
    let _ = contain(|| drop(before));
}

fn note_dirty(dirty: &mut Vec<Arc<Segment>>, segment: &Arc<Segment>) {
    if !dirty.iter().any(|known| Arc::ptr_eq(known, segment)) {
        dirty.push(Arc::clone(segment));
    }
}

/// Seals consecutive frames of one segment.
fn seal_all(mut bytes: &mut [u8], segment: &Segment, durable: u64) {
    while !bytes.is_empty() {
        let length = frame::seal(bytes, segment.checksum(), durable);
        let length = usize::try_from(length).expect("the frame is in memory");
        bytes = &mut bytes[length..];
    }
}
