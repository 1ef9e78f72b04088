//! Closing a log, in the one order there is, for a bare log and for what is built on it:
//!
//! 1. Nothing begins any more: no append, no incarnation, no retirement.
//! 2. The last flush makes everything durable. What is slow or stuck in the background does not hold it up.
//! 3. The background threads end, those of the layers above too.
//! 4. No write is in flight any more.
//! 5. The incarnation ends, durably; what was prepared above its end is cut and removed.
//! 6. The lock is given up.
//! 7. Everyone who waits has an answer; then callbacks run, and [`LogInner::close_and_drain`] waits for those.

use super::clean_up::CleanUp;
use super::inner::{Closing, LogInner};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::history::End;

impl LogInner {
    /// Flushes, stops the background threads, and ends the incarnation durably. The first call does it; further ones
    /// get its result.
    pub(crate) fn close(&self) -> Result<()> {
        // In a child process every lock may be held for ever by a thread that was not copied.
        self.check_process()?;
        {
            let mut closing = self.closing.lock();
            match &*closing {
                Closing::Open => *closing = Closing::Underway,
                // A waker or a callback of that close may be the caller: to wait here would be to wait for itself.
                Closing::Underway => return Err(Error::new(ErrorKind::Closed, "another call is closing the log")),
                Closing::Closed(result) => return result.clone(),
            }
        }
        let result = self.close_once();
        *self.closing.lock() = Closing::Closed(result.clone());
        result
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

    /// Ends the incarnation (O4). Everything is durable, and no append is taken any more.
    fn end(&self) -> Result<()> {
        if self.incarnations().current().is_none() {
            return Ok(());
        }
        let begin = self.incarnations().begin();
        let mut right = self.incarnations().replace();
        self.check_segments()?;
        let end = self.positions().durable().max(begin);
        let limit = self.incarnations().look(|known| known.segments.last().map_or(begin, |last| last.header.limit()));
        let mut history = right.history();
        let oldest = history.oldest.get();
        let Some(entry) = history.entries.last_mut() else { return Ok(()) };
        entry.end = Some(End { lsn: Lsn::new(end), prepared: Lsn::new(limit), clean: true });
        let mut clean_up = CleanUp::default();
        right.save(&self.place, history, |segments| {
            *segments =
                std::mem::take(segments).into_iter().filter_map(|info| clean_up.end_at(info, end, oldest)).collect();
        })?;
        clean_up.run(&self.place)
    }
}
