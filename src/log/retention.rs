//! Segments that stay though tables have all that is in them: how many, how long, and when they give way
//! (`table/RETENTION.md`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::inner::LogInner;
use super::pins::Retention;
use super::retained::{Held, RetainedStats};
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::{Error, Result};
use crate::base::types::{Lsn, Outcome, Token};
use crate::disk::Access;
use crate::log::read::reader::SegmentInfo;
use crate::log::read::record_end::retired;
use crate::rt::clock;

/// Retains the log behind a commit until it is dropped: see [`Engine::retain_from`](crate::Engine::retain_from).
#[must_use = "dropped at once it retains nothing"]
pub struct LogPin {
    held: Arc<Held>,
    retention: Arc<Retention>,
}

impl LogPin {
    /// What was committed after this stays in the log.
    pub fn lsn(&self) -> Lsn {
        self.held.at
    }

    /// Whether it does. Once `false` it remains so: the pin kept more than
    /// [`retain_pinned_bytes`](crate::Options::retain_pinned_bytes), or the disk was full.
    pub fn is_held(&self) -> bool {
        self.held.is_held.load(Ordering::Acquire)
    }
}

impl fmt::Debug for LogPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogPin").field("lsn", &self.lsn()).field("is_held", &self.is_held()).finish()
    }
}

impl Drop for LogPin {
    fn drop(&mut self) {
        // In a forked child another thread may hold the lock for ever; the pin is its parent's.
        if self.retention.is_of_this_process() {
            self.retention.retained().pins.retain(|held| !Arc::ptr_eq(held, &self.held));
        }
    }
}

/// How much of what is retained is let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LetGo {
    /// What is too old or too much by now.
    Due,
    /// All: the disk has no room for more log.
    All,
}

impl LogInner {
    /// Retains what was committed after `token`.
    ///
    /// # Errors
    /// [`ErrorKind::Retired`] if some of it is gone; [`ErrorKind::InvalidInput`] if it is no commit of this log.
    pub(crate) fn retain_after(&self, token: &Token) -> Result<LogPin> {
        let outcome = self.outcome(token)?;
        if !matches!(outcome, Outcome::Durable | Outcome::Pending) {
            let message = format!("{token} is {outcome}: the log is retained behind a commit that it has");
            return Err(Error::invalid_input(message));
        }
        self.retain_at(token.lsn)
    }

    /// Retains what was committed after a position of this log.
    ///
    /// # Errors
    /// [`ErrorKind::Retired`] if some of it is gone.
    pub(crate) fn retain_at(&self, lsn: Lsn) -> Result<LogPin> {
        let held = Arc::new(Held { at: lsn, is_held: AtomicBool::new(true) });
        // Under one lock with a retirement's look at the pins: none is overlooked.
        let gone = self.retention.unless_gone(lsn, || self.retention.retained().pins.push(Arc::clone(&held)));
        gone.map_err(|gone| retired(gone, lsn))?;
        Ok(LogPin { held, retention: Arc::clone(&self.retention) })
    }

    /// What of the log up to `up_to`, all of which tables have, may go. Pins that keep too much are dropped.
    pub(super) fn not_retained(&self, up_to: Lsn) -> Lsn {
        let retain = &self.settings().retain;
        let (segments, oldest) = self.incarnations().look(|known| {
            let below = known.segments.iter().take_while(|info| info.end <= up_to.get());
            (below.cloned().collect::<Vec<_>>(), known.oldest)
        });
        let is_kept_as_found = retain.as_found && self.retention.retained().is_found;
        let is_kept = |info: &SegmentInfo, bytes: u64| {
            let fits = retain.bytes.is_none_or(|most| bytes <= most);
            let is_young = retain.age.is_none_or(|most| self.age(info) <= most);
            is_kept_as_found || ((retain.bytes.is_some() || retain.age.is_some()) && fits && is_young)
        };
        let (mut may_go, mut bytes) = (up_to, 0_u64);
        // From the newest on: what is retained has no hole.
        let mut is_retained = true;
        for info in segments.iter().rev() {
            bytes = bytes.saturating_add(info.length);
            if bytes > retain.pinned_bytes {
                self.retention.retained().drop_pins_on(info);
            }
            is_retained = is_retained && is_kept(info, bytes);
            if is_retained {
                may_go = Lsn::new(info.base());
            }
        }
        // Never back: what is gone is gone.
        may_go.max(oldest.min(up_to))
    }

    /// How long ago the segment was written to last.
    fn age(&self, info: &SegmentInfo) -> Duration {
        let now = clock::now();
        if let Some((at, age)) = self.retention.retained().ages.get(&info.base()) {
            return age.saturating_add(now.since(*at));
        }
        // Where no file system tells it, from now on.
        let told = self.place.open(&info.path, Access::Read).and_then(|file| file.age());
        let age = told.ok().flatten().unwrap_or_default();
        self.retention.retained().ages.insert(info.base(), (now, age));
        age
    }

    /// Lets go of what is retained. Nothing needs it, so no MANIFEST has to say so first.
    ///
    /// # Errors
    /// As of a checkpoint that removes segments.
    pub(crate) fn let_go(&self, how: LetGo, is_there: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut right = self.retention.retire();
        let known = self.retention.retained().known;
        let up_to = match how {
            LetGo::Due => self.not_retained(known),
            LetGo::All => known,
        };
        if up_to <= self.incarnations().oldest() {
            return Ok(());
        }
        self.check_ours(is_there)?;
        if how == LetGo::All {
            self.retention.retained().give_way();
        }
        let oldest = right.announce(up_to);
        let gone = self.incarnations().retired_by_tables(oldest);
        right.remove(gone.into_iter().map(|info| info.path), &self.place)
    }

    /// When the next segment becomes too old, at the earliest; `None` if none does by itself.
    pub(crate) fn next_too_old(&self) -> Option<Duration> {
        let most = self.settings().retain.age?;
        let retained = self.retention.retained();
        let first = self.incarnations().look(|known| {
            known.segments.first().filter(|info| info.end <= retained.known.get()).map(SegmentInfo::base)
        })?;
        let (at, age) = retained.ages.get(&first)?;
        Some(most.saturating_sub(age.saturating_add(clock::now().since(*at))).saturating_add(Duration::from_millis(1)))
    }

    /// Bytes of segments that are retained.
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.retained_stats().bytes
    }

    pub(super) fn retained_stats(&self) -> RetainedStats {
        let (known, gave_way, pins_dropped) = {
            let retained = self.retention.retained();
            (retained.known.get(), retained.gave_way, retained.pins_dropped)
        };
        let (bytes, from) = self.incarnations().look(|log| {
            let below = log.segments.iter().take_while(|info| info.end <= known);
            (below.map(|info| info.length).sum(), log.oldest)
        });
        RetainedStats { bytes, from, gave_way, pins_dropped }
    }
}
