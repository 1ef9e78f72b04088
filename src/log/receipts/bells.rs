//! The descriptors that a flush makes readable.
//!
//! One that is readable and was not taken is not written to again, so that a flush makes at most one call for each. What decides
//! that is one word for each descriptor, `is_set`:
//!
//! | the flusher | who takes |
//! |---|---|
//! | 1. the durable LSN moves | 1. the descriptor is cleared |
//! | 2. `is_set` becomes true | 2. `is_set` becomes false |
//! | 3. it was false: the descriptor is set | 3. the durable LSN is read |
//!
//! If the flusher's second step finds it set, the taker's second step comes later, and with it the look at the LSN. The other order
//! of the taker's steps would clear a descriptor that was set for an LSN that it has not seen.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::error::{Error, Result};
use crate::rt::descriptor::Descriptor;
use crate::rt::sync::{AtomicBool, AtomicU64, Mutex};

/// The most descriptors of one log. Each that is waited for costs a flush one system call.
pub const MAX_DURABLE_FDS: usize = 256;

/// One descriptor, as the flusher knows it.
#[derive(Debug)]
pub(in crate::log) struct Bell {
    descriptor: Descriptor,
    /// It is readable, or about to be.
    is_set: AtomicBool,
    /// The durable LSN that was taken last.
    taken: AtomicU64,
}

/// In place of an LSN: nothing moves any more.
pub(in crate::log) const AT_THE_END: u64 = u64::MAX;

impl Bell {
    /// Tells of the durable LSN, unless that was taken.
    pub(in crate::log) fn ring(&self, durable: u64) {
        if self.taken.load(Ordering::Acquire) < durable && !self.is_set.swap(true, Ordering::AcqRel) {
            self.descriptor.set();
        }
    }

    /// It is not readable any more. What was durable is to be read after this.
    pub(in crate::log) fn clear(&self) {
        self.descriptor.clear();
        self.is_set.swap(false, Ordering::AcqRel);
    }

    /// Notes the durable LSN that was taken. Returns whether it has moved.
    pub(in crate::log) fn take(&self, durable: u64) -> bool {
        self.taken.fetch_max(durable, Ordering::AcqRel) < durable
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// All descriptors of a log.
#[derive(Debug, Default)]
pub(in crate::log) struct Bells {
    /// Most logs have none: a flush finds out with one load.
    has_any: AtomicBool,
    list: Mutex<Vec<Arc<Bell>>>,
}

impl Bells {
    pub(in crate::log) fn is_empty(&self) -> bool {
        !self.has_any.load(Ordering::Acquire)
    }

    /// The durable LSN has moved, or nothing moves it any more. Called without any lock.
    pub(in crate::log) fn ring(&self, durable: u64) {
        self.list.lock().iter().for_each(|bell| bell.ring(durable));
    }

    /// Another one, for which everything up to `durable` counts as taken.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if there are too many.
    pub(in crate::log) fn add(&self, descriptor: Descriptor, durable: u64) -> Result<Arc<Bell>> {
        let mut list = self.list.lock();
        if list.len() == MAX_DURABLE_FDS {
            let message = format!("a log has at most {MAX_DURABLE_FDS} descriptors: drop one, or share one by `dup`");
            return Err(Error::invalid_input(message));
        }
        let bell = Arc::new(Bell { descriptor, is_set: AtomicBool::new(false), taken: AtomicU64::new(durable) });
        list.push(Arc::clone(&bell));
        self.has_any.store(true, Ordering::Release);
        Ok(bell)
    }

    pub(in crate::log) fn remove(&self, bell: &Arc<Bell>) {
        let mut list = self.list.lock();
        list.retain(|other| !Arc::ptr_eq(other, bell));
        self.has_any.store(!list.is_empty(), Ordering::Release);
    }
}
