//! The loss budget: which acknowledged commits a crash right now could take, and whether one more may join them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::words::clock::Moment;
use crate::words::options::LossBudget;

/// What a crash right now could take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct AtRisk {
    /// Commits acknowledged and not yet durable.
    pub commits: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// The time since the oldest of them was acknowledged.
    pub age: Duration,
}

/// The largest loss window seen so far, each figure on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LossWindow {
    /// Commits.
    pub commits: u64,
    /// Bytes of log.
    pub bytes: u64,
    /// Time between the first and the last acknowledgement.
    pub age: Duration,
}

#[derive(Debug)]
struct Entry {
    lsn: u64,
    bytes: u64,
    at: Moment,
}

/// The acknowledged, not yet durable commits, in LSN order. Guarded by the append lock.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: LossBudget,
    entries: VecDeque<Entry>,
    bytes: u64,
    largest: LossWindow,
}

impl Ledger {
    pub(crate) fn new(limits: LossBudget) -> Self {
        Ledger { limits, entries: VecDeque::new(), bytes: 0, largest: LossWindow::default() }
    }

    /// Whether a commit of `bytes`, acknowledged at `now`, keeps the window within the budget.
    pub(crate) fn admits(&self, bytes: u64, now: Moment) -> bool {
        let Some(oldest) = self.entries.front() else { return true };
        self.bytes.saturating_add(bytes) <= self.limits.max_bytes
            && (self.entries.len() as u64) < self.limits.max_commits
            && now.since(oldest.at) <= self.limits.max_age
    }

    /// Whether the window would be too long in time if a commit were acknowledged at `now`.
    pub(crate) fn is_overdue(&self, now: Moment) -> bool {
        self.entries.front().is_some_and(|oldest| now.since(oldest.at) > self.limits.max_age)
    }

    /// Counts a commit as acknowledged from its append on: a little early, never late.
    pub(crate) fn acknowledge(&mut self, lsn: u64, bytes: u64, at: Moment) {
        self.entries.push_back(Entry { lsn, bytes, at });
        self.bytes += bytes;
        self.note(at);
    }

    /// Takes note of the window as it is when a commit is acknowledged at `now`.
    pub(crate) fn note(&mut self, now: Moment) {
        let age = self.entries.front().map_or(Duration::ZERO, |oldest| now.since(oldest.at));
        self.largest.commits = self.largest.commits.max(self.entries.len() as u64);
        self.largest.bytes = self.largest.bytes.max(self.bytes);
        self.largest.age = self.largest.age.max(age);
    }

    /// Forgets what has become durable.
    pub(crate) fn release(&mut self, durable: u64) {
        while let Some(oldest) = self.entries.front()
            && oldest.lsn <= durable
        {
            self.bytes -= oldest.bytes;
            self.entries.pop_front();
        }
    }

    pub(crate) fn at_risk(&self, now: Moment) -> AtRisk {
        let age = self.entries.front().map_or(Duration::ZERO, |oldest| now.since(oldest.at));
        AtRisk { commits: self.entries.len() as u64, bytes: self.bytes, age }
    }

    pub(crate) fn largest(&self) -> LossWindow {
        self.largest
    }
}
