//! The loss budget: which acknowledged commits a crash right now could take, and whether one more may join them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::options::LossBudget;
use crate::rt::clock::Moment;

/// Commits that were acknowledged and are not durable: what a crash could take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LossWindow {
    /// How many there are.
    pub commits: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// The time since the oldest of them was acknowledged.
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
    /// The largest window at an acknowledgement so far, each figure on its own.
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

    /// Notes the window as it is when a commit is acknowledged at `now`.
    pub(crate) fn note(&mut self, now: Moment) {
        let LossWindow { commits, bytes, age } = self.at_risk(now);
        let largest = &mut self.largest;
        largest.commits = largest.commits.max(commits);
        largest.bytes = largest.bytes.max(bytes);
        largest.age = largest.age.max(age);
    }

    /// Forgets the commits that have become durable.
    pub(crate) fn release(&mut self, durable: u64) {
        while let Some(oldest) = self.entries.front()
            && oldest.lsn <= durable
        {
            self.bytes -= oldest.bytes;
            self.entries.pop_front();
        }
    }

    pub(crate) fn at_risk(&self, now: Moment) -> LossWindow {
        let age = self.entries.front().map_or(Duration::ZERO, |oldest| now.since(oldest.at));
        LossWindow { commits: self.entries.len() as u64, bytes: self.bytes, age }
    }

    pub(crate) fn largest(&self) -> LossWindow {
        self.largest
    }
}
