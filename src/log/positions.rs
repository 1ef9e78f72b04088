//! The three watermarks, in the one struct that may move them.

use std::sync::atomic::Ordering;

use crate::base::types::Lsn;
use crate::rt::sync::AtomicU64;

/// A watermark was asked to go backwards, or past the one that bounds it: a bug, which poisons the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfOrder {
    pub(crate) mark: &'static str,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// `appended >= written >= durable`, each only growing.
#[derive(Debug)]
pub(crate) struct Positions {
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
}

impl Positions {
    /// All three at the recovered end of the log.
    pub(crate) fn at(end: Lsn) -> Self {
        let mark = || AtomicU64::new(end.get());
        Positions { appended: mark(), written: mark(), durable: mark() }
    }

    /// Accepted into the log buffer.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// In the kernel's hands: survives the process.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// On the medium: survives power loss.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Called under the append lock.
    pub(crate) fn advance_appended(&self, to: u64) -> Result<(), OutOfOrder> {
        advance(&self.appended, "appended", to, u64::MAX)
    }

    /// Called with the right to write.
    pub(crate) fn advance_written(&self, to: u64) -> Result<(), OutOfOrder> {
        advance(&self.written, "written", to, self.appended())
    }

    /// Called with the right to sync.
    pub(crate) fn advance_durable(&self, to: u64) -> Result<(), OutOfOrder> {
        advance(&self.durable, "durable", to, self.written())
    }
}

/// Each mark has one mover at a time (see the callers), so a load and a store need no exchange loop.
fn advance(mark: &AtomicU64, name: &'static str, to: u64, bound: u64) -> Result<(), OutOfOrder> {
    let from = mark.load(Ordering::Relaxed);
    if to < from || to > bound {
        return Err(OutOfOrder { mark: name, from, to });
    }
    mark.store(to, Ordering::Release);
    Ok(())
}
