//! Counts, and the table that is printed at the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::LossBudget;
use forelog::sim::Granularity;

use super::case::Focus;
use super::check::Crash;

/// The kinds of crash states in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Kill,
    Power(Granularity),
    AfterOpen,
    /// The second or third crash.
    InRecovery(usize),
    /// The medium broke its assumptions.
    Paranoid,
}

impl Kind {
    pub fn of(crash: &Crash, lenient: bool) -> Self {
        match crash {
            _ if lenient => Kind::Paranoid,
            Crash::Kill => Kind::Kill,
            Crash::Power(power) => Kind::Power(power.persona.unit(power.unit)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Kill => f.write_str("process kill"),
            Kind::Power(unit) => write!(f, "power loss by {}", format!("{unit:?}").to_lowercase()),
            Kind::AfterOpen => f.write_str("power loss right after open"),
            Kind::InRecovery(depth) => write!(f, "crash within recovery, depth {depth}"),
            Kind::Paranoid => f.write_str("paranoid: a lying sync, tears at any byte"),
        }
    }
}

/// What else is counted of a state.
#[derive(Default, Debug)]
pub struct Trait {
    /// Three or more clients were committing in mixed modes, and a flush was in flight.
    pub crowded: bool,
    /// An open was under way.
    pub recovering: bool,
    /// A call in `table/` was under way.
    pub in_table: bool,
    /// A call in a backup was under way.
    pub in_backup: bool,
    /// Memory was forgotten before the life came to its end.
    pub forgetful: bool,
    /// The modes of the commits that were not durable.
    pub modes: BTreeSet<&'static str>,
}

/// The value that came nearest to its limit.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fullest {
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
pub struct Window {
    commits: Fullest,
    bytes: Fullest,
    micros: Fullest,
}

impl Window {
    pub fn note(&mut self, commits: u64, bytes: u64, age: Duration, budget: &LossBudget) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.commits.note(commits, budget.max_commits);
        self.micros.note(micros(age), micros(budget.max_age));
        // One that is larger than the limit is admitted alone.
        if commits > 1 {
            self.bytes.note(bytes, budget.max_bytes);
        }
    }

    /// What was seen of each limit, and the limit that it came nearest to.
    pub fn shares(&self) -> [(&'static str, u64, u64); 3] {
        let of = |name, fullest: Fullest| (name, fullest.seen, fullest.limit);
        [of("commits", self.commits), of("bytes", self.bytes), of("microseconds", self.micros)]
    }

    fn merge(&mut self, other: &Window) {
        self.commits.merge(other.commits);
        self.bytes.merge(other.bytes);
        self.micros.merge(other.micros);
    }
}

/// What became of the runs with a failed fsync.
#[derive(Clone, Copy, Default, Debug)]
pub struct Struck {
    /// The fault struck.
    pub failures: usize,
    /// The engine stopped. It goes on if what failed was a segment in preparation.
    pub poisoned: usize,
    /// Answers to the tokens of commits in doubt, by the opens that followed.
    pub settled_durable: usize,
    pub settled_lost: usize,
}

impl Struck {
    fn merge(&mut self, other: &Struck) {
        self.failures += other.failures;
        self.poisoned += other.poisoned;
        self.settled_durable += other.settled_durable;
        self.settled_lost += other.settled_lost;
    }
}

/// Hashes of images, in parts with a lock each.
#[derive(Debug)]
pub struct Images {
    parts: Vec<Mutex<HashSet<u64, BuildHasherDefault<AsIs>>>>,
    total: AtomicUsize,
    crowded: AtomicUsize,
}

impl Default for Images {
    fn default() -> Self {
        Images {
            parts: (0..64).map(|_| Mutex::default()).collect(),
            total: AtomicUsize::new(0),
            crowded: AtomicUsize::new(0),
        }
    }
}

impl Images {
    fn insert(&self, hash: u64) -> bool {
        let part = usize::try_from(hash >> 58).expect("6 bits");
        let new = self.parts[part].lock().expect("nobody panics with the images in hand").insert(hash);
        self.total.fetch_add(usize::from(new), Ordering::Relaxed);
        new
    }
}

/// Hashes of hashes are themselves.
#[derive(Clone, Copy, Default, Debug)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// What was explored. Images are counted once, whoever comes upon them.
#[derive(Clone, Default)]
pub struct Tally {
    images: Arc<Images>,
    pub runs: usize,
    pub lives: usize,
    pub cuts: usize,
    /// Operations that change the disk, and syncs in flight, of the lives explored; and their ends.
    pub boundaries: usize,
    /// Operations of recoveries that were crash points of the second and third crash: all of those recoveries.
    pub in_recovery: [usize; 2],
    pub repeated: usize,
    pub opened: usize,
    pub tokens: usize,
    pub snapshots: usize,
    /// Refused by a lenient rule.
    pub detected: usize,
    pub states: BTreeMap<Kind, usize>,
    /// Choices that each persona allows, images seen before included.
    pub personas: BTreeMap<&'static str, usize>,
    pub crowded: usize,
    pub recovering: usize,
    pub in_table: usize,
    pub in_backup: usize,
    pub forgetful: usize,
    /// Those that were made, opened and compared.
    pub backups: usize,
    /// Databases that were closed right after their open, and opened again.
    pub closed: usize,
    pub modes: BTreeMap<&'static str, usize>,
    pub window: Window,
    pub struck: Struck,
    /// Where the last failure was.
    pub failure: Option<Focus>,
}

impl Tally {
    /// An empty one that counts no image that `self` has counted.
    pub fn sharing(&self) -> Tally {
        Tally { images: Arc::clone(&self.images), ..Tally::default() }
    }

