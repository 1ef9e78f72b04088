//! The receipt: what a commit hands back, and every way to learn that it became durable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::{Lsn, Token};
use crate::log::inner::LogInner;
use crate::log::read::record_end::RecordEnd;
use crate::log::write::waiters::{Waited, WaiterId};
use crate::rt::clock;

/// A commit's position in the log, and every way to learn that it became durable.
///
/// [`wait`](Receipt::wait), [`wait_timeout`](Receipt::wait_timeout), `.await` and [`hurry`](Receipt::hurry) make a flush due at once;
/// [`is_durable`](Receipt::is_durable) and [`on_durable`](Receipt::on_durable) only watch. There is no thread and no
/// timer per receipt, and dropping one costs nothing and changes nothing about its commit. A receipt does not keep
/// the database open; after a close it is durable.
///
/// As a future it completes once the commit is durable, on any executor:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-receipt-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// use forelog::{CommitMode, Engine};
/// let engine = Engine::open(&dir)?;
/// let events = engine.create_keyspace("events")?;
/// let mut tx = engine.begin()?;
/// tx.put(&events, b"1", b"started")?;
/// let receipt = tx.commit_with(CommitMode::Async)?;
/// let durable = async { receipt.await };      // hand it to your executor
/// # drop(durable);
/// # drop(engine); std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
pub struct Receipt {
    log: Arc<LogInner>,
    lsn: Lsn,
    token: Token,
    /// Set while a task waits.
    waiting: Option<WaiterId>,
}

impl Receipt {
    pub(crate) fn new(log: &Arc<LogInner>, lsn: Lsn) -> Self {
        Receipt { log: Arc::clone(log), lsn, token: log.token(lsn), waiting: None }
    }

    /// The commit's position.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The commit's name for ever, to be stored, sent, and asked about after a crash.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Where its record ends, to read on from or to retire up to without a read.
    pub fn end(&self) -> RecordEnd {
        RecordEnd::of(self.token)
    }

    /// Whether the commit is durable by now.
    pub fn is_durable(&self) -> bool {
        self.log.positions().durable() >= self.lsn.get()
    }

    /// Waits until the commit is durable; flushes it if no other thread does.
    ///
    /// # Errors
    /// [`ErrorKind::Indeterminate`] if a write or fsync failed while the commit was in flight.
    pub fn wait(&self) -> Result<()> {
        self.log.check_process()?;
        self.log.flusher.flush_to(self.lsn.get())
    }

    /// Waits for at most `time`, also while the device stalls: the background flusher issues the flush.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if the commit is not durable by then; otherwise as [`Receipt::wait`].
    pub fn wait_timeout(&self, time: Duration) -> Result<()> {
        self.log.check_process()?;
        let deadline = clock::now().after(time);
        match self.log.flusher.flush_until(self.lsn.get(), deadline)? {
            Waited::Reached => Ok(()),
            Waited::TimedOut => {
                let message = format!("the commit at LSN {} is not durable yet", self.lsn);
                Err(Error::new(ErrorKind::TimedOut, message).with_token(self.token))
            }
        }
    }

    /// Makes a flush of the commit due at once, and waits for nothing: then [`on_durable`](Receipt::on_durable), a descriptor or a tail tells as soon as the
    /// device allows, instead of with the flush that is due anyway (10 ms).
    ///
    /// # Errors
    /// [`ErrorKind::Forked`] only.
    pub fn hurry(&self) -> Result<()> {
        self.log.check_process()?;
        if !self.is_durable() {
            self.log.ask_for_flush(self.lsn);
        }
        Ok(())
    }

    /// Has `callback` called once the commit is durable, or once it is clear that this engine cannot tell
    /// ([`ErrorKind::Indeterminate`]).
    ///
    /// Callbacks run one after another in LSN order on one thread that belongs to the log, never inside this call
    /// and never on a committing thread; a slow one delays only other callbacks. A callback may use the engine in any
    /// way, commit included, and may drop its last handle. A panic inside is caught; the others still run.
    /// It does not make a flush due: [`hurry`](Receipt::hurry) does. Every callback has run when a [`close`](crate::Engine::close) returns, those that
    /// callbacks have registered too, unless that was called from a callback. So callbacks that register one another
    /// without end keep a close from returning. After the last handle was dropped callbacks still run, unless the process
    /// ends first.
    ///
    /// # Errors
    /// If the callback thread cannot be started.
    pub fn on_durable(&self, callback: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        self.log.check_process()?;
        self.log.call_back(self.lsn.get(), Box::new(callback))
    }
}

impl Future for Receipt {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Receipt { log, lsn, waiting, .. } = &mut *self;
        log.check_process()?;
        log.flusher.poll(lsn.get(), waiting, context.waker())
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(id) = self.waiting.take()
            && self.log.is_of_this_process()
        {
            self.log.flusher.forget(id);
        }
    }
}

impl Clone for Receipt {
    fn clone(&self) -> Self {
        Receipt { log: Arc::clone(&self.log), lsn: self.lsn, token: self.token, waiting: None }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("lsn", &self.lsn).field("durable", &self.is_durable()).finish()
    }
}
