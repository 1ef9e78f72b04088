//! In place of `power` where there is no FUSE and no loop device.

use clap::Args;

use crate::output::{Done, Failure};

#[allow(dead_code, reason = "nobody reads what it is told where it cannot be done")]
#[path = "power/arguments.rs"]
mod arguments;

pub(crate) use arguments::PowerArguments;

#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {}

pub(crate) fn run(_: &super::Arguments, _: &PowerArguments) -> Done {
    Err(Failure::told("cannot cut power here: it takes Linux, for FUSE and loop devices"))
}

pub(crate) fn run_worker(_: &WorkerArguments) -> Done {
    Err(Failure::told("this is a part of --power, which takes Linux"))
}
