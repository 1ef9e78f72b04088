//! What the log leaves room for on its disk.

use std::fmt::Debug;

use crate::base::error::Error;

/// What stands above a log, needs room of its own, and can give room back.
pub(crate) trait Reserve: Send + Sync + Debug {
    /// How many bytes are to stay free, if the log grows by `growth` bytes above what is durable.
    fn bytes(&self, growth: u64) -> u64;
    /// Asks for room to be given back. Whether the log is told to try again once that is over.
    fn ask(&self) -> bool;
    /// Why room could not be given back when that was tried last.
    fn failure(&self) -> Option<Error>;
}
