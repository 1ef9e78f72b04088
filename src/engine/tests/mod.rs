//! Tests of the engine.

#[cfg(feature = "sim")]
mod after_a_panic;
mod applied_together;
#[cfg(feature = "sim")]
mod async_commits;
#[cfg(feature = "sim")]
mod background;
#[cfg(feature = "sim")]
mod checkpoints;
#[cfg(feature = "sim")]
mod commit_errors;
#[cfg(feature = "sim")]
mod compact;
#[cfg(feature = "sim")]
mod copied;
mod failing_reads;
#[cfg(feature = "sim")]
mod first_table;
#[cfg(feature = "sim")]
mod full_disk;
#[cfg(feature = "sim")]
mod harm;
#[cfg(feature = "sim")]
mod long_log;
#[cfg(feature = "sim")]
mod merging;
mod promotion;
#[cfg(feature = "sim")]
mod quiet_opens;
#[cfg(feature = "sim")]
mod retention;
#[cfg(feature = "sim")]
mod rotten_log;
