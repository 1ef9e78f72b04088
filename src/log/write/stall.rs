//! Why a commit has no place in the log yet, and how long it may wait for one.

use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::rt::clock::{self, Moment};

/// How long a commit may wait for room and for its durability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitLimit {
    Forever,
    Until(Moment),
    Never,
}

impl WaitLimit {
    pub(crate) fn lasting(time: Duration) -> Self {
        WaitLimit::Until(clock::now().after(time))
    }

    pub(super) fn deadline(self) -> Option<Moment> {
        match self {
            WaitLimit::Until(moment) => Some(moment),
            WaitLimit::Forever | WaitLimit::Never => None,
        }
    }
}

/// Why a record has no place yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stall {
    /// The incarnation has not begun.
    Begin,
    /// The loss budget is full.
    Budget,
    /// The next segment is not ready.
    Segment,
}

impl Stall {
    /// Until when a commit with this limit may wait; an error if it may not.
    pub(super) fn wait(self, limit: WaitLimit) -> Result<Option<Moment>> {
        let what = match self {
            Stall::Budget => "the loss budget is full",
            Stall::Begin | Stall::Segment => "the next log segment is not ready",
        };
        match limit {
            WaitLimit::Never => Err(Error::new(ErrorKind::WouldBlock, format!("{what}: try again, or wait"))),
            WaitLimit::Until(deadline) if clock::now() >= deadline => Err(Error::new(
                ErrorKind::TimedOut,
                format!("{what}, and the time allowed is over: nothing was committed"),
            )),
            WaitLimit::Until(_) | WaitLimit::Forever => Ok(limit.deadline()),
        }
    }
}
