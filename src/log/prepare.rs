//! The thread that prepares segments and writes the mark, so that no commit waits for either.

use std::sync::Arc;

use super::failure::Refused;
use super::inner::LogInner;
use super::mark::Arming;
use super::room::Short;
use crate::base::error::ErrorKind;
use crate::base::options::FIRST_SEGMENT_BYTES;
use crate::base::types::Lsn;
use crate::format::identity::Identity;
use crate::format::segment::SegmentHeader;
use crate::log::write::jobs::Job;
use crate::log::write::segment::Segment;
use crate::rt::sync::Receiver;

impl LogInner {
    /// Does what it is asked for until the queue is closed.
    pub(super) fn run_preparer(&self, jobs: &Receiver<Job>) {
        while let Some(job) = jobs.recv() {
            match job {
                Job::Mark => self.write_mark(),
                Job::Look => {
                    // Another look comes with the mark.
                    self.look_at_files();
                }
                Job::Segment => self.next_segment(|| self.ask_for_room()),
                Job::SegmentAgain => self.next_segment(|| false),
            }
        }
    }

    /// Prepares a segment. If there is no room for it, and `ask` for it is heard, another try comes.
    fn next_segment(&self, ask: impl Fn() -> bool) {
        let prepared = self.prepare_segment().map_err(|refused| refused.raise(self));
        match &prepared {
            Ok((segment, _)) => self.incarnations().add(segment),
            Err(error) if error.kind() == ErrorKind::DiskFull && ask() => return,
            Err(_) => {}
        }
        self.appender().segment_is(prepared);
    }

    /// What could be done for room is done: the segment that was asked for is tried for once more.
    pub(crate) fn try_again_for_room(&self) {
        if self.appender().is_preparing() {
            self.appender().jobs.ask(Job::SegmentAgain);
        }
    }

    fn prepare_segment(&self) -> std::result::Result<(Arc<Segment>, bool), Refused> {
        // A close that this thread ran itself, in a waker, has given up the lock: the directory may be another engine's.
        if self.appender().is_stopped() {
            return Err(self.refusal().into());
        }
        let (last, prepared) = self.appender().last_segment().ok_or_else(|| self.refusal())?;
        self.check_segments().map_err(|error| self.note_failure(error))?;
        let identity = Identity { base: last.limit(), ..last.identity() };
        // Not those of an attempt to replace HISTORY that has not succeeded.
        let features = self.incarnations().look(|known| known.history.features_of_segments());
        let short = if self.appender().is_spare_wanted() { Short::Spare } else { Short::Refused };
        let created = self.create_with_room((self.segment_size(prepared), Some(&last)), short, |size| {
            let header = SegmentHeader { identity, size, previous: last.base(), features };
            Segment::create(&self.place, header)
        });
        created.map_err(|error| self.note_failure(error))
    }

    /// Stops the log if its files are not where it left them, and cannot be put back. Returns whether that is to be tried
    /// again.
    fn look_at_files(&self) -> bool {
        match self.check_files().and_then(|()| self.keep_history()) {
            Ok(is_there) => !is_there,
            Err(error) => {
                self.note_failure(error).raise(self);
                false
            }
        }
    }

    fn write_mark(&self) {
        let appender = self.appender();
        let durable = appender.positions.durable();
        let looks_again = self.look_at_files();
        // The end of the incarnation says more than a mark, and after a failure nothing is written any more.
        let written = if appender.is_stopped() { None } else { self.marker.write(Lsn::new(durable)) };
        match written {
            Some(Ok(())) => appender.stats.marked(),
            Some(Err(_)) => appender.stats.mark_failed(),
            None => {}
        }
        let arming = match () {
            () if appender.is_stopped() => Arming::Over,
            // Also if no commit comes.
            () if looks_again => Arming::Armed,
            // After a mark that failed, too: the files are looked at all the same.
            () => Arming::Idle,
        };
        appender.mark_is(arming, durable);
    }

    pub(super) fn segment_size(&self, prepared: u32) -> u64 {
        let grown = FIRST_SEGMENT_BYTES.checked_shl(prepared.min(16)).unwrap_or(u64::MAX);
        grown.min(self.settings().segment_bytes())
    }
}
