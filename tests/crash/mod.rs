//! The machinery of the crash-state exploration. See `crash_states.rs`.

pub(crate) mod campaign;
pub(crate) mod check;
pub(crate) mod cycles;
pub(crate) mod explore;
pub(crate) mod faults;
pub(crate) mod ledger;
pub(crate) mod life;
pub(crate) mod model;
pub(crate) mod report;
pub(crate) mod workload;
