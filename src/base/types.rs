//! Positions, identities, modes and outcomes.

use std::fmt;
use std::time::Duration;

/// A position in the log: where a record's last frame ends.
///
/// LSNs only grow, across restarts too. They are byte positions, not counts: the difference of two LSNs is an upper
/// bound for the bytes between them, and there may be a gap between two incarnations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The position at `value` bytes from the begin of the log's endless space.
    pub const fn new(value: u64) -> Self {
        Lsn(value)
    }

    /// The position as a number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({:#x})", self.0)
    }
}

/// The random identity of a log, drawn when it is created and part of every checksum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// One writing incarnation of a log: from one open to its close or crash.
///
/// The number grows by one with each incarnation. The nonce is random: if two copies of a directory are both written to,
/// neither takes the other's incarnations for its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Incarnation {
    /// Counts the incarnations of this log, from 1.
    pub number: u64,
    /// Random, drawn when this incarnation began.
    pub nonce: u64,
}

impl Incarnation {
    /// Before the first one.
    pub(crate) const NONE: Incarnation = Incarnation { number: 0, nonce: 0 };
}

/// How durable a commit must be before the call returns. Modes mix freely on one engine.
///
/// As text it is `sync`, `written`, `async`, or `within:` and a time (`within:5ms`; the units are `ns`, `us`, `ms` and
/// `s`). It parses back; capitals do not matter.
///
/// ```
/// # fn main() -> Result<(), forelog::Error> {
/// use forelog::CommitMode;
/// use std::time::Duration;
/// let mode: CommitMode = "within:5ms".parse()?;
/// assert_eq!(mode, CommitMode::Within(Duration::from_millis(5)));
/// assert_eq!(mode.to_string(), "within:5ms");
/// # Ok(()) }
/// ```
///
/// # Values derived from a commit that a crash can take
///
/// A commit in a mode other than [`Sync`](CommitMode::Sync) is visible before it is durable, and a crash may take it.
/// Then the state is as if the commit had never been, and values that were derived from it **are derived again**: a
/// program that counts on from the largest id hands out the ids of the lost commits a second time, to others. Where an
/// id leaves the program (a reply, a file name, a message), commit it with `Sync`, or wait for its
/// [`Receipt`](crate::Receipt::wait), before it leaves; or draw ids that do not depend on the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum CommitMode {
    /// Returns once the commit is on the medium: it survives power loss.
    #[default]
    Sync,
    /// Returns once the commit is in the operating system's hands: it survives the death of the process. A flush
    /// that covers it is issued within the engine's flush interval.
    Written,
    /// Returns at once. A flush that covers it is issued within the engine's flush interval. Values derived from a
    /// commit that a crash takes may be handed out again: see above.
    Async,
    /// Returns at once. A flush that covers it is issued within the given time.
    Within(Duration),
}

/// The units of a time, each with its nanoseconds. The largest unit that leaves no remainder is used.
pub(super) const UNITS: [(&str, u128); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000), ("ns", 1)];

impl fmt::Display for CommitMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitMode::Sync => f.pad("sync"),
            CommitMode::Written => f.pad("written"),
            CommitMode::Async => f.pad("async"),
            CommitMode::Within(time) => {
                let nanos = time.as_nanos();
                let fits = UNITS.iter().find(|(_, unit)| nanos.is_multiple_of(*unit));
                let (name, unit) = fits.unwrap_or(&("ns", 1));
                f.pad(&format!("within:{}{name}", nanos / unit))
            }
        }
    }
}

/// The fate of the commit that a [`Token`] names. As text it is one word, such as `durable`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It is on the medium and part of the state.
    Durable,
    /// A crash took it. It will never come back. Values that were derived from it may be given to others: see
    /// [`CommitMode`].
    Lost,
    /// It took its place in the log and is not durable yet.
    Pending,
    /// A write or fsync failed while it was in flight. Reopening the database settles it.
    Indeterminate,
    /// The token is of another log, or of another branch of a copied directory.
    Foreign,
    /// No commit of that incarnation can have ended there: the position is at or before the incarnation's begin, beyond every
    /// position that was handed out, or not at a whole word. No record is read for the answer, so a position that no
    /// commit returned, inside a record for example, gets the answer of its place: durable up to the end of that incarnation,
    /// lost above it.
    Invalid,
    /// The history with the answer was shortened by an explicit call.
    Pruned,
}

impl Outcome {
    /// All of them.
    pub(super) const ALL: [Outcome; 7] = {
        use Outcome::*;
        [Durable, Lost, Pending, Indeterminate, Foreign, Invalid, Pruned]
    };
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Durable => "durable",
            Outcome::Lost => "lost",
            Outcome::Pending => "pending",
            Outcome::Indeterminate => "indeterminate",
            Outcome::Foreign => "foreign",
            Outcome::Invalid => "invalid",
            Outcome::Pruned => "pruned",
        })
    }
}

/// Names one commit for ever: a program can store it, send it, and ask about it after any number of crashes.
///
/// Prints as one word and parses back:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("forelog-doc-token-{}", std::process::id()));
/// # let _ = std::fs::remove_dir_all(&dir);
/// let engine = forelog::Engine::open(&dir)?;
/// let accounts = engine.create_keyspace("accounts")?;
/// let mut tx = engine.begin()?;
/// tx.put(&accounts, b"alice", b"90")?;
/// let token = tx.commit()?.token();
/// let parsed: forelog::Token = token.to_string().parse()?;
/// assert_eq!(engine.outcome(&parsed)?, forelog::Outcome::Durable);
/// # drop(engine); std::fs::remove_dir_all(&dir)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    /// The log that the commit went to.
    pub log_id: LogId,
    /// The incarnation of the log in which the commit was made.
    pub incarnation: Incarnation,
    /// The position of the commit.
    pub lsn: Lsn,
}

impl Token {
    pub(super) fn check(&self) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&self.log_id.0);
        hash.update(&self.incarnation.number.to_le_bytes());
        hash.update(&self.incarnation.nonce.to_le_bytes());
        hash.update(&self.lsn.get().to_le_bytes());
        hash.finalize()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "forelog-{}-{:x}-{:016x}-{:x}-{:08x}",
            self.log_id,
            self.incarnation.number,
            self.incarnation.nonce,
            self.lsn.get(),
            self.check()
        )
    }
}
