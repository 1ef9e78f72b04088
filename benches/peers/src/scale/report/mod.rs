//! What a run found; its JSON.

pub mod chart;
pub mod markdown;
pub mod plots;
mod rows;

use serde::{Deserialize, Serialize};

use super::event::{Data, Outcome, Phase, Second};
use crate::place::Place;
use crate::report::Machine;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// All phases, over data that outgrow memory.
    Phases,
    /// Opens of several sizes.
    Opens,
    /// Overwrites of few keys, and the opens after them.
    Few,
    /// Single commits, alone and beside a thread that overwrites.
    Steady,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScaleReport {
    pub kind: Kind,
    pub machine: Machine,
    pub place: Place,
    /// What each engine may use, in bytes.
    pub memory: u64,
    /// The version of the control groups that hold it to that, in words; `None` if nothing does.
    pub limited_by: Option<String>,
    pub seconds: f64,
    pub command: String,
    pub peers: Vec<Configured>,
    pub runs: Vec<Run>,
}

/// A peer as it was configured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Configured {
    pub name: String,
    pub version: String,
    /// What to install for it.
    pub missing: Option<String>,
    pub configuration: String,
}

/// What one engine did with one set of data.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Run {
    pub peer: String,
    pub data: Data,
    pub phases: Vec<Recorded>,
    pub seconds: Vec<Second>,
    pub samples: Vec<Sample>,
    /// The most that the control group has used, page cache included, in bytes.
    pub peak: Option<u64>,
    pub failures: Vec<String>,
}

/// The outcome of a phase, and what it left.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recorded {
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Bytes of the directory at its end.
    pub disk: u64,
}

/// What is there at one moment; bytes but for `at`, which is in seconds of the run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub at: f64,
    pub phase: Phase,
    /// Keys that this phase has written, read or deleted.
    pub operations: u64,
    /// Of the process: all, and what no file backs.
    pub resident: u64,
    pub anonymous: u64,
    /// Of the control group: all, what no file backs, and the page cache.
    pub group: Option<u64>,
    pub group_anonymous: Option<u64>,
    pub group_cache: Option<u64>,
    pub disk: u64,
    /// What the device has read and written since the run began.
    pub read: u64,
    pub written: u64,
}

impl Run {
    pub fn new(peer: &str, data: Data) -> Run {
        Run {
            peer: peer.to_owned(),
            data,
            phases: Vec::new(),
            seconds: Vec::new(),
            samples: Vec::new(),
            peak: None,
            failures: Vec::new(),
        }
    }

    pub fn phase(&self, phase: Phase) -> Option<&Recorded> {
        self.phases.iter().find(|recorded| recorded.outcome.phase == phase)
    }

    /// Puts of the load that were done: of a load that failed, those of its whole seconds.
    pub fn loaded(&self) -> u64 {
        self.phase(Phase::Load).map_or_else(
            || self.seconds.iter().filter(|second| second.phase == Phase::Load).map(|second| second.operations).sum(),
            |load| load.outcome.operations,
        )
    }

    /// Bytes of the keys that are there, with their values.
    pub fn data_bytes(&self) -> u64 {
        self.loaded().min(self.data.keys) * self.data.record_bytes()
    }

    /// The most memory that the process was seen to use.
    pub fn most_resident(&self) -> Option<u64> {
        let samples = self.samples.iter().map(|sample| sample.resident);
        samples.chain(self.phases.iter().map(|phase| phase.outcome.resident)).max()
    }
}
