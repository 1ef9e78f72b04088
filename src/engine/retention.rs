//! The log behind the tables, as far as somebody wants to keep it (`table/RETENTION.md`).

use super::Engine;
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::types::Token;
use crate::log::LogPin;

impl Engine {
    /// Retains the log behind the commit that `token` names, until the pin is dropped or the engine is closed: for a backup that is
    /// to be brought up to a moment ([`Engine::restore_to`]) while it is still being copied elsewhere, for example. It is not kept
    /// over a restart: [`Options::retain_log_bytes`](crate::Options::retain_log_bytes) is.
    ///
    /// A pin that keeps more than [`retain_pinned_bytes`](crate::Options::retain_pinned_bytes) is dropped, so that one that was
    /// forgotten does not fill the disk; so are all if the disk has no room for a commit. [`LogPin::is_held`] tells, and
    /// [`Stats::log_pins_dropped`](crate::Stats::log_pins_dropped).
    ///
    /// # Errors
    /// [`ErrorKind::Retired`] if a part of that log is gone; [`ErrorKind::InvalidInput`] if `token` names no commit of this
    /// database that is kept; [`ErrorKind::Closed`], [`ErrorKind::Forked`].
    pub fn retain_from(&self, token: &Token) -> Result<LogPin> {
        self.pipeline().check_open()?;
        self.pipeline().log.retain_after(token)
    }
}
