//! How a commit's durability is learned: now by its receipt, or for ever by its token.

#[cfg(unix)]
pub(crate) mod bells;
pub(crate) mod callbacks;
#[cfg(unix)]
pub(crate) mod durable_fd;
pub(crate) mod outcome;
pub(crate) mod receipt;
