//! The machinery of the crash-state exploration. See `crash_states.rs`.
#![allow(dead_code, reason = "the campaign and the tests use a part of it each")]

pub(crate) mod campaign;
pub(crate) mod case;
pub(crate) mod check;
pub(crate) mod choices;
pub(crate) mod cycles;
pub(crate) mod explore;
pub(crate) mod faults;
pub(crate) mod ledger;
pub(crate) mod life;
pub(crate) mod model;
pub(crate) mod paranoid;
pub(crate) mod recovery;
pub(crate) mod report;
pub(crate) mod retired;
pub(crate) mod sequences;
pub(crate) mod shrink;
pub(crate) mod workload;
