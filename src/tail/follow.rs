//! The tail: reads the log up to its horizon, and waits for more.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::commit::{Commit, Names, Next};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::batch::Batch;
use crate::log::read::record_end::Position;
use crate::log::read::scan::{Cursor, Record};
use crate::log::{LogPin, Receipt};
use crate::rt::clock::{self, Moment};
use crate::rt::sleeper::Sleeper;
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
    /// What has ended it.
    failed: Option<Error>,
    /// As an iterator it has shown that.
    is_told: bool,
}

/// How often the begin of the log is looked for again while that moves, and how long in between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of log that are read before they are given free: a pin costs a lock.
const PINNED_AHEAD: u64 = 256 << 10;

impl Tail {
    pub(super) fn new(pipeline: &Arc<Pipeline>, after: Position, horizon: Horizon) -> Result<Self> {
        let log = &pipeline.log;
        // A commit may be durable and not visible yet, for as long as it takes to apply it: a snapshot that is taken after this must have what lies before
        // the tail.
        pipeline.visible_for_sure();
        let mut tries = 0..TRIES;
        let (cursor, pin) = loop {
            let begun =
                Cursor::new(log, after).and_then(|cursor| log.retain_at(cursor.position()).map(|pin| (cursor, pin)));
            match begun {
                // "The oldest" while a checkpoint moves that on.
                Err(error)
                    if error.kind() == ErrorKind::Retired
                        && after == Position::Lsn(Lsn::ZERO)
                        && tries.next().is_some() =>
                {
                    Sleeper::new().pause(PAUSE);
                }
                begun => break begun?,
            }
        };
        Ok(Tail {
            names: Names::known(pipeline),
            pipeline: Arc::clone(pipeline),
            cursor,
            horizon,
            pin,
            watching: Watching::default(),
            failed: None,
            is_told: false,
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
    /// it has not shown is gone. [`Damaged`](ErrorKind::Damaged); [`Unsupported`](ErrorKind::Unsupported) for a record that is no transaction;
    /// [`Forked`](ErrorKind::Forked). Each further call fails the same way. After [`Io`](ErrorKind::Io) the next call tries again.
    pub fn next_timeout(&mut self, time: Duration) -> Result<Option<Commit>> {
        self.read_until(Some(clock::now().after(time)))
    }

    /// The next commit, for an async program. To poll it reads files, and at [`Horizon::Visible`] writes to one: give a large backlog a thread
    /// of its own. It can be dropped and called again: no commit is lost.
    ///
    /// # Errors
    /// As [`Tail::next_timeout`].
    pub async fn next_async(&mut self) -> Result<Commit> {
        poll_fn(|context| self.poll_read(context)).await
    }

    /// The next one, until `deadline`; without one until there is one, or none will come.
    pub(super) fn read_until(&mut self, deadline: Option<Moment>) -> Next {
        loop {
            let seen = self.bound()?;
            if let Some(read) = self.read_up_to(seen)? {
                return Ok(Some(read));
            }
            self.prepare_to_wait(seen)?;
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

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Commit>> {
        loop {
            let seen = self.bound()?;
            if let Some(read) = self.read_up_to(seen)? {
                return Poll::Ready(Ok(read));
            }
            self.prepare_to_wait(seen)?;
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
            Horizon::Durable => Ok(self.durable()),
            // What is in doubt is not shown.
            Horizon::Visible if log.poisoned().is_some() => Ok(self.durable()),
            Horizon::Visible => {
                let visible = self.pipeline.index_now().visible();
                match log.write_to(visible) {
                    Ok(()) => Ok(visible.get()),
                    Err(_) => Ok(self.durable()),
                }
            }
        }
    }

    /// What is durable, and can be seen: a large commit may be durable before it is applied, and if it never is, nobody is to see it.
    fn durable(&self) -> u64 {
        let durable = self.pipeline.log.durable();
        let visible = self.pipeline.index().visible();
        if durable <= visible { durable.get() } else { durable.min(self.pipeline.visible_for_sure()).get() }
    }

    fn read_up_to(&mut self, bound: u64) -> Next {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.cursor.next(bound) {
            None => Ok(None),
            Some(Ok(record)) => self.take(&record).map(Some),
            Some(Err(error)) => {
                let error = if error.kind() == ErrorKind::Retired { fell_behind(&error) } else { error };
                if error.kind() != ErrorKind::Io {
                    self.failed = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    fn take(&mut self, record: &Record) -> Result<Commit> {
        if record.lsn.get() > self.pin.lsn().get() + PINNED_AHEAD {
            self.pin_from(record.lsn);
        }
        let log = &self.pipeline.log;
        let batch = match Batch::parse(&record.payload) {
            Ok(batch) => batch,
            Err(malformed) => {
                let message = format!("the record at LSN {} is no transaction: {malformed}", record.lsn);
                return Err(self.failed.insert(Error::new(ErrorKind::Unsupported, message)).clone());
            }
        };
        let changes = self.names.read(&batch, &self.pipeline);
        Ok(Commit { receipt: Receipt::new(log, record.lsn), changes })
    }

    /// Keeps what was not read. Of a pin that was dropped, for want of room, another one keeps what is left.
    fn pin_from(&mut self, at: Lsn) {
        if self.pin.lsn() == at && self.pin.is_held() {
            return;
        }
        // The new one first. If it cannot be had, the next read tells what is gone.
        if let Ok(pin) = self.pipeline.log.retain_at(at) {
            self.pin = pin;
        }
    }

    /// Nothing is left to read at or below `seen`: what lies behind is pinned, for the wait.
    ///
    /// # Errors
    /// If nothing more will come.
    fn prepare_to_wait(&mut self, seen: u64) -> Result<()> {
        self.pin_from(self.cursor.position());
        let log = &self.pipeline.log;
        if log.is_over() && self.bound()? == seen {
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

/// As an iterator has it: after a close it ends, and what has ended it is shown once.
pub(super) fn item(next: Next, is_told: &mut bool) -> Option<Result<Commit>> {
    match next {
        Ok(item) => item.map(Ok),
        Err(error) if error.kind() == ErrorKind::Closed => None,
        // It may go on.
        Err(error) if error.kind() == ErrorKind::Io => Some(Err(error)),
        Err(error) => (!std::mem::replace(is_told, true)).then_some(Err(error)),
    }
}

impl Iterator for Tail {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read_until(None);
        item(next, &mut self.is_told)
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
