//! Making everything durable, and learning when it is.

use super::Engine;
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::types::{CommitMode, Lsn};
#[cfg(unix)]
use crate::log::DurableFd;
use crate::log::{Receipt, WaitLimit};

impl Engine {
    /// Makes every commit so far durable.
    ///
    /// # Errors
    /// [`ErrorKind::Indeterminate`] if a write or fsync failed.
    pub fn flush(&self) -> Result<Lsn> {
        self.pipeline().check_open()?;
        let target = self.pipeline().index_now().visible();
        self.pipeline().log.flush_to(target.get())?;
        Ok(target)
    }

    /// [`Engine::flush`] for an async program: every commit up to its first poll is durable when it completes. To poll it blocks no
    /// thread.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// use forelog::CommitMode;
    /// let save = async {
    ///     let notes = engine.create_keyspace_async("notes").await?;
    ///     let mut tx = engine.begin()?;
    ///     tx.put(&notes, "1", "buy bread")?;
    ///     tx.commit_async(CommitMode::Async).await?;
    ///     engine.flush_async().await
    /// };
    /// # let mut save = std::pin::pin!(save);
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # while save.as_mut().poll(&mut context)?.is_pending() {}
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub async fn flush_async(&self) -> Result<Lsn> {
        self.pipeline().check_open()?;
        let target = self.pipeline().index_now().visible();
        self.pipeline().receipt_of_reads(target).await?;
        Ok(target)
    }

    /// Waits until a commit has what `mode` promises, whatever it was committed with.
    pub(crate) fn wait_for_mode(&self, receipt: &Receipt, mode: CommitMode) -> Result<()> {
        self.pipeline().log.wait_for_mode(receipt.lsn(), mode, WaitLimit::Forever)
    }

    /// A descriptor for an event loop, which is readable when the durable LSN has moved, and for ever once it moves no more: after
    /// a close, or when the engine is poisoned. [`DurableFd::take`] then tells the durable LSN: every commit up to it is durable.
    /// An eventfd on Linux, elsewhere a pipe.
    ///
    /// Each call gives a descriptor of its own, which tells of everything, at most
    /// [`MAX_DURABLE_FDS`](crate::limits::MAX_DURABLE_FDS) at a time. It may stay unread for ever: no flush waits for it. It makes no flush due,
    /// and keeps neither the database open nor its directory locked. Read and write it by no other means.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let events = engine.create_keyspace("events")?;
    /// # let mut batch = engine.batch()?;
    /// # batch.put(&events, "1", "started")?;
    /// use forelog::CommitMode;
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let durable = engine.durable_fd()?;
    /// let receipt = batch.commit_with(CommitMode::Async)?;
    /// while durable.take()? < receipt.lsn() {
    ///     poll(&mut [PollFd::new(&durable, PollFlags::IN)], None)?; // with all else that the program waits for
    /// }
    /// assert!(receipt.is_durable());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] beyond that number; [`ErrorKind::Io`] if the operating system has no more descriptors;
    /// [`ErrorKind::Closed`], [`ErrorKind::Forked`].
    #[cfg(unix)]
    pub fn durable_fd(&self) -> Result<DurableFd> {
        self.pipeline().check_open()?;
        DurableFd::new(&self.pipeline().log)
    }
}
