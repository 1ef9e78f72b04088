//! Data on disk beyond the log: sorted runs in layers, and which of them count. The engine writes layers
//! from the log, and asks them for what is not in memory.
//!
//! | file | what |
//! |---|---|
//! | `sort`, `merge`, `layer`, `fragments`, `keyspaces` | from writes and older layers to the runs of a new one |
//! | `checkpoint`, `job`, `damaged` | a layer from a piece of the log; merging neighbouring layers; round what cannot be read |
//! | `retain` | which range tombstones a layer must have |
//! | `room` | what a checkpoint writes at most |
//! | `store`, `dir`, `gate`, `held` | the stack that is installed, attempts to change it, MANIFEST in doubt; reading beside |
//! | `copies` | copies of files of the tables, for a backup |
//! | `reading` | what memory asks where it cannot answer alone: keys and ranges, through all layers |
//! | `open`, `list`, `named`, `run`, `fences` | what an open finds; reading lists and runs, damaged ones too, writing runs; bounds for search |
//!
//! `RULES.md` decides what memory may forget, what layers may leave out, and how a deletion of a range works in memory;
//! `tests/residency` is its model. `FAULTS.md` decides the order of the calls and what each failure means;
//! `tests/format/attempts.rs` is its model.

pub(crate) mod checkpoint;
pub(crate) mod copies;
mod damaged;
pub(crate) mod dir;
mod fences;
pub(crate) mod fragments;
pub(crate) mod gate;
pub(crate) mod held;
pub(crate) mod job;
pub(crate) mod keyspaces;
pub(crate) mod layer;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod named;
pub(crate) mod open;
pub(crate) mod pace;
pub(crate) mod pick;
pub(crate) mod reading;
mod retain;
pub(crate) mod room;
pub(crate) mod run;
pub(crate) mod sort;
pub(crate) mod store;

#[cfg(test)]
mod tests;
