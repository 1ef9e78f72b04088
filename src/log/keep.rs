//! HISTORY against what others do to it while the log is open. Without it no open takes the log, so one that is gone is
//! written again: the open log knows all of it. One that is another's is left as it is, and stops the log: someone
//! restores a copy over the open database.

use super::incarnations::Replacing;
use super::inner::LogInner;
use crate::base::error::{Error, ErrorKind, Result};
use crate::format::history::{FILE_NAME, History};
use crate::log::open::directory::read_history;

/// How often in a row a HISTORY that is gone may fail to be written before the log stops. It is tried about once a second.
const REPAIRS: u32 = 3;

impl LogInner {
    /// Refuses if HISTORY, or any segment, also one that was left long ago, is not there in its length.
    pub(crate) fn check_whole(&self) -> Result<()> {
        let (segments, length) =
            self.incarnations().look(|known| (known.segments.clone(), known.history.encoded_len()));
        // What is only retained is nobody's need.
        let known = self.retention.retained().known.get();
        let needed = || segments.iter().filter(|info| info.end > known);
        needed().try_for_each(|info| self.handle().check_there(&info.path, info.length))?;
        self.handle().check_there(&self.place.path(FILE_NAME), length)?;
        self.check_history().unwrap_or(Ok(()))
    }

    /// Whether HISTORY is the file that this open has written; `None` if it has written none.
    fn check_history(&self) -> Option<Result<()>> {
        let saved = self.incarnations().look(|known| known.saved.clone());
        saved.map(|saved| self.place.check_saved(&saved))
    }

    /// Refuses to replace HISTORY if it is another's.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`].
    pub(super) fn refuse_foreign_history(&self, right: &Replacing<'_>) -> Result<()> {
        let checked = self.check_history();
        if matches!(checked, Some(Ok(()))) {
            return Ok(());
        }
        let foreign =
            || self.handle().removed(&self.place.path(FILE_NAME), "was replaced by that of another time or database,");
        // A file that was there before this open wrote one is its owner's to make unreadable.
        let is_another = checked.is_some();
        let is_forbidden =
            |error: &Error| error.io_error().is_some_and(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied);
        match read_history(&self.place) {
            Ok(found) if right.is_own(&found) => Ok(()),
            Ok(_) => Err(foreign()),
            Err(error) if error.kind() == ErrorKind::Unsupported || (is_another && is_forbidden(&error)) => {
                Err(foreign().with_source(error))
            }
            // None is there, or it says nothing.
            Err(_) => Ok(()),
        }
    }

    /// Writes HISTORY again if it was removed or cut. Returns whether it is there; if not, it is to be tried again.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`] if it is another's, or could not be written a few times in a row.
    pub(super) fn keep_history(&self) -> Result<bool> {
        // While it is being replaced, who does that sees to it; and to wait would keep commits waiting.
        if self.incarnations().look(|known| known.is_saving) || self.check_history().is_none_or(|there| there.is_ok()) {
            return Ok(true);
        }
        let mut right = self.incarnations().replace();
        let Some(Err(gone)) = self.check_history() else { return Ok(true) };
        if self.appender().is_stopped() {
            return Ok(true);
        }
        self.refuse_foreign_history(&right)?;
        let history = right.history();
        let Err(error) = right.save(&self.place, history, |_| ()) else { return Ok(true) };
        right.attempt.refused_repairs += 1;
        // A full disk may have room in a moment, and a close would write it, too.
        let may_be_tried_again = right.attempt.refused_repairs < REPAIRS && self.place.disk().failure().is_none();
        if may_be_tried_again { Ok(false) } else { Err(gone.with_source(error)) }
    }
}

impl Replacing<'_> {
    /// Whether this open has written `found`, in an attempt that failed afterwards, or found it.
    fn is_own(&self, found: &History) -> bool {
        let known = self.history();
        let is_own = match found.entries.last() {
            // All of it may have been pruned.
            None => known.entries.is_empty() || found.first_number == known.next_number(),
            Some(last) => {
                let open = self.attempt.drawn.map(|drawn| (drawn.incarnation, None));
                let listed = known.entries.last().map(|entry| (entry.incarnation, entry.end));
                [open, listed].into_iter().flatten().any(|own| own == (last.incarnation, last.end))
            }
        };
        found.log_id == known.log_id && is_own
    }
}
