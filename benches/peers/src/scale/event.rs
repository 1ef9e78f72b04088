//! What a child is asked to do, and what it tells meanwhile: one line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::histogram::Times;
use crate::common::KEY_BYTES;

/// What the lines begin with that the parent looks for: peers print lines of their own.
pub const EVENT: &str = "forelog-scale: ";

/// The steps of a run, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Phase {
    Load,
    Close,
    OpenClosed,
    /// Overwrites of the process that is killed then.
    BeforeKill,
    OpenKilled,
    ReadPresent,
    ReadAbsent,
    Scan,
    Overwrite,
    SettleOverwritten,
    Delete,
    SettleDeleted,
    /// Single commits while nothing else goes on, and beside a thread that overwrites.
    SyncAlone,
    AsyncAlone,
    SyncBeside,
    AsyncBeside,
}

/// The keys and values of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Data {
    pub keys: u64,
    pub value_bytes: usize,
    /// Puts of the load: more than keys where each is written many times.
    pub writes: u64,
    pub seed: u64,
}

impl Data {
    /// Of a key with its value.
    pub fn record_bytes(&self) -> u64 {
        (KEY_BYTES + self.value_bytes) as u64
    }
}

/// What one process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Part {
    /// Writes everything and closes.
    Load,
    /// Opens, writes for a moment, and is killed.
    OpenAndDie,
    /// Opens alone.
    Open,
    /// Opens, and takes all that follows.
    OpenAndGoOn,
    /// Writes everything, times single commits, and closes.
    Steady,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    pub peer: String,
    pub dir: PathBuf,
    /// What the process may use, as its store is told.
    pub memory: u64,
    /// The file that takes a process into its control group.
    pub group: Option<PathBuf>,
    pub data: Data,
    pub part: Part,
    /// How many of the puts of the load were done.
    pub loaded: u64,
    /// The limit of all phases together, in seconds; each has its share.
    pub seconds: f64,
}

/// One second of a phase, or what is left of it at its end.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Second {
    pub phase: Phase,
    /// When it ended: seconds since 1970 as a child tells it, seconds of the run as it is reported.
    pub at: f64,
    /// How long it was, in seconds.
    pub length: f64,
    pub operations: u64,
    /// Of the transactions or reads that ended in it.
    pub times: Option<Times>,
}

/// What a phase gave.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub phase: Phase,
    /// Keys that were written, read or deleted.
    pub operations: u64,
    /// Of about so many.
    pub wanted: u64,
    /// Its share of the time was over before.
    pub is_cut: bool,
    pub seconds: f64,
    /// Single transactions or reads.
    pub times: Option<Times>,
    /// Present keys that were not found, or absent ones that were.
    pub wrong: u64,
    /// Memory of the process at the end, in bytes.
    pub resident: u64,
    /// What the process has read from the device and written meanwhile, in bytes.
    pub read: u64,
    pub written: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    Begun(Phase),
    Second(Second),
    Ended(Outcome),
}
