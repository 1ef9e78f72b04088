//! Files besides the log. There are none yet: all data is in the index, and the log is replayed at open. What is here
//! reads and writes single files; checkpoints, the manifest and compaction belong here, between the index, which a
//! checkpoint freezes and reads, and the transactions.
//!
//! `RULES.md` decides what memory may forget, what layers may leave out, and how a deletion of a range works in memory;
//! `tests/residency` is its model.

#[allow(dead_code, reason = "the engine makes no checkpoint yet")]
pub(crate) mod checkpoint;
#[allow(dead_code, reason = "no checkpoint writes to table/ yet")]
pub(crate) mod dir;
#[allow(dead_code, reason = "nothing merges layers yet")]
pub(crate) mod fragments;
#[allow(dead_code, reason = "no checkpoint writes to table/ yet")]
pub(crate) mod gate;
#[allow(dead_code, reason = "nothing merges layers yet")]
pub(crate) mod job;
#[allow(dead_code, reason = "no checkpoint writes a list of keyspaces yet")]
pub(crate) mod keyspaces;
#[allow(dead_code, reason = "no checkpoint writes a layer yet")]
pub(crate) mod layer;
#[allow(dead_code, reason = "only tools read single files yet")]
pub(crate) mod list;
#[allow(dead_code, reason = "no checkpoint merges yet")]
pub(crate) mod merge;
#[allow(dead_code, reason = "no open looks for tables yet")]
pub(crate) mod open;
#[allow(dead_code, reason = "only tools read single files yet, and no checkpoint writes one")]
pub(crate) mod run;
#[allow(dead_code, reason = "no checkpoint sorts yet")]
pub(crate) mod sort;
#[allow(dead_code, reason = "no checkpoint writes to table/ yet")]
pub(crate) mod store;

#[cfg(test)]
mod tests;
