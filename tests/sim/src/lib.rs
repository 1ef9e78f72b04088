//! What is tried on the simulated disk: crashes at every operation, and faults at every operation.
#![allow(missing_debug_implementations, missing_docs, reason = "read by the tests beside it, and by no program")]

pub mod crash;
pub mod faults;
pub mod figures;
mod gate;
pub mod history;
pub mod results;
pub mod segments;

pub use gate::{Gate, behind_a_gate};

/// The root of the repository.
pub fn root() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
