//! How a commit's durability is learned: now by its receipt, or for ever by its token.

pub(crate) mod callbacks;
pub(crate) mod outcome;
pub(crate) mod receipt;
