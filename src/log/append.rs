//! Taking a place in the log, and what a commit waits for before and after.

use std::time::Duration;

use super::buffer::Prepared;
use super::flush::Waited;
use super::shared::{Core, Shared};
use crate::words::clock::{self, Moment};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::plant::planted;
use crate::words::sync::Guard;
use crate::words::types::{CommitMode, Lsn};

/// How long a commit may wait for room and for its durability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    Forever,
    Until(Moment),
    Never,
}

impl Patience {
    pub(crate) fn lasting(time: Duration) -> Self {
        Patience::Until(clock::now().after(time))
    }

    fn deadline(self) -> Option<Moment> {
        match self {
            Patience::Until(moment) => Some(moment),
            Patience::Forever | Patience::Never => None,
        }
    }
}

/// Why a record has no place yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom {
    /// The incarnation has not begun.
    Begin,
    /// The loss budget is full.
    Budget,
    /// The next segment is not ready.
    Segment,
}

/// Whether the commit is acknowledged before it is durable, and so counts against the loss budget.
fn is_at_risk(mode: CommitMode) -> bool {
    mode != CommitMode::Sync
}

impl Shared {
    /// Takes a place in the log order for `record`, if there is room: copies it to the log buffer. Never waits.
    pub(crate) fn try_place(
        &self,
        record: &Prepared<'_>,
        mode: CommitMode,
    ) -> Result<std::result::Result<Lsn, NoRoom>> {
        let mut core = self.core.lock();
        if core.stopped {
            return Err(self.refusal());
        }
        if core.tail.segments.is_empty() {
            return Ok(Err(NoRoom::Begin));
        }
        let length = record.payload().len() as u64;
        let Ok(end) = core.tail.end_of(length) else { return Ok(Err(NoRoom::Segment)) };
        let bytes = end - core.tail.next;
        // Under the lock: a time from before a wait for it would make the window look shorter than it is.
        let at_risk_from = is_at_risk(mode).then(clock::now);
        if at_risk_from.is_some_and(|now| !self.admits(&mut core, bytes, now)) {
            return Ok(Err(NoRoom::Budget));
        }
        let Core { tail, buffer, .. } = &mut *core;
        let (lsn, bytes) = tail.place(record, buffer);
        if let Err(step) = self.positions.advance_appended(lsn) {
            self.stop_holding(&mut core, step.into());
            return Err(self.refusal());
        }
        if let Some(now) = at_risk_from {
            core.ledger.acknowledge(lsn, bytes, now);
            let delay = match mode {
                CommitMode::Within(delay) => delay,
                _ => self.settings.flush_interval,
            };
            let full = lsn - self.positions.durable().max(self.incarnations.begin()) >= self.settings.flush_bytes;
            self.make_due(&mut core, if full { now } else { now.after(delay) });
        }
        self.prepare_ahead(&mut core);
        self.stats.appended();
        Ok(Ok(Lsn::new(lsn)))
    }

    fn admits(&self, core: &mut Core, bytes: u64, now: Moment) -> bool {
        planted!("no-loss-budget") || core.ledger.admits(bytes, now) || {
            core.ledger.release(self.positions.durable());
            core.ledger.admits(bytes, now)
        }
    }

    /// Waits until what was missing may be there; the caller tries again. Called without any lock.
    pub(crate) fn wait_for_room(&self, missing: NoRoom, record: &Prepared<'_>, patience: Patience) -> Result<()> {
        let length = record.payload().len() as u64;
        if missing == NoRoom::Begin {
            return self.begin();
        }
        self.stats.stalled();
        let mut core = self.core.lock();
        if patience != Patience::Never {
            // It may work by now. Who does not wait for this attempt is told of the last one.
            core.prepare_error = None;
        }
        loop {
            let room = core.tail.end_of(length);
            let has_room = match (missing, room) {
                (NoRoom::Segment, room) => room.is_ok(),
                (_, Ok(end)) => {
                    let bytes = end - core.tail.next;
                    self.admits(&mut core, bytes, clock::now())
                }
                (_, Err(_)) => true,
            };
            if has_room || core.stopped {
                return Ok(());
            }
            if missing == NoRoom::Budget {
                self.make_due(&mut core, clock::now());
            } else {
                if let Some(error) = core.prepare_error.take() {
                    return Err(error);
                }
                self.prepare_more(&mut core);
            }
            self.wait_in(&mut core, missing, patience)?;
        }
    }

    fn wait_in(&self, core: &mut Guard<'_, Core>, missing: NoRoom, patience: Patience) -> Result<()> {
        let what = match missing {
            NoRoom::Budget => "the loss budget is full",
            NoRoom::Begin | NoRoom::Segment => "the next log segment is not ready",
        };
        match patience {
            Patience::Never => Err(Error::new(ErrorKind::WouldBlock, format!("{what}: try again, or wait"))),
            Patience::Until(deadline) if clock::now() >= deadline => Err(Error::new(
                ErrorKind::TimedOut,
                format!("{what}, and the time allowed is over: nothing was committed"),
            )),
            Patience::Until(_) | Patience::Forever => {
                self.room.wait_until(core, patience.deadline());
                Ok(())
            }
        }
    }

    /// Waits for what `mode` promises about the record at `lsn`, which has its place.
    pub(crate) fn fulfil(&self, lsn: Lsn, mode: CommitMode, patience: Patience) -> Result<()> {
        match mode {
            CommitMode::Sync if planted!("ack-before-fsync") => self.write_to(lsn.get()),
            CommitMode::Sync => self.wait_durable(lsn, patience),
            CommitMode::Written if planted!("ack-before-write") => Ok(()),
            CommitMode::Written => {
                self.write_to(lsn.get())?;
                // The device may have stalled the write call itself for longer than the window may last.
                if self.is_overdue() { self.wait_durable(lsn, patience) } else { Ok(()) }
            }
            CommitMode::Async | CommitMode::Within(_) => Ok(()),
        }
    }

    fn wait_durable(&self, lsn: Lsn, patience: Patience) -> Result<()> {
        let waited = match patience {
            Patience::Forever => return self.flush_to(lsn.get()),
            Patience::Until(deadline) => self.flush_until(lsn.get(), deadline)?,
            Patience::Never => self.flush_until(lsn.get(), clock::now())?,
        };
        match waited {
            Waited::Reached => Ok(()),
            Waited::TimedOut => {
                let message =
                    format!("the commit at LSN {lsn} is visible and not yet durable; its token tells when it is");
                Err(Error::new(ErrorKind::TimedOut, message).with_token(self.incarnations.token(lsn)))
            }
        }
    }

    fn is_overdue(&self) -> bool {
        let now = clock::now();
        let mut core = self.core.lock();
        core.ledger.release(self.positions.durable());
        let overdue = core.ledger.is_overdue(now);
        if !overdue {
            core.ledger.note(now);
        }
        overdue
    }
}
