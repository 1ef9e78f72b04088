//! What the examples share that run the `forelog` command and kill it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The `forelog` to try: the one that was asked for, or the one built beside this example.
pub(crate) fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FORELOG_BIN") {
        return Ok(path.into());
    }
    let example = std::env::current_exe()?;
    let beside = example.ancestors().nth(2).map(|target| target.join("forelog"));
    match beside.filter(|path| path.exists()) {
        Some(path) => Ok(path),
        None => Err("build the program first: cargo build --features cli (with --release if this is)".into()),
    }
}

pub(crate) fn check(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// An import that prints how many rows are acknowledged.
#[derive(Debug)]
pub(crate) struct Importing {
    pub(crate) child: Child,
    acks: BufReader<ChildStdout>,
    acknowledged: Option<u64>,
}

/// How an import ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// The rows that it acknowledged last, with those of earlier runs.
    pub(crate) acknowledged: Option<u64>,
    pub(crate) was_killed: bool,
}

impl Importing {
    /// Starts a command that prints acknowledgements.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let acks = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Importing { child, acks, acknowledged: None })
    }

    /// Waits for the next acknowledgement. `None` when there will be no more.
    pub(crate) fn next(&mut self) -> Result<Option<u64>> {
        let mut line = String::new();
        self.acks.read_line(&mut line)?;
        // A line that a kill has cut acknowledges nothing, and the last line is the summary.
        let acknowledged = line.strip_suffix('\n').and_then(|line| line.parse().ok());
        self.acknowledged = acknowledged.or(self.acknowledged);
        Ok(acknowledged)
    }

    /// Kills it with SIGKILL, or waits for its end.
    pub(crate) fn end(mut self, is_to_be_killed: bool) -> Result<Ended> {
        if is_to_be_killed {
            self.child.kill()?;
        }
        while self.next()?.is_some() {}
        let status = self.child.wait()?;
        let was_killed = status.code().is_none();
        check(was_killed || status.success(), "the import failed by itself")?;
        Ok(Ended { acknowledged: self.acknowledged, was_killed })
    }
}

/// The steps of SplitMix64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`, which is much smaller than 2^64.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }
}

pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
