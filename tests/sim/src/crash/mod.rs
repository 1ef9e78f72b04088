//! The machinery of the crash-state exploration. See `tests/crash/main.rs`.

pub mod backups;
pub mod campaign;
pub mod case;
pub mod check;
pub mod choices;
pub mod cycles;
pub mod explore;
pub mod faults;
pub mod life;
pub mod log;
pub mod notes;
pub mod paranoid;
pub mod recovery;
pub mod report;
pub mod retired;
pub mod sequences;
pub mod shrink;
pub mod table_faults;
pub mod workload;
