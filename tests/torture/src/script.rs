//! What a child process does with the database: one word on its command line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use forelog::log::LogOptions;
use forelog::{CommitMode, LossBudget, Options};

/// The mode, or the modes, in which a script commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Modes {
    One(CommitMode),
    /// All of them, in turns.
    Mixed,
}

impl Modes {
    /// As in the first word of a script.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Modes::One(mode) => MODES[mode_index(mode)].0,
            Modes::Mixed => "mixed",
        }
    }
}

pub(crate) const WITHIN: CommitMode = CommitMode::Within(Duration::from_millis(2));
/// Every mode, with its name in the ledger and on the command line.
pub(crate) const MODES: [(&str, CommitMode); 4] =
    [("sync", CommitMode::Sync), ("written", CommitMode::Written), ("async", CommitMode::Async), ("within", WITHIN)];

/// The place of a mode in [`MODES`].
pub(crate) fn mode_index(mode: CommitMode) -> usize {
    MODES.iter().position(|(_, listed)| *listed == mode).unwrap_or(0)
}

/// What is at risk at most: small, so that a run of a second meets it.
const BUDGET_COMMITS: u64 = 200;

/// The life of one child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Script {
    pub(crate) modes: Modes,
    /// Threads that commit.
    pub(crate) clients: u32,
    /// Transactions of each of them; `None`: until the process dies. With 0 the database is opened and closed.
    pub(crate) commits: Option<u32>,
    /// The size of a segment in bytes.
    pub(crate) segment: u64,
    /// On a bare log, which is retired from below while it grows.
    pub(crate) retiring: bool,
    /// With a checkpoint after every few commits of each thread.
    pub(crate) checkpoints: bool,
    /// With so little memory for records that each checkpoint has them forgotten, and reads go to tables.
    pub(crate) forgetful: bool,
    /// With a backup after every few commits of each thread.
    pub(crate) backups: bool,
    /// With each flush in one submission to io_uring.
    pub(crate) io_uring: bool,
}

impl Script {
    /// Elsewhere there is nothing to be asked for.
    pub(crate) const HAS_IO_URING: bool = cfg!(target_os = "linux");

    pub(crate) fn new(modes: Modes, clients: u32, commits: Option<u32>, segment: u64) -> Self {
        Script {
            modes,
            clients,
            commits,
            segment,
            retiring: false,
            checkpoints: false,
            forgetful: false,
            backups: false,
            io_uring: false,
        }
    }

    /// Opens and closes: a life that is nothing but recovery.
    pub(crate) fn recovery() -> Self {
        Script::new(Modes::One(CommitMode::Sync), 1, Some(0), 4096)
    }

    /// The same on a bare log.
    pub(crate) fn retiring(self) -> Self {
        Script { retiring: true, ..self }
    }

    /// The same with checkpoints.
    pub(crate) fn checkpoints(self) -> Self {
        Script { checkpoints: true, ..self }
    }

    /// The same with checkpoints, each of which has memory forgotten.
    pub(crate) fn forgetful(self) -> Self {
        Script { checkpoints: true, forgetful: true, ..self }
    }

    /// The same with backups.
    pub(crate) fn backups(self) -> Self {
        Script { backups: true, ..self }
    }

    /// The same with io_uring, where there is one.
    pub(crate) fn io_uring(self) -> Self {
        Script { io_uring: Self::HAS_IO_URING, ..self }
    }

    /// Whether a life of it has anything to lose.
    pub(crate) fn has_commits(&self) -> bool {
        self.commits != Some(0)
    }

    pub(crate) fn mode(&self, number: u32) -> CommitMode {
        match self.modes {
            Modes::One(mode) => mode,
            Modes::Mixed => MODES[number as usize % MODES.len()].1,
        }
    }

    /// How a child opens the database.
    pub(crate) fn options(&self) -> Options {
        let options = if self.forgetful { Options::new().records_bytes(0) } else { Options::new() };
        options
            .segment_bytes(self.segment)
            .flush_interval(Duration::from_millis(5))
            .loss_budget(self.budget())
            .commit_mode(self.mode(0))
            .io_uring(self.io_uring)
    }

    /// How a child opens a bare log.
    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions::new().segment_bytes(self.segment).io_uring(self.io_uring)
    }

    /// No crash may take more than this.
    pub(crate) fn budget(&self) -> LossBudget {
        LossBudget::default().max_commits(BUDGET_COMMITS)
    }
}

/// The ends of scripts that say more.
const RETIRING: &str = "-retiring";
const CHECKPOINTS: &str = "-checkpoints";
const FORGETFUL: &str = "-forgetful";
const BACKUPS: &str = "-backups";
const IO_URING: &str = "-uring";

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes = self.modes.name();
        match self.commits {
            Some(commits) => write!(f, "{modes}-{}x{commits}-{}", self.clients, self.segment),
            None => write!(f, "{modes}-{}xever-{}", self.clients, self.segment),
        }?;
        f.write_str(if self.retiring { RETIRING } else { "" })?;
        f.write_str(match self {
            Script { forgetful: true, .. } => FORGETFUL,
            Script { checkpoints: true, .. } => CHECKPOINTS,
            _ => "",
        })?;
        f.write_str(if self.backups { BACKUPS } else { "" })?;
        f.write_str(if self.io_uring { IO_URING } else { "" })
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let says = |text, end| str::strip_suffix(text, end).map_or((text, false), |text| (text, true));
            let (text, io_uring) = says(text, IO_URING);
            let (text, backups) = says(text, BACKUPS);
            let (text, forgetful) = says(text, FORGETFUL);
            let (text, checkpoints) = says(text, CHECKPOINTS);
            let checkpoints = checkpoints || forgetful;
            let (text, retiring) = says(text, RETIRING);
            let (modes, rest) = text.split_once('-')?;
            let (work, segment) = rest.split_once('-')?;
            let (clients, commits) = work.split_once('x')?;
            let modes = match MODES.iter().find(|(name, _)| *name == modes) {
                Some((_, mode)) => Modes::One(*mode),
                None if modes == "mixed" => Modes::Mixed,
                None => return None,
            };
            let commits = if commits == "ever" { None } else { Some(commits.parse().ok()?) };
            let script = Script::new(modes, clients.parse().ok()?, commits, segment.parse().ok()?);
            Some(Script { retiring, checkpoints, forgetful, backups, io_uring, ..script })
        };
        parse().ok_or_else(|| format!("'{text}' is no script: MODE-CLIENTSxCOMMITS-SEGMENT, as sync-1x6-4096"))
    }
}
