//! The vocabulary: types, errors, options, and the four doors through which time, threads, randomness and the
//! process enter. Everything else imports from here; nothing here imports from the layers above.

pub(crate) mod clock;
pub(crate) mod entropy;
pub(crate) mod error;
pub(crate) mod guard;
pub(crate) mod memory;
pub(crate) mod options;
pub(crate) mod process;
#[cfg(feature = "sim")]
#[cfg_attr(any(loom, shuttle), allow(dead_code, reason = "the model checker owns the schedule"))]
pub(crate) mod schedule;
pub(crate) mod sync;
pub(crate) mod types;
