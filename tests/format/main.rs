//! The format over time: directories that earlier builds wrote open for ever, and what a newer build wrote is refused
//! by name. Beside it the models of `src/format/DECISIONS.md` and `src/table/FAULTS.md`.

mod archive;
mod attempts;
mod bits;
mod fixtures;
mod names;
mod refusals;
mod script;
mod startup;
mod tables;
mod write;
