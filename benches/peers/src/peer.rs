//! What every peer has to offer, and what is said of it.

use std::path::Path;

use crate::common::KEY_BYTES;
use crate::common::awaited::Awaited;
use crate::workload::Commits;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// When a commit returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It is on the medium.
    Sync,
    /// It is in the operating system's hands.
    Written,
    /// It has its place: the weakest the peer offers with its log switched on.
    Async,
}

/// What kind of thing is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// The disk without an engine: what the others are measured against.
    Raw,
    /// Keys and values that can be read back.
    Engine,
    /// A log, without an index.
    Log,
    /// A server of its own, spoken to over a socket.
    Outside,
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Commits in this mode.
    Commits(Mode),
    /// Commits of every mode, side by side.
    Mixed,
    /// As many commits as it takes in the log, and no checkpoint that would shorten it; to be opened again with the
    /// same purpose.
    LongLog,
    /// A load in large transactions, or reads of what a process left that loaded and was killed.
    Reads,
    /// Data that outgrow memory: `Written` commits, deletions and reads of a process that may use so many bytes of memory,
    /// the page cache of its files among them.
    Limited { memory: u64 },
}

/// How many bytes each part of an engine is given of the memory of its process, so that half is left for the page cache
/// and for what no option limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// For an engine with one limit for everything.
    pub whole: u64,
    /// What is read.
    pub cache: u64,
    /// What was written and is in no table yet.
    pub writes: u64,
}

impl Shares {
    pub const fn of(memory: u64) -> Shares {
        Shares { whole: memory / 2, cache: memory / 8 * 3, writes: memory / 8 }
    }
}

impl Purpose {
    /// The mode of the commits, where all are in one.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Purpose::Commits(mode) => Some(mode),
            Purpose::Mixed => None,
            Purpose::LongLog | Purpose::Reads => Some(Mode::Async),
            Purpose::Limited { .. } => Some(Mode::Written),
        }
    }
}

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub dir: &'a Path,
    pub purpose: Purpose,
}

/// One write of a transaction.
pub type Put<'a> = ([u8; KEY_BYTES], &'a [u8]);

/// An open store, shared by all threads.
pub trait Store: Send + Sync {
    /// What one thread commits with.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// What one thread reads with, over the state as of now.
    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Err("reads nothing".into())
    }

    /// Hands everything committed to the operating system at least.
    fn flush(&self) -> Result<()>;

    /// Keeps commits in flight, awaited from one thread, until `enough` says so of those that are durable.
    fn keep_in_flight(&self, _commits: usize, _enough: &mut dyn FnMut(usize) -> bool) -> Result<Awaited> {
        Err("awaits nothing".into())
    }

    /// For a peer that comes with a driver of its own: commits for so many seconds.
    fn drive(&self, _commits: &Commits, _seconds: f64) -> Option<Result<Run>> {
        None
    }
}

/// Operations that were timed.
pub struct Run {
    pub operations: u64,
    pub seconds: f64,
    /// Nanoseconds of single operations, all or a sample of them.
    pub times: Vec<u64>,
}

pub trait Session {
    /// Commits one transaction. `mode` is the one the store was opened for, unless it was opened for several.
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()>;

    /// Commits one transaction that deletes these keys.
    fn delete(&mut self, _keys: &[[u8; KEY_BYTES]], _mode: Mode) -> Result<()> {
        Err("deletes nothing".into())
    }
}

pub trait Reader {
    /// The length of the key's value.
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>>;

    /// Visits all keys with their values in order. Returns their number.
    fn scan(&mut self) -> Result<u64> {
        self.scan_until(&mut |_| false)
    }

    /// As [`Reader::scan`], and ends early if `is_enough` says so of the number of keys visited. It is asked at each
    /// multiple of [`ASK_EACH`].
    fn scan_until(&mut self, _is_enough: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        Err("scans all keys at once".into())
    }
}

/// Seldom enough that a scan is not slower by it.
pub const ASK_EACH: u64 = 1024;

/// What a peer can do besides commits.
#[derive(Clone, Copy, Default, Debug)]
pub struct Abilities {
    /// Commits of several modes in one open store.
    pub mixed: bool,
    /// Durable commits that are awaited instead of blocked on, without a runtime.
    pub awaited: bool,
    /// Has a log that is replayed when it is opened after a crash.
    pub replays: bool,
}

/// What a read sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Reads {
    /// A thread takes one snapshot, and all its point reads are of it; a scan takes one.
    OneSnapshot,
    /// No snapshot: each read sees what is there when it comes.
    Latest,
}

impl Reads {
    /// In words, for scans or for point reads.
    pub fn told(self, scans: bool) -> &'static str {
        match self {
            Reads::OneSnapshot if scans => "one snapshot a scan",
            Reads::OneSnapshot => "one snapshot for all reads of a thread",
            Reads::Latest => "no snapshot: the latest state",
        }
    }
}

/// One line of the comparison.
pub struct Peer {
    pub name: &'static str,
    pub kind: Kind,
    /// The crate, whose version is reported.
    pub package: Option<&'static str>,
    /// How each mode is configured. `None` where the peer has no such mode.
    pub sync: Option<&'static str>,
    pub written: Option<&'static str>,
    pub asynchronous: Option<&'static str>,
    pub can: Abilities,
    /// Which state a thread's reads see, so whether each of them pays for a snapshot of its own.
    pub reads: Option<Reads>,
    /// What else is set, and what the peer's own documentation advises.
    pub advice: &'static str,
    /// How it is told to stay within the memory of [`Purpose::Limited`]. `None` for a peer that is not measured so.
    pub limited: Option<fn(Shares) -> String>,
    /// The version of what is not a crate, or what to install.
    pub installed: fn() -> Result<String>,
    pub open: fn(&Setting) -> Result<Box<dyn Store>>,
}

impl Peer {
    pub fn configuration(&self, mode: Mode) -> Option<&'static str> {
        match mode {
            Mode::Sync => self.sync,
            Mode::Written => self.written,
            Mode::Async => self.asynchronous,
        }
    }

    /// The version that was built or is installed, or what to install.
    pub fn version(&self) -> Result<String> {
        match self.package {
            Some(package) => Ok(format!("{package} {}", locked_version(package).unwrap_or("of the source"))),
            None => (self.installed)(),
        }
    }
}

/// For peers that are built in.
pub fn built_in() -> Result<String> {
    Ok("built in".to_owned())
}

/// The version that the lock file names.
fn locked_version(package: &str) -> Option<&'static str> {
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| line.strip_prefix("name = \"").and_then(|name| name.strip_suffix('"')) == Some(package))?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}
