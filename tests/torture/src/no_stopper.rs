//! Where there is no ptrace as we use it: random kills only.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::process::{ChildStdout, Command};

use super::fate::{Call, Fate};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hit {
    pub(super) call: Call,
    pub(super) target: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) hit: Option<Hit>,
    pub(super) calls: u64,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    _never: Infallible,
}

pub(super) fn run(_: &mut Command, _: Fate, _: impl FnOnce(ChildStdout, u32)) -> io::Result<Seen> {
    Err(unsupported())
}

pub(super) fn stop_at_calls() -> io::Result<()> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "processes can be stopped at their system calls on Linux only")
}
