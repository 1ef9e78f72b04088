//! What a run found, and how it is shown.

/// Appends a line to a text. Writing to a string never fails.
macro_rules! push {
    ($text:expr, $($rest:tt)*) => {{ let _ = writeln!($text, $($rest)*); }};
}
pub(crate) use push;

mod compare;
pub mod markdown;
pub mod svg;

pub use compare::{Entry, Line, Standing, lines};

use serde::{Deserialize, Serialize};

use crate::check::Checked;
use crate::child::Measured;
use crate::common::stats::{Latency, Spread};
use crate::peer::{Kind, Reads};
use crate::place::Place;

/// Everything that a run measured; its JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub place: Place,
    pub settings: Settings,
    pub peers: Vec<Described>,
    pub rows: Vec<Row>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub rounds: u32,
    pub seconds: f64,
    pub transactions: u64,
    pub command: String,
}

impl Report {
    /// What was measured of a peer in a workload.
    pub fn cell(&self, workload: &str, peer: &str) -> Option<&Cell> {
        self.rows.iter().find(|row| row.id == workload)?.cells.iter().find(|cell| cell.peer == peer)
    }
}

/// A peer and its configurations, in words.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Described {
    pub name: String,
    pub kind: Kind,
    pub version: String,
    /// What to install for it.
    pub missing: Option<String>,
    pub sync: Option<String>,
    pub written: Option<String>,
    pub asynchronous: Option<String>,
    /// What its reads see.
    #[serde(default)]
    pub reads: Option<Reads>,
    pub advice: String,
    pub check: Option<Checked>,
}

/// All measurements of a workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub title: String,
    pub cells: Vec<Cell>,
}

/// All measurements of a workload and a peer, in the order of the rounds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub peer: String,
    pub rounds: Vec<Measured>,
    pub error: Option<String>,
}

impl Cell {
    /// The medians of the rounds. Nothing where a peer does not tell the times of single operations.
    pub fn latency(&self) -> Latency {
        Latency {
            p50: self.median(|round| round.p50),
            p99: self.median(|round| round.p99),
            p999: self.median(|round| round.p999),
        }
    }

    /// The median of what the rounds tell.
    pub fn median(&self, of: fn(&Measured) -> Option<f64>) -> Option<f64> {
        Spread::of(self.rounds.iter().filter_map(of)).map(|spread| spread.median)
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_mib: u64,
    pub kernel: String,
}

impl Machine {
    /// In words, with the place on it that was measured.
    pub fn with(&self, place: &Place) -> String {
        let Machine { processor, processors, memory_mib, kernel } = self;
        let Place { file_system, device, .. } = place;
        format!("{processors} x {processor}, {memory_mib} MiB, Linux {kernel}, {file_system} on {device}.")
    }

    /// The machine that this runs on, as its kernel tells it.
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kibibytes: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        Machine {
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kibibytes >> 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Three digits that count, and a unit of thousands.
pub fn figure(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, "M"),
        size if size >= 9_995.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        size if size >= 99.95 || (size == 0.0) => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}{unit}")
}
