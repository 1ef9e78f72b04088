//! forelog
pub mod disk;
pub mod format;
mod engine;
mod index;
pub mod log;
mod table;
mod txn;
mod words;

pub use engine::{Engine, Options};
pub use index::Value;
pub use log::{AtRisk, Log, LogOptions, LossWindow, Poison, Receipt, Record, Recovery, Scan, Stats, Tail};
pub use txn::{Keyspace, Range, Snapshot, Transaction, WriteBatch};
pub use words::error::{Damage, DamageCause, Error, ErrorKind, Result};
pub use words::options::LossBudget;
pub use words::types::{CommitMode, Incarnation, LogId, Lsn, Outcome, Token};

#[cfg(feature = "sim")]
pub mod sim {
    //! sim
    pub use crate::disk::sim::*;
    pub use crate::words::schedule::{Simulated, now, run, sleep, start, yield_point};
}
