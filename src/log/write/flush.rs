//! The one flush path: Sync committers, the background flusher, back-pressure and close have their bytes written and made
//! durable here.
//!
//! Two rights are handed out one at a time: the right to *write* (a lock, held for a write call) and the right to
//! *sync* (a flag with a queue, held for a whole flush). A `Written` commit needs only the first, so it never waits
//! for an fsync. No lock of the append path is held during either call.

pub(crate) mod lead;

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::append::Appender;
use super::buffer::Buffer;
use super::gather::Gathering;
use super::segment::Segment;
use super::stall::WaitLimit;
use super::waiters::{AT_THE_END, Callback, NEVER, Signal, Slot, Waited, Waiter, WaiterId, Waiters};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::{CommitMode, Lsn};
use crate::disk::{write_all_at, write_and_sync};
use crate::format::frame;
use crate::log::failure::{Alarm, WakeEveryone};
#[cfg(unix)]
use crate::log::receipts::bells::{self, Bell, Bells};
use crate::log::receipts::callbacks::Callbacks;
use crate::rt::clock::{self, Moment};
#[cfg(unix)]
use crate::rt::descriptor::Descriptor;
use crate::rt::sync::Mutex;

use lead::HandOn;
pub(crate) use lead::LoneFlush;

/// What is appended, on its way to the medium. Its lock of writing is taken before the append lock, its lock of syncing
/// last of all.
#[derive(Debug)]
pub(crate) struct Flusher {
    pub(crate) appender: Appender,
    pub(crate) callbacks: Callbacks,
    #[cfg(unix)]
    pub(in crate::log) bells: Bells,
    writer: Mutex<Writer>,
    sync: Mutex<SyncState>,
}

/// What the right to write guards.
#[derive(Debug, Default)]
struct Writer {
    /// Takes the log buffer's place while its bytes go to the file.
    spare: Buffer,
    /// Segments that hold bytes written after the last fsync had taken this list.
    dirty: Vec<Arc<Segment>>,
    /// Bytes were taken from the log buffer and are not all in the file: writing on would leave a hole.
    unfinished: bool,
}

/// The right to sync, and the committers that wait for it or for its result.
#[derive(Debug, Default)]
struct SyncState {
    taken: bool,
    waiters: Waiters,
    gathering: Gathering,
    /// The last flush is over.
    closed: bool,
}

impl WakeEveryone for Flusher {
    fn wake_everyone(&self) {
        self.appender.wake();
        self.wake_served(HandOn::Nothing);
    }
}

impl Flusher {
    pub(crate) fn new(appender: Appender) -> Self {
        Flusher {
            appender,
            callbacks: Callbacks::default(),
            #[cfg(unix)]
            bells: Bells::default(),
            writer: Mutex::default(),
            sync: Mutex::default(),
        }
    }

    /// Has `descriptor` made readable whenever the durable LSN has moved.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there are too many.
    #[cfg(unix)]
    pub(in crate::log) fn add_bell(&self, descriptor: Descriptor) -> Result<Arc<Bell>> {
        let bell = self.bells.add(descriptor, self.appender.positions.durable())?;
        // What came before it was in the list has rung for others only.
        self.ring();
        Ok(bell)
    }

    /// Called behind a move of the durable LSN, and once a bell is in the list. A flusher has held the lock of syncing in between, and
    /// here it is taken before the LSN is read: so one of the two sees what the other did.
    #[cfg(unix)]
    fn ring(&self) {
        if !self.bells.is_empty() {
            self.bells.ring(if self.is_over() { bells::AT_THE_END } else { self.appender.positions.durable() });
        }
    }

    /// Whether the durable LSN moves no more: the log is poisoned, or the last flush is over.
    pub(in crate::log) fn is_over(&self) -> bool {
        // Under the lock: who stops the log takes it before it looks whether anybody waits.
        self.has_ended(&self.sync.lock())
    }

    fn has_ended(&self, state: &SyncState) -> bool {
        state.closed || self.appender.failure.poisoned().is_some()
    }

