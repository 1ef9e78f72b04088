//! Random operations on the whole engine against the history of everything that was committed.
//!
//! A *case* is a database on a [`SimDisk`](forelog::sim::SimDisk), under the deterministic scheduler, with so little memory
//! that ranges are forgotten at nearly every request. One client puts, deletes, deletes ranges, commits batches and
//! transactions in every mode, reads snapshots that are held for long, scans both ways, and creates and drops keyspaces.
//! Every few operations an *event* is forced: a checkpoint, beside the client or awaited; merges; forgetting; filling; rot
//! in the log that a checkpoint is to read; a close and an open; the end of the process or of the power, at rest or in the middle of what is forced next. What is
//! read is compared with the [history](model::History): of each key every version, by LSN.
//!
//! | must be so | of |
//! |---|---|
//! | a read at an LSN finds what the history says, whatever is in memory and whatever in layers | gets, ranges and prefixes, forward, backward and from both ends |
//! | a transaction conflicts if something that it read was put, deleted while it was there, or deleted with a range | commits |
//! | it does not conflict without a write over what it read, unless a checkpoint came meanwhile: then the range may have been forgotten | commits |
//! | what is recovered is the effect of a prefix of the commits, which has all that was safe | crashes |
//! | tokens of commits in the prefix are durable, others lost | crashes |
//!
//! Everything follows from the seed of a case.

pub mod case;
pub mod counts;
mod events;
pub mod model;
mod plan;
mod reads;
mod system;
mod transactions;
mod writes;

pub use case::{Run, Until, run_many, run_one};
pub use counts::Counts;
