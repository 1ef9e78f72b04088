//! From a payload to the medium: a place in the log order, the log buffer, the segment files, the flush.

pub(crate) mod append;
pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod flush;
pub(crate) mod gather;
pub(crate) mod jobs;
pub(crate) mod segment;
pub(crate) mod stall;
pub(crate) mod waiters;
