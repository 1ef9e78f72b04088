//! Closing a log: the last flush, the end of its threads, and the end of its incarnation.

use super::inner::{Closing, LogInner};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::history::End;
use crate::log::open::settle::clean_up;

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
                // Waiting for it here could be waiting for oneself, from a waker or a callback.
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
        self.threads.stop(&self.appender().jobs);
        // Who failed elsewhere does not wait for a write in flight. It must not land after the lock is gone.
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

    /// Ends the incarnation (O4). Everything is durable and nobody appends any more.
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
