//! What the crash tests of the engine are made of: each thing once, for the simulated disk, for faults, for processes
//! that are killed and for power that is cut.
//!
//! [`model`] says what a database holds after each commit, [`judge`] whether an engine that was just opened holds it.

mod engine;
mod files;
pub mod judge;
pub mod model;
mod random;
mod waking;
#[cfg(feature = "disk")]
mod watched;

pub use engine::{
    DB, MODES, Place, error_of, get, given_back, in_memory, kind_of, mode_name, open_on, prepared_ahead, put,
    wait_until,
};
pub use files::{TempDir, contents_of, copy_dir, restore};
pub use random::{Random, number, seed};
pub use waking::{Wakes, block_on, drive};
#[cfg(feature = "disk")]
pub use watched::{by_file, watched_operations, watched_work};
