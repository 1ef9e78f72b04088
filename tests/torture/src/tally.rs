//! What was done and what came of it, in numbers.

use std::collections::{BTreeMap, HashSet};

use super::check::{AfterLie, Summary};
use super::fate::{Call, Fault, Lie};
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

/// What came of writes that lied.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lies {
    /// Everything that had been promised is there.
    pub(super) harmless: u64,
    /// A prefix is there, and something is missing that had been promised.
    pub(super) took: u64,
    /// So many commits in all.
    pub(super) taken: u64,
    /// The open named the damage.
    pub(super) refused: u64,
}

/// Kills of recoveries, by how many in a row were killed.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Depth {
    pub(super) covered: u64,
    /// Calls that the recoveries of this depth make, each counted in one that was left to come to its end.
    pub(super) of: u64,
    /// The time ran out first.
    pub(super) cut_short: bool,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Tally {
    pub(super) boundaries: Vec<Covered>,
    /// Kills by what the process was doing and which call it was at: before it, after it.
    pub(super) points: BTreeMap<(Phase, Call), [u64; 2]>,
    pub(super) recovery: [Depth; 3],
    pub(super) errors: BTreeMap<(Call, Fault), Outcomes>,
    pub(super) lies: BTreeMap<Lie, Lies>,
    pub(super) deaths: BTreeMap<&'static str, u64>,
    /// Why no process could be killed for want of memory.
    pub(super) no_cgroup: Option<String>,
    pub(super) random_kills: u64,
    /// Attempts of a second process to open a database that was in use; all were refused.
    pub(super) locked: u64,
    pub(super) processes: u64,
    pub(super) checks: u64,
    pub(super) opens: u64,
    /// Backups that were whole, and were compared.
    pub(super) backups: u64,
    pub(super) images: HashSet<u64>,
    /// The same by the modes of the last life that committed; an image that came of two of them counts for both.
    pub(super) images_of: BTreeMap<&'static str, HashSet<u64>>,
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

    /// What a lie took is not among the losses of the modes: those keep their promises.
    pub(super) fn lied(&mut self, lie: Lie, after: &AfterLie, modes: Option<&'static str>) {
        let lies = self.lies.entry(lie).or_default();
        match after {
            AfterLie::Refused => {
                lies.refused += 1;
                self.checks += 1;
            }
            AfterLie::Opened(summary) => {
                let place = if summary.promised == 0 { &mut lies.harmless } else { &mut lies.took };
                *place += 1;
                lies.taken += summary.promised;
                self.opened(summary, modes);
            }
        }
    }

    fn opened(&mut self, summary: &Summary, modes: Option<&'static str>) {
        self.checks += 1;
        self.opens += summary.opens;
        self.backups += summary.backups;
        self.tokens += summary.tokens;
        self.images.insert(summary.digest);
        if let Some(modes) = modes {
            self.images_of.entry(modes).or_default().insert(summary.digest);
        }
    }

    pub(super) fn checked(&mut self, summary: &Summary, modes: Option<&'static str>) {
        self.opened(summary, modes);
        for mode in 0..MODES.len() {
            self.acknowledged[mode] += summary.acknowledged[mode];
            self.lost[mode] += summary.lost[mode];
        }
        self.durable += summary.durable;
        self.largest_loss = self.largest_loss.max(summary.lost.iter().sum());
    }
}
