//! The life of an incarnation: its begin, its segments, its end.

use std::sync::Arc;

use super::incarnations::Replacing;
use super::reader::SegmentInfo;
use super::repair::clean_up;
use super::segment::Segment;
use super::shared::{Closing, Core, Shared, Threads};
use crate::format::history::{End, History, Life};
use crate::format::identity::Identity;
use crate::words::entropy;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::guard::spawn_guarded;
use crate::words::options::FIRST_SEGMENT_BYTES;
use crate::words::plant::planted;
use crate::words::sync::{self, Receiver, Thread};
use crate::words::types::{Incarnation, Lsn};

/// What the preparing thread is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Errand {
    Segment,
    Mark,
}

impl Shared {
    /// Begins this open's incarnation, durably, before its first append (O1). Does nothing if it has begun.
    pub(crate) fn begin(&self) -> Result<()> {
        let begun = self.begin_with(&mut self.incarnations.replace());
        self.tell_if_poisoned();
        begun
    }

    fn begin_with(&self, right: &mut Replacing<'_>) -> Result<()> {
        if self.incarnations.current().is_some() {
            return Ok(());
        }
        if self.core.lock().stopped {
            return Err(self.refusal());
        }
        self.start_threads()?;
        let mut history = right.history();
        // Drawn once for this open. An attempt that was refused may have left a HISTORY that lists the life, or a segment
        // of it: another attempt of another nonce would leave a directory in which the two do not belong together.
        let life = match right.attempt.drawn {
            Some(life) => life,
            None => *right.attempt.drawn.insert(self.new_life(&history)?),
        };
        let Life { incarnation, key, begin, .. } = life;
        let identity = Identity { log_id: history.log_id, incarnation, key, base: begin.get() };
        let segment = match right.attempt.first_segment.clone() {
            Some(segment) => segment,
            None => {
                let created = Segment::create(&self.place, identity, self.segment_size(0), identity.base);
                let segment = created.map_err(|error| self.note_failure(error))?;
                Arc::clone(right.attempt.first_segment.insert(segment))
            }
        };
        self.begin_marks(incarnation, begin);
        history.lives.push(life);
        let saved = right.save(&self.place, history, |segments| segments.push(SegmentInfo::of(&segment)));
        saved.map_err(|error| self.note_failure(error))?;
        right.attempt.first_segment = None;
        let mut core = self.core.lock();
        core.tail.next = segment.base();
        core.tail.segments.push_back(segment);
        core.prepared = 1;
        right.begun(incarnation, begin);
        self.prepare_ahead(&mut core);
        Ok(())
    }

    fn new_life(&self, history: &History) -> Result<Life> {
        let random = || entropy::bytes::<8>().map(u64::from_le_bytes);
        let no_random = |error| Error::io("draw random numbers for", self.place.dir(), error);
        let number = history.next_number();
        let mut nonce = random().map_err(no_random)?;
        let mut key = random().map_err(no_random)?;
        if planted!("one-nonce-for-all-incarnations") {
            (nonce, key) = (0, 0);
        }
        Ok(Life { incarnation: Incarnation { number, nonce }, key, begin: history.next_begin(), end: None })
    }

    fn segment_size(&self, prepared: u32) -> u64 {
        let grown = FIRST_SEGMENT_BYTES.checked_shl(prepared.min(16)).unwrap_or(u64::MAX);
        grown.min(self.settings.segment_bytes)
    }

    /// Refuses to go on if a segment that is written to, or will be, was removed: what is written to it is gone with the
    /// process. Asked where files are opened or replaced anyway, never by a commit.
    pub(crate) fn check_segments(&self) -> Result<()> {
        let segments: Vec<_> = self.core.lock().tail.segments.iter().cloned().collect();
        segments.iter().try_for_each(|segment| self.place.handle().check_linked(&**segment.file(), segment.path()))
    }

