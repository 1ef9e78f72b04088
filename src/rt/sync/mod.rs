//! Threads enter the crate here: every lock, wait, spawn and queue, and the atomics by which threads agree, so that a
//! simulation or a model checker can own the schedule.
//!
//! | build
//!
//! implementation of each name |
//! |---|---|
//! | ordinary | `parking_lot`, `std`, `crossbeam`; with the feature `sim`, in a simulation, `rt::schedule` |
//! | `--cfg shuttle`
//!
//! shuttle: at every call another thread may get its turn |
//! | `--cfg loom` | loom: the same, and a load may give any value that the memory model allows |
//!
//! Counters for statistics stay plain atomics: no decision depends on them.

#[cfg(all(loom, shuttle))]
compile_error!("one model checker at a time: --cfg loom or --cfg shuttle");

#[cfg(any(loom, shuttle))]
mod checked;
#[cfg(not(any(loom, shuttle)))]
mod plain;
#[cfg(any(loom, shuttle))]
mod short;

#[cfg(any(loom, shuttle))]
pub(crate) use checked::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use plain::*;
#[cfg(any(loom, shuttle))]
pub(crate) use short::{ShortMutex, ShortRwLock};
