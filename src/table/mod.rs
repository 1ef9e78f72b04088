//! Files besides the log. There are none: all data is in the index, and the log is replayed at open.
//!
//! Sorted runs, checkpoints, the manifest and compaction belong here, between the index, which a checkpoint freezes and
//! reads, and the transactions.
//!
//! `RULES.md` decides what memory may forget, what layers may leave out, and how a deletion of a range works in memory;
//! `tests/residency` is its model.
