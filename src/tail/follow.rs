//! The tail: reads the log up to its horizon, and waits for more.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::commit::{Commit, Names, Next, Read};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::batch::Batch;
use crate::log::read::record_end::Position;
use crate::log::read::scan::{Cursor, Record};
use crate::log::{LogPin, Receipt};
use crate::rt::clock::{self, Moment};
use crate::txn::pipeline::Pipeline;
use crate::txn::watchers::Watching;

/// How far a tail reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Horizon {
    /// What no crash can take.
    Durable,
    /// What a snapshot sees. To read it a tail makes the write call that a commit in the mode `Written` makes, and waits for no fsync.
    Visible,
}

/// Follows what is committed: see [`Engine::tail`](crate::Engine::tail). As an iterator it waits without end for the next commit, and ends after a close.
pub struct Tail {
    pipeline: Arc<Pipeline>,
    cursor: Cursor,
    horizon: Horizon,
    names: Names,
    /// What was not read yet.
    pin: LogPin,
    watching: Watching,
    /// It has said why.
    is_over: bool,
}

/// Bytes of log that are read before they are given free: a pin costs a lock.
const PINNED_AHEAD: u64 = 256 << 10;

impl Tail {
    pub(super) fn new(pipeline: &Arc<Pipeline>, after: Position, horizon: Horizon) -> Result<Self> {
        let log = &pipeline.log;
        let cursor = Cursor::new(log, after)?;
        // What is gone between the two lines is told as such.
        let pin = log.retain_at(cursor.position())?;
        Ok(Tail {
            pipeline: Arc::clone(pipeline),
            cursor,
            horizon,
            names: Names::default(),
            pin,
            watching: Watching::default(),
            is_over: false,
        })
    }

    /// The position after what was shown last.
    pub fn lsn(&self) -> Lsn {
        self.cursor.position()
    }

    /// The next commit, waiting for it for at most `time`; `None` if there was none.
    ///
    /// # Errors
    /// Once all was shown: [`Closed`](ErrorKind::Closed), [`Poisoned`](ErrorKind::Poisoned). [`Retired`](ErrorKind::Retired): it has fallen behind, and what
    /// it has not shown is gone. [`Damaged`](ErrorKind::Damaged), [`Io`](ErrorKind::Io), [`Forked`](ErrorKind::Forked). Behind an error other than `Io` and `Closed`
    /// nothing more is shown.
    pub fn next_timeout(&mut self, time: Duration) -> Result<Option<Commit>> {
        Ok(self.read_until(Some(clock::now().after(time)))?.map(Read::whole))
    }

    /// The next commit, for an async program. To poll it reads files, and at [`Horizon::Visible`] writes to one: give a large backlog a thread
    /// of its own. It can be dropped and called again: no commit is lost.
    ///
    /// # Errors
    /// As [`Tail::next_timeout`].
    pub async fn next_async(&mut self) -> Result<Commit> {
        poll_fn(|context| self.poll_read(context)).await.map(Read::whole)
    }

    /// The next one, until `deadline`; without one until there is one, or none will come.
    pub(super) fn read_until(&mut self, deadline: Option<Moment>) -> Next {
        loop {
            let seen = self.bound()?;
            if let Some(read) = self.read_up_to(seen)? {
                return Ok(Some(read));
            }
            self.check_end(seen)?;
            let (watchers, log) = (&self.pipeline.watchers, &self.pipeline.log);
            let is_there = match self.horizon {
                Horizon::Durable => log.watch_to(seen + 1, deadline),
                Horizon::Visible => watchers.wait(log, deadline, || self.pipeline.visible_for_sure().get() > seen),
            };
            if !is_there {
                return Ok(None);
            }
        }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Read>> {
        loop {
            let seen = self.bound()?;
            if let Some(read) = self.read_up_to(seen)? {
                return Poll::Ready(Ok(read));
            }
            self.check_end(seen)?;
            let Tail { pipeline, watching, .. } = self;
            let log = &pipeline.log;
            match self.horizon {
                Horizon::Durable => ready!(watching.poll_durable(log, seen + 1, context.waker())),
                Horizon::Visible => ready!(watching.poll_visible(&pipeline.watchers, log, context.waker(), || {
                    pipeline.visible_for_sure().get() > seen
                })),
            }
        }
    }

    /// How far may be read now.
    fn bound(&self) -> Result<u64> {
        let log = &self.pipeline.log;
        log.check_process()?;
        match self.horizon {
            Horizon::Durable => Ok(log.durable().get()),
            // What is in doubt is not shown.
            Horizon::Visible if log.poisoned().is_some() => Ok(log.durable().get()),
            Horizon::Visible => {
                let visible = self.pipeline.index_now().visible();
                match log.write_to(visible) {
                    Ok(()) => Ok(visible.get()),
                    Err(_) => Ok(log.durable().get()),
                }
            }
        }
    }

    fn read_up_to(&mut self, bound: u64) -> Next {
        if self.is_over {
            return Ok(None);
        }
        match self.cursor.next(bound) {
            None => Ok(None),
            Some(Ok(record)) => self.take(&record).map(Some),
            Some(Err(error)) => {
                self.is_over = error.kind() != ErrorKind::Io;
                Err(if error.kind() == ErrorKind::Retired { fell_behind(&error) } else { error })
            }
        }
    }

    fn take(&mut self, record: &Record) -> Result<Read> {
        let log = &self.pipeline.log;
        if record.lsn.get() > self.pin.lsn().get() + PINNED_AHEAD && self.pin.is_held() {
            // The new one first. If it cannot be had, the next read tells what is gone.
            if let Ok(pin) = log.retain_at(record.lsn) {
                self.pin = pin;
            }
        }
        let batch = Batch::parse(&record.payload).map_err(|malformed| {
            self.is_over = true;
            Error::new(
                ErrorKind::Unsupported,
                format!("the record at LSN {} is no transaction: {malformed}", record.lsn),
            )
        })?;
        let changes = self.names.read(&batch, &self.pipeline);
        Ok(Read { receipt: Receipt::new(log, record.lsn), changes })
    }

    /// Whether nothing more will come than what is at or below `seen`, all of which was shown.
    ///
    /// # Errors
    /// Then.
    fn check_end(&self, seen: u64) -> Result<()> {
        let log = &self.pipeline.log;
        if self.is_over || (log.is_over() && self.bound()? == seen) {
            return Err(log.refusal());
        }
        Ok(())
    }
}

fn fell_behind(error: &Error) -> Error {
    let message = format!(
        "the tail has fallen behind, and what it has not shown is no longer in the log ({error}): copy a snapshot and follow from there, or set retain_pinned_bytes to more"
    );
    Error::new(ErrorKind::Retired, message).with_source(error.clone())
}

/// `None` after a close, once all was shown.
pub(super) fn item<T>(next: Result<Option<T>>, is_over: &mut bool) -> Option<Result<T>> {
    if *is_over {
        return None;
    }
    match next {
        Ok(item) => item.map(Ok),
        Err(error) if error.kind() == ErrorKind::Closed => None,
        Err(error) => {
            // One that ends it is said once.
            *is_over = error.kind() != ErrorKind::Io;
            Some(Err(error))
        }
    }
}

impl Iterator for Tail {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read_until(None);
        item(next.map(|read| read.map(Read::whole)), &mut self.is_over)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.watching.end(&self.pipeline.watchers, &self.pipeline.log);
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("lsn", &self.lsn()).field("horizon", &self.horizon).finish_non_exhaustive()
    }
}
