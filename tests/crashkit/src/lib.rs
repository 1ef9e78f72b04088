//! What the crash tests of the engine are made of: each thing once, for the simulated disk, for faults, for processes
//! that are killed and for power that is cut.
//!
//! Clients say what they do and are told as [`event`]s, through a [`journal`] or a pipe; the [`ledger`] keeps what follows
//! from them for the next open; [`model`] says what a database holds after each commit, and the [`judge`] whether an engine
//! that was just opened holds what the ledger says. [`shrink`] makes a history that fails small.

mod engine;
pub mod event;
mod files;
pub mod journal;
pub mod judge;
pub mod ledger;
pub mod model;
mod random;
pub mod shrink;
mod waking;
#[cfg(feature = "disk")]
mod watched;
pub mod workload;

pub use engine::{
    DB, MODES, Place, chain, error_of, get, given_back, in_memory, kind_of, mode_name, open_on, prepared_ahead, put,
    wait_until,
};
pub use files::{TempDir, contents_of, copy_dir, restore};
pub use random::{Random, mix, number, seed};
pub use waking::{Wakes, block_on, drive};
#[cfg(feature = "disk")]
pub use watched::{by_file, watched_operations, watched_work};
