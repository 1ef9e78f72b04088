//! Closing a log, in the one order there is, for a bare log and for what is built on it:
//!
//! 1. Nothing begins any more: no append, no incarnation, no retirement.
//! 2. The last flush makes everything durable. What is slow or stuck in the background does not hold it up.
//! 3. The background threads end, those of the layers above too.
//! 4. No write is in flight any more.
//! 5. The incarnation ends, durably; what was prepared above its end is cut and removed.
//! 6. The lock is given up.
//! 7. Everyone who waits has an answer; then callbacks run, and [`LogInner::close_and_drain`] waits for those.
//!
//! If one of the steps panics, as a disk of one's own may, the log stops; then the threads end, the lock is given up, and
//! everyone has an answer all the same.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::clean_up::CleanUp;
use super::inner::{Closing, LogInner};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::history::End;
use crate::log::receipts::callbacks;
use crate::rt::background;
use crate::rt::guard::contain;
use crate::rt::sync;

sync::thread_local! {
    /// Whether this thread is closing a log, this one or another.
    static IS_CLOSING: Cell<bool> = Cell::default();
}

/// Whether a close may be waiting for this thread, so that to wait for a close here may be to wait for itself: in a waker
/// that a close runs, on a background thread, whose end a close waits for, and on a callback thread, which it waits for too.
fn may_be_waited_for() -> bool {
    IS_CLOSING.try_with(Cell::get).unwrap_or(false) || background::is_background() || callbacks::runs_callbacks()
}

impl LogInner {
    /// Flushes, stops the background threads, and ends the incarnation durably. The first call does it; further ones
    /// wait for that and get its result.
    pub(crate) fn close(&self) -> Result<()> {
        // In a child process every lock may be held for ever by a thread that was not copied.
        self.check_process()?;
        {
            let mut closing = self.closing.lock();
            loop {
                match &*closing {
                    Closing::Open => break *closing = Closing::Underway,
                    Closing::Closed(result) => return result.clone(),
                    Closing::Underway if may_be_waited_for() => {
                        return Err(Error::new(ErrorKind::Closed, "another call is closing the log"));
                    }
                    Closing::Underway => self.closed.wait(&mut closing),
                }
            }
        }
        let is_nested = IS_CLOSING.try_with(|is| is.replace(true)).unwrap_or(false);
        // A model checker ends an execution by a panic, after which nothing may go on.
        let closed = if cfg!(any(loom, shuttle)) {
            Ok(self.close_once())
        } else {
            catch_unwind(AssertUnwindSafe(|| self.close_once()))
        };
        let result = closed.as_ref().map_or_else(|_| self.end_after_panic(), Clone::clone);
        let _ = IS_CLOSING.try_with(|is| is.set(is_nested));
        *self.closing.lock() = Closing::Closed(result);
        self.closed.notify_all();
        closed.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What is left of a close that panicked: nothing is written any more, and no thread waits for it in vain.
    fn end_after_panic(&self) -> Result<()> {
        self.stop(Error::bug("a close panicked")).raise(self);
        self.background.end();
        self.flusher.wait_for_writer();
        let _ = contain(|| self.place.handle().unlock());
        self.flusher.end_waits();
        Err(self.refusal())
    }

    /// [`LogInner::close`], and then waits until every callback has run: on their thread, and so not from there.
    pub(crate) fn close_and_drain(&self) -> Result<()> {
        let result = self.close();
        if self.check_process().is_ok() && matches!(*self.closing.lock(), Closing::Closed(_)) {
            self.flusher.callbacks.drain();
        }
        result
    }

    fn close_once(&self) -> Result<()> {
        {
            // Not while an incarnation begins, or records are retired: that would go on behind the close.
            let _no_retirement = self.retention.retire();
            let _no_begin = self.incarnations().replace();
            self.appender().close();
        }
        let flushed = self.flush_to(self.positions().appended());
        self.appender().wake();
        self.background.end();
        // A flush that failed elsewhere has not waited for a write in flight, which must not land after the lock is gone.
        self.flusher.wait_for_writer();
        let result = flushed.and_then(|()| if self.poisoned().is_some() { Ok(()) } else { self.end() });
        self.place.handle().unlock();
        // Last, because it runs wakers, which are a user's code.
        self.flusher.end_waits();
        match self.poisoned() {
            Some(_) => Err(self.refusal()),
            None => result,
        }
    }

    /// Ends the incarnation (O4). Everything is durable, and no append is taken any more. Without one, HISTORY may have to
    /// name a MANIFEST that a checkpoint has made durable: or the next open would have to write that again.
    fn end(&self) -> Result<()> {
        if self.incarnations().current().is_none() {
            if !self.incarnations().is_behind() {
                return Ok(());
            }
            let mut right = self.incarnations().replace();
            self.refuse_foreign_history(&right)?;
            let history = right.history();
            return match right.save(&self.place, history, |_| ()) {
                // A refusal before the rename has no effect: the next open writes both.
                Err(error) if self.place.disk().failure().is_some() || error.kind() == ErrorKind::Removed => Err(error),
                _ => Ok(()),
            };
        }
        let begin = self.incarnations().begin();
        let mut right = self.incarnations().replace();
        self.check_segments()?;
        self.refuse_foreign_history(&right)?;
        let end = self.positions().durable().max(begin);
        let limit = self.incarnations().look(|known| known.segments.last().map_or(begin, |last| last.header.limit()));
        let mut history = right.history();
        let oldest = self.incarnations().oldest().get();
        let Some(entry) = history.entries.last_mut() else { return Ok(()) };
        entry.end = Some(End { lsn: Lsn::new(end), prepared: Lsn::new(limit), clean: true });
        let mut clean_up = CleanUp::default();
        right.save(&self.place, history, |segments| {
            *segments = std::mem::take(segments)
                .into_iter()
                .filter_map(|info| clean_up.end_at(info, end, oldest, oldest))
                .collect();
        })?;
        clean_up.run(&self.place)
    }
}