    /// What to tell of an error outside the flush path. It is final only if the disk's fail-stop latch has closed, or if a
    /// file was removed under the open log; then it poisons the log. The caller wakes the waiters as soon as it holds no
    /// lock ([`Shared::tell_if_poisoned`]).
    pub(crate) fn note_failure(&self, error: Error) -> Error {
        // What failed because files were removed says so, and not only what that led to.
        let error = self.check_segments().err().unwrap_or(error);
        if error.kind() != ErrorKind::Removed && self.place.disk().failure().is_none() {
            return error;
        }
        self.stop(error);
        self.refusal()
    }

    pub(crate) fn tell_if_poisoned(&self) {
        if self.poisoned().is_some() {
            self.tell_of_poison();
        }
    }

    /// Has the next segment prepared if none is ready beyond the active one, so that a roll does not wait.
    pub(crate) fn prepare_ahead(&self, core: &mut Core) {
        if core.tail.segments.len() < 2 && core.prepare_error.is_none() {
            self.prepare_more(core);
        }
    }

    pub(crate) fn prepare_more(&self, core: &mut Core) {
        if !core.preparing && !core.stopped {
            core.preparing = true;
            self.ask_preparer(Errand::Segment);
        }
    }

    pub(crate) fn ask_preparer(&self, errand: Errand) {
        if let Some(requests) = &self.threads.lock().requests {
            requests.send(errand);
        }
    }

    /// The background thread that prepares segments, and writes the mark.
    pub(crate) fn run_preparer(&self, requests: &Receiver<Errand>) {
        while let Some(errand) = requests.recv() {
            if errand == Errand::Mark {
                self.write_mark();
                continue;
            }
            let prepared = self.prepare_segment();
            self.tell_if_poisoned();
            if let Ok(segment) = &prepared {
                self.incarnations.add(segment);
            }
            let mut core = self.core.lock();
            core.preparing = false;
            match prepared {
                Ok(segment) => {
                    core.tail.segments.push_back(segment);
                    core.prepared += 1;
                    self.stats.prepared();
                }
                Err(error) => core.prepare_error = Some(error),
            }
            drop(core);
            self.room.notify_all();
        }
    }

    fn prepare_segment(&self) -> Result<Arc<Segment>> {
        let (last, prepared) = {
            let core = self.core.lock();
            let last = core.tail.segments.back().cloned();
            (last.ok_or_else(|| self.refusal())?, core.prepared)
        };
        self.check_segments().map_err(|error| self.note_failure(error))?;
        let identity = Identity { base: last.limit(), ..last.identity() };
        Segment::create(&self.place, identity, self.segment_size(prepared), last.base())
            .map_err(|error| self.note_failure(error))
    }

    /// Flushes, stops the background threads, and ends the incarnation durably. The first call does it; further ones
    /// get its result.
    pub(crate) fn close(&self) -> Result<()> {
        // In a child process every lock may be held for ever by a thread that was not copied.
        self.check_process()?;
        {
            let mut closing = self.closing.lock();
            match &*closing {
                Closing::Open => *closing = Closing::Underway,
                // Waiting for it here could be waiting for oneself, from a waker or a callback.
                Closing::Underway => return Err(Error::new(ErrorKind::Closed, "another call is closing the log")),
                Closing::Closed(result) => return result.clone(),
            }
        }
        let result = self.close_once();
        *self.closing.lock() = Closing::Closed(result.clone());
        result
    }

    /// [`Shared::close`], and then waits until every callback has run: on their thread, and so not from there.
    pub(crate) fn close_and_drain(&self) -> Result<()> {
        let result = self.close();
        if self.check_process().is_ok() && matches!(*self.closing.lock(), Closing::Closed(_)) {
            self.callbacks.drain();
        }
        result
    }

