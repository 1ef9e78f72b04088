//! Making everything durable.

use super::Engine;
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::types::Lsn;

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
}
