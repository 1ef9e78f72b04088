//! Descriptors for event loops: readable when the durable LSN has moved, and when it will not move any more.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::log::inner::LogInner;
use crate::log::receipts::bells::{AT_THE_END, Bell};
use crate::rt::descriptor::Descriptor;

/// A descriptor for an event loop (`poll`, epoll, kqueue, io_uring; mio and tokio by way of them): see
/// [`Engine::durable_fd`](crate::Engine::durable_fd).
pub struct DurableFd {
    log: Arc<LogInner>,
    bell: Arc<Bell>,
}

impl DurableFd {
    pub(crate) fn new(log: &Arc<LogInner>) -> Result<Self> {
        log.check_process()?;
        if log.is_over() && log.poisoned().is_none() {
            return Err(log.refusal());
        }
        let descriptor = Descriptor::new().map_err(|error| Error::io("make a descriptor for", log.dir(), error))?;
        let bell = log.flusher.add_bell(descriptor)?;
        Ok(DurableFd { log: Arc::clone(log), bell })
    }

    /// The durable LSN by now. The descriptor is not readable any more, and will be once that moves on. (A flush that comes at the same moment may
    /// leave it readable for an LSN that was taken.)
    ///
    /// It never blocks, and may be called at any time: a loop that does so before its first wait knows where it begins.
    ///
    /// # Errors
    /// Once nothing moves any more, and what had moved was taken: [`Poisoned`](crate::ErrorKind::Poisoned) or
    /// [`Closed`](crate::ErrorKind::Closed). The descriptor stays readable then. [`Forked`](crate::ErrorKind::Forked), which takes nothing from
    /// the parent.
    pub fn take(&self) -> Result<Lsn> {
        self.log.check_process()?;
        self.bell.clear();
        let is_over = self.log.flusher.is_over();
        let durable = self.log.positions().durable();
        let has_moved = self.bell.take(durable);
        if is_over {
            self.bell.ring(AT_THE_END);
            if !has_moved {
                return Err(self.log.refusal());
            }
        }
        Ok(Lsn::new(durable))
    }
}

impl Drop for DurableFd {
    fn drop(&mut self) {
        // A child takes no lock: a thread that was not copied may hold it.
        if self.log.is_of_this_process() {
            self.log.flusher.bells.remove(&self.bell);
        }
    }
}

impl AsFd for DurableFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl AsRawFd for DurableFd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for DurableFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableFd").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}