    fn close_once(&self) -> Result<()> {
        {
            // Not while an incarnation begins, or records are retired: that would go on behind the close.
            let _no_retirement = self.retention.retire();
            let _no_begin = self.incarnations.replace();
            self.core.lock().stopped = true;
        }
        let flushed = if planted!("close-without-flush") { Ok(()) } else { self.flush_to(self.positions.appended()) };
        self.room.notify_all();
        self.background.notify_all();
        self.stop_threads();
        // Who failed elsewhere does not wait for a write in flight. It must not land after the lock is gone.
        drop(self.writer.lock());
        let result = flushed.and_then(|()| if self.poisoned().is_some() { Ok(()) } else { self.end() });
        self.place.handle().unlock();
        // Last, because it runs wakers, which are a user's code.
        self.end_waits();
        match self.poisoned() {
            Some(_) => Err(self.refusal()),
            None => result,
        }
    }

    /// Starts the background threads, which a log that is only read does not need.
    fn start_threads(&self) -> Result<()> {
        // A loom model has five threads at most, and itself starts those that it is about.
        if cfg!(loom) {
            return Ok(());
        }
        if self.threads.lock().requests.is_some() {
            return Ok(());
        }
        let me = self.me.upgrade().ok_or_else(|| self.refusal())?;
        let (requests, receiver) = sync::channel();
        let mut threads = self.threads.lock();
        // The flusher may be there: of an attempt at which the other thread was refused.
        if threads.running.is_empty() {
            let flusher = me.start_thread("forelog-flush", |log| log.run_flusher())?;
            threads.running.push(flusher);
        }
        let preparer = me.start_thread("forelog-prepare", move |log| log.run_preparer(&receiver))?;
        threads.running.push(preparer);
        threads.requests = Some(requests);
        Ok(())
    }

    /// Starts a thread of this log: if it panics, the log is poisoned and every waiter has its verdict.
    fn start_thread(
        self: &Arc<Self>,
        name: &'static str,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<Thread> {
        let (runs, mourns) = (Arc::clone(self), Arc::clone(self));
        let died = move |panicked: &_| mourns.poison_by_panic(name, panicked);
        let started = spawn_guarded(name, move || body(&runs), died);
        started.map_err(|error| Error::io("start a background thread for", self.place.dir(), error))
    }

    fn stop_threads(&self) {
        let ended = Threads { ended: true, ..Threads::default() };
        let Threads { running, requests, scrubs, .. } = std::mem::replace(&mut *self.threads.lock(), ended);
        for scrub in scrubs {
            scrub.end();
        }
        if let Some(requests) = requests {
            requests.close();
        }
        for thread in running {
            if planted!("race-close-does-not-join") {
                continue;
            }
            thread.join();
        }
    }

    /// Ends the incarnation (O4). Everything is durable and nobody appends any more.
    fn end(&self) -> Result<()> {
        if self.incarnations.current().is_none() {
            return Ok(());
        }
        let begin = self.incarnations.begin();
        let mut right = self.incarnations.replace();
        self.check_segments()?;
        let end = self.positions.durable().max(begin);
        let limit = self.incarnations.look(|known| known.segments.last().map_or(begin, |last| last.header.limit()));
        let mut history = right.history();
        let oldest = history.oldest.get();
        let Some(life) = history.lives.last_mut() else { return Ok(()) };
        life.end = Some(End { lsn: Lsn::new(end), prepared: Lsn::new(limit), clean: true });
        let (mut to_cut, mut to_remove) = (Vec::new(), Vec::new());
        right.save(&self.place, history, |segments| {
            for mut info in std::mem::take(segments) {
                info.end = info.end.min(end);
                if info.base() >= end || info.end <= oldest {
                    to_remove.push(info.path);
                    continue;
                }
                if info.length > info.end - info.base() {
                    to_cut.push(info.clone());
                    info.length = info.end - info.base();
                }
                segments.push(info);
            }
        })?;
        clean_up(&self.place, &to_cut, &mut to_remove.iter())
    }
}