    /// Returns once everything up to `lsn` is durable; flushes it if no other thread does.
    pub(crate) fn flush_to(&self, lsn: u64) -> Result<()> {
        loop {
            if self.appender.positions.durable() >= lsn {
                return Ok(());
            }
            let mut state = self.sync.lock();
            if self.appender.positions.durable() >= lsn {
                return Ok(());
            }
            self.appender.refuse_if_poisoned(lsn)?;
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

    /// [`Flusher::flush_to`] with a deadline. It leaves the flush to the background flusher: the device may stall for
    /// longer than the caller wants to wait.
    pub(crate) fn flush_until(&self, lsn: u64, deadline: Moment) -> Result<Waited> {
        self.appender.ask_for_flush(lsn);
        self.watch_to(lsn, Some(deadline))
    }

    /// Waits until everything up to `lsn` is durable, or until `deadline`; makes no flush due.
    pub(crate) fn watch_to(&self, lsn: u64, deadline: Option<Moment>) -> Result<Waited> {
        loop {
            let slot = Slot::of_this_thread();
            let id = {
                let mut state = self.sync.lock();
                if self.appender.positions.durable() >= lsn {
                    return Ok(Waited::Reached);
                }
                self.appender.refuse_if_poisoned(lsn)?;
                if state.closed {
                    return Err(self.appender.refusal());
                }
                state.waiters.add(lsn, Waiter::Watcher(Arc::clone(&slot)))
            };
            if slot.wait(deadline).is_none() {
                if self.sync.lock().waiters.remove(id).is_some() {
                    return Ok(Waited::TimedOut);
                }
                slot.wait(None);
            }
        }
    }

    /// Returns once everything up to `lsn` is written. Waits for no fsync.
    pub(crate) fn write_to(&self, lsn: u64) -> Result<()> {
        while self.appender.positions.written() < lsn {
            self.appender.refuse_if_poisoned(lsn)?;
            let mut writer = self.writer.lock();
            if self.appender.positions.written() >= lsn {
                break;
            }
            if let Err(alarm) = self.write_out(&mut writer) {
                drop(writer);
                alarm.raise(self);
            }
        }
        Ok(())
    }

    /// Waits for what `mode` promises about the record at `lsn`, which has its place.
    pub(crate) fn wait_for_mode(&self, lsn: Lsn, mode: CommitMode, limit: WaitLimit) -> Result<()> {
        match mode {
            CommitMode::Sync => self.wait_durable(lsn, limit),
            CommitMode::Written => {
                self.write_to(lsn.get())?;
                // The device may have stalled the write call itself for longer than the window may last.
                if self.appender.is_overdue() { self.wait_durable(lsn, limit) } else { Ok(()) }
            }
            CommitMode::Async | CommitMode::Within(_) => Ok(()),
        }
    }

    fn wait_durable(&self, lsn: Lsn, limit: WaitLimit) -> Result<()> {
        let waited = match limit {
            WaitLimit::Forever => return self.flush_to(lsn.get()),
            WaitLimit::Until(deadline) => self.flush_until(lsn.get(), deadline)?,
            WaitLimit::Never => self.flush_until(lsn.get(), clock::now())?,
        };
        match waited {
            Waited::Reached => Ok(()),
            Waited::TimedOut => {
                let message =
                    format!("the commit at LSN {lsn} is visible and not yet durable; its token tells when it is");
                let token = self.appender.incarnations.token(lsn);
                Err(Error::new(ErrorKind::TimedOut, message).with_token(token))
            }
        }
    }

    /// Has `waker` woken once `lsn` is durable, in the place of what the task left when it was `waiting`; the verdict if
    /// there is one already. It makes a flush due.
    pub(crate) fn poll(&self, lsn: u64, waiting: &mut Option<WaiterId>, waker: &Waker) -> Poll<Result<()>> {
        let before = *waiting;
        let polled = self.poll_watch(lsn, waiting, waker);
        if polled.is_pending() && *waiting != before {
            self.appender.ask_for_flush(lsn);
        }
        polled
    }

    /// [`Flusher::poll`], but it makes no flush due.
    pub(crate) fn poll_watch(&self, lsn: u64, waiting: &mut Option<WaiterId>, waker: &Waker) -> Poll<Result<()>> {
        if self.appender.positions.durable() >= lsn {
            // Its waker may still be registered: the flusher that moved the durable LSN is about to take it.
            *waiting = None;
            return Poll::Ready(Ok(()));
        }
        if let Some(id) = *waiting
            && let Some(Waiter::Task(known)) = self.sync.lock().waiters.get(id)
            && known.will_wake(waker)
        {
            return Poll::Pending;
        }
        // Cloned before the lock is taken, and the replaced waker dropped after it: both run a user's code.
        let newest = Waiter::Task(waker.clone());
        let _replaced = {
            let mut state = self.sync.lock();
            let replaced = waiting.take().and_then(|id| state.waiters.remove(id));
            // Decided under the lock: a flusher that moves the durable LSN takes it afterwards to look for waiters.
            if self.appender.positions.durable() >= lsn || self.has_ended(&state) {
                drop(state);
                return Poll::Ready(self.appender.verdict_on(lsn));
            }
            *waiting = Some(state.waiters.add(lsn, newest));
            replaced
        };
        Poll::Pending
    }

    /// Has `slot` told to look once nothing becomes durable any more; `None` if that is so.
    pub(crate) fn watch_end(&self, slot: &Arc<Slot>) -> Option<WaiterId> {
        let mut state = self.sync.lock();
        (!self.has_ended(&state)).then(|| state.waiters.add(NEVER, Waiter::Watcher(Arc::clone(slot))))
    }

    /// Has `waker` woken when nothing is waited for any more.
    pub(crate) fn wake_at_the_end(&self, waker: Waker) {
        let mut state = self.sync.lock();
        if state.closed {
            drop(state);
            return lead::wake_all(vec![waker]);
        }
        state.waiters.add(AT_THE_END, Waiter::Task(waker));
    }

    /// Forgets a task that no longer waits.
    pub(crate) fn forget(&self, waiting: WaiterId) {
        // The waker is dropped after the lock is released: it is a user's code.
        let waiter = self.sync.lock().waiters.remove(waiting);
        drop(waiter);
    }

    /// Has `callback` called with the verdict on `lsn`, by the callback thread, which runs.
    pub(crate) fn call_back(&self, lsn: u64, callback: Callback) {
        self.sync.lock().waiters.add(lsn, Waiter::Callback(callback));
        // Served at once if it is durable, behind the callbacks of lower LSNs that a flush has made durable and not yet
        // queued.
        if self.appender.positions.durable() >= lsn || self.appender.failure.poisoned().is_some() {
            self.wake_served(HandOn::Nothing);
        }
    }

    /// The background flusher: sleeps until a flush is due, issues it, and sleeps again. Without a commit at risk it wakes
    /// for the mark alone, and once that is written not at all.
    pub(crate) fn run(&self) {
        while let Some(target) = self.appender.wait_until_due() {
            // A failure has stopped the log and was reported; the next wait ends this thread.
            let _ = self.flush_to(target);
        }
        // A thread that stops the log while it unwinds wakes no one, and those who wait for a flush wait for this thread.
        if self.appender.failure.poisoned().is_some() {
            self.wake_everyone();
        }
    }

    /// Returns once no write is in flight.
    pub(crate) fn wait_for_writer(&self) {
        drop(self.writer.lock());
    }

    fn write_and_start_writeback(&self) -> std::result::Result<(), Alarm> {
        let dirty = {
            let mut writer = self.writer.lock();
            self.write_out(&mut writer)?;
            writer.dirty.clone()
        };
        // Without the right to write, which `Written` commits need: a device whose queue is full makes this call wait.
        for segment in &dirty {
            self.appender.failure.check()?;
            let started = segment.file().start_writeback();
            started.map_err(|error| self.appender.stop(Error::io("write to", segment.path(), error)))?;
        }
        Ok(())
    }

    fn write_and_sync(&self) -> std::result::Result<(), Alarm> {
        let (target, dirty) = {
            let mut writer = self.writer.lock();
            self.write_out(&mut writer)?;
            self.take_dirty(&mut writer)
        };
        self.sync(&dirty)?;
        self.note_durable(target, &dirty)
    }

    /// [`Flusher::write_and_sync`] with the newest segment's write and fsync in one submission. `meanwhile` is called
    /// while only the fsync is waited for, without the right to write; it may not be after a failure.
    fn submit_flush(&self, meanwhile: &mut dyn FnMut()) -> std::result::Result<(), Alarm> {
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
        let mut written = Ok((0, Vec::new()));
        let synced = write_and_sync(&**newest.segment.file(), bytes, newest.offset(), &mut |bytes| {
            let Some(mut writer) = right.take() else { return };
            writer.spare.bytes = bytes;
            written = self.note_written(&mut writer, length, end).map(|()| self.take_dirty(&mut writer));
            drop(writer);
            meanwhile();
        });
        // A failed write stops the log before the right to write is given up, so that no thread writes behind the hole.
        let what = if right.is_some() { "write to" } else { "fsync" };
        synced.map_err(|error| self.appender.stop(Error::io(what, newest.segment.path(), error)))?;
        let (target, dirty) = written?;
        self.sync(dirty.split_last().map_or(&[], |(_, others)| others))?;
        self.note_durable(target, &dirty)
    }

    /// Up to where bytes are written, and the segments that hold those that no fsync was begun for.
    fn take_dirty(&self, writer: &mut Writer) -> (u64, Vec<Arc<Segment>>) {
        (self.appender.positions.written(), std::mem::take(&mut writer.dirty))
    }

    fn sync(&self, dirty: &[Arc<Segment>]) -> std::result::Result<(), Alarm> {
        for segment in dirty {
            self.appender.failure.check()?;
            let synced = segment.file().sync_data();
            synced.map_err(|error| self.appender.stop(Error::io("fsync", segment.path(), error)))?;
        }
        Ok(())
    }

    /// The segments in `dirty` are synced.
    fn note_durable(&self, target: u64, dirty: &[Arc<Segment>]) -> std::result::Result<(), Alarm> {
        self.appender.stats.flushed(dirty.len() as u64);
        self.appender.note_durable(target)
    }

    /// Writes the log buffer to its segments. Called with the right to write. On a failure the log is poisoned before
    /// the right is given up, so that no thread writes behind the hole.
    fn write_out(&self, writer: &mut Writer) -> std::result::Result<(), Alarm> {
        let Some(end) = self.take_buffer(writer)? else { return Ok(()) };
        let length = writer.spare.bytes.len();
        self.write_runs(writer)?;
        self.note_written(writer, length, end)
    }

    /// Writes the runs of the buffer that was taken.
    fn write_runs(&self, writer: &mut Writer) -> std::result::Result<(), Alarm> {
        let durable = self.claimed_durable();
        let Writer { spare, dirty, .. } = writer;
        for index in 0..spare.runs.len() {
            let until = spare.run_end(index);
            let run = &spare.runs[index];
            let bytes = &mut spare.bytes[run.from..until];
            seal_all(bytes, &run.segment, durable);
            let written = write_all_at(&**run.segment.file(), bytes, run.offset());
            written.map_err(|error| self.appender.stop(Error::io("write to", run.segment.path(), error)))?;
            note_dirty(dirty, &run.segment);
        }
        Ok(())
    }

    /// All `length` bytes of the buffer that was taken, which ends at `end`, are in the files.
    fn note_written(&self, writer: &mut Writer, length: usize, end: u64) -> std::result::Result<(), Alarm> {
        self.appender.stats.wrote(length as u64);
        writer.spare.clear();
        self.appender.note_writing(&writer.spare);
        self.appender.positions.advance_written(end).map_err(|step| self.appender.stop(step.into()))?;
        writer.unfinished = false;
        Ok(())
    }

    /// Takes the log buffer to be written, all of it; returns where it ends, if there is anything in it.
    fn take_buffer(&self, writer: &mut Writer) -> std::result::Result<Option<u64>, Alarm> {
        if writer.unfinished {
            let cause = Error::bug("a write to the log did not return");
            return Err(self.appender.stop(cause));
        }
        let Some(end) = self.appender.take_buffer(&mut writer.spare) else { return Ok(None) };
        writer.unfinished = true;
        self.appender.failure.check()?;
        Ok(Some(end))
    }

    /// The durable LSN that frames written now carry.
    fn claimed_durable(&self) -> u64 {
        self.appender.positions.durable().max(self.appender.incarnations.begin())
    }
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
