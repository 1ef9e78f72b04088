//! The runtime: time, threads, locks, randomness and the process enter the crate here, so that a simulation or a model
//! checker can replace each of them.

pub(crate) mod background;
pub(crate) mod clock;
#[cfg(unix)]
pub(crate) mod descriptor;
pub(crate) mod entropy;
pub(crate) mod guard;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod moment;
pub(crate) mod process;
#[cfg(feature = "sim")]
#[cfg_attr(any(loom, shuttle), allow(dead_code, reason = "the model checker owns the schedule"))]
pub(crate) mod schedule;
pub(crate) mod sleeper;
pub(crate) mod sync;
