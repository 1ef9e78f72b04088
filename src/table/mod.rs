//! What is on disk besides the log. Nothing yet: all data lives in the index, and the log is replayed at open.
//!
//! Sorted runs, checkpoints, the manifest and compaction have their place here, between the index, which a
//! checkpoint freezes and reads, and the transactions, which will not notice.
