//! Counts, and the table that is printed at the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::LossBudget;
use forelog::sim::Granularity;

use super::check::Crash;

/// The kinds of crash states in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Kill,
    PowerBySector,
    PowerByWord,
    AfterOpen,
    InRecovery,
}

impl Kind {
    pub(crate) fn of(crash: &Crash) -> Self {
        match crash {
            Crash::Kill => Kind::Kill,
            Crash::Power(_, Granularity::Word) => Kind::PowerByWord,
            Crash::Power(..) => Kind::PowerBySector,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Kill => "process kill",
            Kind::PowerBySector => "power loss, by sector",
            Kind::PowerByWord => "power loss, by word",
            Kind::AfterOpen => "power loss right after open",
            Kind::InRecovery => "a second crash, within the recovery",
        })
    }
}

/// The value that came nearest to its limit.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Fullest {
    seen: u64,
    limit: u64,
}

impl Fullest {
    fn note(&mut self, seen: u64, limit: u64) {
        // By share of the limit, then by size.
        let share = (u128::from(seen) * u128::from(self.limit.max(1)), seen);
        if share > (u128::from(self.seen) * u128::from(limit), self.seen) {
            *self = Fullest { seen, limit };
        }
    }

    fn merge(&mut self, other: Fullest) {
        self.note(other.seen, other.limit);
    }
}

impl fmt::Display for Fullest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.seen, self.limit)
    }
}

/// The fullest loss windows seen.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Window {
    commits: Fullest,
    bytes: Fullest,
    micros: Fullest,
}

impl Window {
    pub(crate) fn note(&mut self, commits: u64, bytes: u64, age: Duration, budget: &LossBudget) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.commits.note(commits, budget.max_commits);
        self.micros.note(micros(age), micros(budget.max_age));
        // One that is larger than the limit is admitted alone.
        if commits > 1 {
            self.bytes.note(bytes, budget.max_bytes);
        }
    }

    fn merge(&mut self, other: &Window) {
        self.commits.merge(other.commits);
        self.bytes.merge(other.bytes);
        self.micros.merge(other.micros);
    }
}

/// What became of the runs with a failed fsync.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Struck {
    /// The fault struck.
    pub(crate) failures: usize,
    /// The engine stopped. It goes on if what failed was a segment in preparation.
    pub(crate) poisoned: usize,
    /// Answers to the tokens of commits in doubt, by the opens that followed.
    pub(crate) settled_durable: usize,
    pub(crate) settled_lost: usize,
}

impl Struck {
    fn merge(&mut self, other: &Struck) {
        self.failures += other.failures;
        self.poisoned += other.poisoned;
        self.settled_durable += other.settled_durable;
        self.settled_lost += other.settled_lost;
    }
}

/// What was explored. Images are counted once, whoever comes upon them.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    images: Arc<Mutex<HashSet<u64>>>,
    pub(crate) runs: usize,
    pub(crate) lives: usize,
    pub(crate) cuts: usize,
    pub(crate) repeated: usize,
    pub(crate) opened: usize,
    pub(crate) tokens: usize,
    pub(crate) states: BTreeMap<Kind, usize>,
    pub(crate) crowded: usize,
    pub(crate) recovering: usize,
    pub(crate) modes: BTreeMap<&'static str, usize>,
    pub(crate) window: Window,
    pub(crate) struck: Struck,
}

impl Tally {
    /// An empty one that counts no image that `self` has counted.
    pub(crate) fn sharing(&self) -> Tally {
        Tally { images: Arc::clone(&self.images), ..Tally::default() }
    }

    pub(crate) fn count(
        &mut self,
        hash: u64,
        kind: Kind,
        crowded: bool,
        recovering: bool,
        modes: &BTreeSet<&'static str>,
    ) {
        self.opened += 1;
        if !self.images.lock().expect("nobody panics with the images in hand").insert(hash) {
            self.repeated += 1;
            return;
        }
        *self.states.entry(kind).or_default() += 1;
        self.crowded += usize::from(crowded);
        self.recovering += usize::from(recovering);
        for mode in modes {
            *self.modes.entry(mode).or_default() += 1;
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.states.values().sum()
    }

    pub(crate) fn merge(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.lives += other.lives;
        self.cuts += other.cuts;
        self.repeated += other.repeated;
        self.opened += other.opened;
        self.tokens += other.tokens;
        self.crowded += other.crowded;
        self.recovering += other.recovering;
        for (kind, count) in &other.states {
            *self.states.entry(*kind).or_default() += count;
        }
        for (mode, count) in &other.modes {
            *self.modes.entry(mode).or_default() += count;
        }
        self.window.merge(&other.window);
        self.struck.merge(&other.struck);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<52} {value:>16}");
        row("runs", self.runs.to_string())?;
        row("lives", self.lives.to_string())?;
        row("crash points", self.cuts.to_string())?;
        row("distinct crash states, opened and compared", self.total().to_string())?;
        for (kind, count) in &self.states {
            row(&format!("  {kind}"), count.to_string())?;
        }
        row("  3+ threads committing, mixed modes, flush in flight", self.crowded.to_string())?;
        row("  within a recovery", self.recovering.to_string())?;
        for (mode, count) in &self.modes {
            row(&format!("  a commit not durable yet in mode {mode}"), count.to_string())?;
        }
        row("opens", self.opened.to_string())?;
        row("images seen before", self.repeated.to_string())?;
        row("tokens asked", self.tokens.to_string())?;
        row("fullest loss window, commits", self.window.commits.to_string())?;
        row("fullest loss window, bytes", self.window.bytes.to_string())?;
        row("fullest loss window, microseconds", self.window.micros.to_string())?;
        let Struck { failures, poisoned, settled_durable, settled_lost } = self.struck;
        if failures == 0 {
            return Ok(());
        }
        row("failed fsyncs", failures.to_string())?;
        row("  that stopped the engine", poisoned.to_string())?;
        row("  commits in doubt, then Durable", settled_durable.to_string())?;
        row("  commits in doubt, then Lost", settled_lost.to_string())
    }
}