    /// Distinct images, also of those that share them.
    pub fn images(&self) -> usize {
        self.images.total.load(Ordering::Relaxed)
    }

    /// Whether a third of them are crowded.
    pub fn enough_crowded(&self) -> bool {
        self.images.crowded.load(Ordering::Relaxed) * 3 >= self.images()
    }

    pub fn note_persona(&mut self, crash: &Crash) {
        if let Crash::Power(power) = crash {
            *self.personas.entry(power.persona.name).or_default() += 1;
        }
    }

    pub fn count(&mut self, hash: u64, kind: Kind, traits: &Trait) {
        self.opened += 1;
        if !self.images.insert(hash) {
            self.repeated += 1;
            return;
        }
        *self.states.entry(kind).or_default() += 1;
        self.crowded += usize::from(traits.crowded);
        self.images.crowded.fetch_add(usize::from(traits.crowded), Ordering::Relaxed);
        self.recovering += usize::from(traits.recovering);
        self.in_table += usize::from(traits.in_table);
        self.in_backup += usize::from(traits.in_backup);
        self.forgetful += usize::from(traits.forgetful);
        for mode in &traits.modes {
            *self.modes.entry(mode).or_default() += 1;
        }
    }

    pub fn total(&self) -> usize {
        self.states.values().sum()
    }

    pub fn merge(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.lives += other.lives;
        self.cuts += other.cuts;
        self.boundaries += other.boundaries;
        self.repeated += other.repeated;
        self.opened += other.opened;
        self.tokens += other.tokens;
        self.snapshots += other.snapshots;
        self.detected += other.detected;
        self.crowded += other.crowded;
        self.recovering += other.recovering;
        self.in_table += other.in_table;
        self.in_backup += other.in_backup;
        self.forgetful += other.forgetful;
        self.backups += other.backups;
        self.closed += other.closed;
        for (ours, theirs) in self.in_recovery.iter_mut().zip(other.in_recovery) {
            *ours += theirs;
        }
        for (kind, count) in &other.states {
            *self.states.entry(*kind).or_default() += count;
        }
        for (name, count) in &other.personas {
            *self.personas.entry(name).or_default() += count;
        }
        for (mode, count) in &other.modes {
            *self.modes.entry(mode).or_default() += count;
        }
        self.window.merge(&other.window);
        self.struck.merge(&other.struck);
    }

    /// The figures, in order.
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row("runs", self.runs.to_string());
        row("lives", self.lives.to_string());
        row("operation boundaries that were crash points", format!("{} of {}", self.cuts, self.boundaries));
        row("operations of recoveries that were crash points, depth 2", self.in_recovery[0].to_string());
        row("operations of recoveries that were crash points, depth 3", self.in_recovery[1].to_string());
        row("distinct crash states, opened and compared", self.total().to_string());
        for (kind, count) in &self.states {
            row(&format!("  {kind}"), count.to_string());
        }
        row("  3+ threads committing, mixed modes, flush in flight", self.crowded.to_string());
        row("  within a recovery", self.recovering.to_string());
        row("  at a call in table/", self.in_table.to_string());
        row("  at a call in a backup", self.in_backup.to_string());
        row("  of a life in which memory was forgotten", self.forgetful.to_string());
        for (mode, count) in &self.modes {
            row(&format!("  a commit not durable yet in mode {mode}"), count.to_string());
        }
        for (name, count) in &self.personas {
            row(&format!("choices on {name}, images seen before included"), count.to_string());
        }
        row("opens", self.opened.to_string());
        row("refused where a medium broke its assumptions", self.detected.to_string());
        row("images seen before", self.repeated.to_string());
        row("tokens asked", self.tokens.to_string());
        row("backups opened and compared", self.backups.to_string());
        row("databases closed right after the open, and opened again", self.closed.to_string());
        row("snapshots taken meanwhile, compared", self.snapshots.to_string());
        row("fullest loss window, commits", self.window.commits.to_string());
        row("fullest loss window, bytes", self.window.bytes.to_string());
        row("fullest loss window, microseconds", self.window.micros.to_string());
        let Struck { failures, poisoned, settled_durable, settled_lost } = self.struck;
        if failures > 0 {
            row("failed fsyncs", failures.to_string());
            row("  that stopped the engine", poisoned.to_string());
            row("  commits in doubt, then Durable", settled_durable.to_string());
            row("  commits in doubt, then Lost", settled_lost.to_string());
        }
        rows
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().into_iter().try_for_each(|(name, value)| writeln!(f, "  {name:<60} {value:>16}"))
    }
}
