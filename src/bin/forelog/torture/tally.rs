//! What was done and what came of it, in numbers.

use std::collections::{BTreeMap, HashSet};

use super::check::Summary;
use super::fate::{Call, Fault};
use super::life::{Lived, Phase};
use super::script::MODES;

/// Boundaries of one script: `of` system calls, and at how many of them a process was killed.
#[derive(Clone, Default, Debug)]
pub(super) struct Covered {
    pub(super) script: String,
    pub(super) before: u64,
    pub(super) after: u64,
    /// `None` if the time ran out first.
    pub(super) of: Option<u64>,
}

/// What came of a failed call.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Outcomes {
    /// Nobody noticed.
    pub(super) unnoticed: u64,
    /// An error of the right kind, and the engine went on.
    pub(super) went_on: u64,
    /// The engine took no more commits.
    pub(super) poisoned: u64,
    /// The open failed with an error of the right kind, and the next one did not.
    pub(super) not_opened: u64,
}

impl Outcomes {
    pub(super) fn sum(self) -> u64 {
        self.unnoticed + self.went_on + self.poisoned + self.not_opened
    }
}

/// Crashes of recoveries, by how many recoveries in a row were killed.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Depth {
    pub(super) covered: u64,
    /// Places at which a recovery could have been killed.
    pub(super) of: u64,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Tally {
    pub(super) boundaries: Vec<Covered>,
    /// Kills by what the process was doing and which call it was at: before it, after it.
    pub(super) points: BTreeMap<(Phase, Call), [u64; 2]>,
    pub(super) recovery: [Depth; 3],
    pub(super) errors: BTreeMap<(Call, Fault), Outcomes>,
    pub(super) deaths: BTreeMap<&'static str, u64>,
    pub(super) random_kills: u64,
    /// Attempts of a second process to open a database that was in use; all were refused.
    pub(super) locked: u64,
    pub(super) processes: u64,
    pub(super) checks: u64,
    pub(super) opens: u64,
    pub(super) images: HashSet<u64>,
    pub(super) acknowledged: [u64; MODES.len()],
    pub(super) lost: [u64; MODES.len()],
    pub(super) durable: u64,
    pub(super) tokens: u64,
    pub(super) largest_loss: u64,
}

impl Tally {
    pub(super) fn killed(&mut self, lived: &Lived, after: bool) {
        if let Some(hit) = &lived.hit {
            self.points.entry((lived.phase, hit.call)).or_default()[usize::from(after)] += 1;
        }
    }

    pub(super) fn failed(&mut self, call: Call, fault: Fault, lived: &Lived) {
        let outcomes = self.errors.entry((call, fault)).or_default();
        let place = match (lived.phase, lived.errors.is_empty()) {
            (_, true) => &mut outcomes.unnoticed,
            (Phase::Create | Phase::Recover, false) => &mut outcomes.not_opened,
            _ if lived.poisoned => &mut outcomes.poisoned,
            _ if lived.errors.iter().any(|kind| kind == "Poisoned") => &mut outcomes.poisoned,
            _ => &mut outcomes.went_on,
        };
        *place += 1;
    }

    pub(super) fn checked(&mut self, summary: &Summary) {
        self.checks += 1;
        self.opens += summary.opens;
        self.images.insert(summary.digest);
        for mode in 0..MODES.len() {
            self.acknowledged[mode] += summary.acknowledged[mode];
            self.lost[mode] += summary.lost[mode];
        }
        self.durable += summary.durable;
        self.tokens += summary.tokens;
        self.largest_loss = self.largest_loss.max(summary.lost.iter().sum());
    }
}
