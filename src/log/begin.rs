//! The begin of an incarnation, and of the threads that it needs.

use std::io;
use std::sync::Arc;

use super::failure::Refused;
use super::incarnations::Replacing;
use super::inner::LogInner;
use super::room::Short;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Incarnation;
use crate::format::history::{Entry, History};
use crate::format::identity::Identity;
use crate::format::segment::SegmentHeader;
use crate::log::read::reader::SegmentInfo;
use crate::log::write::buffer::Prepared;
use crate::log::write::segment::Segment;
use crate::rt::background::Task;
use crate::rt::entropy;

impl LogInner {
    /// [`LogInner::try_begin`] for a commit of `record`. If there is no room for it, that is asked for.
    pub(super) fn begin_for_commit(&self, record: &Prepared<'_>) -> Result<()> {
        let short = if record.may_use_spare { Short::Spare } else { Short::Refused };
        self.try_begin(short).map_err(|refused| refused.raise(self)).inspect_err(|error| {
            if error.kind() == ErrorKind::DiskFull {
                // No one waits for an answer: the commit can be tried again.
                self.ask_for_room();
            }
        })
    }

    /// Begins this open's incarnation, durably, before its first append (O1). Does nothing if it has begun.
    pub(super) fn try_begin(&self, short: Short) -> std::result::Result<(), Refused> {
        self.begin_with(&mut self.incarnations().replace(), short)
    }

    fn begin_with(&self, right: &mut Replacing<'_>, short: Short) -> std::result::Result<(), Refused> {
        if self.incarnations().current().is_some() {
            return Ok(());
        }
        if self.appender().is_stopped() {
            return Err(self.refusal().into());
        }
        self.start_threads()?;
        let mut history = right.history();
        // Drawn once for this open. A refused attempt may have left a HISTORY that lists the incarnation, or a segment of it:
        // an attempt with another nonce would leave a directory in which the two do not belong together.
        let entry = match right.attempt.drawn {
            Some(entry) => entry,
            None => *right.attempt.drawn.insert(self.new_entry(&history)?),
        };
        let Entry { incarnation, key, begin, .. } = entry;
        let identity = Identity { log_id: history.log_id, incarnation, key, base: begin.get() };
        let handle = self.place.handle();
        let is_ours = handle.check_lock().and_then(|()| self.refuse_foreign_history(right));
        is_ours.map_err(|error| self.note_failure(error))?;
        // That of a refused attempt may have been cleared away since.
        let is_there =
            |segment: &Arc<Segment>| handle.check_named(&**segment.file(), segment.path(), segment.size()).is_ok();
        let (segment, is_spare) = match right.attempt.first_segment.clone().filter(is_there) {
            Some(segment) => (segment, false),
            None => {
                let features = history.features_of_segments();
                let created = self.create_with_room((self.segment_size(0), None), short, |size| {
                    let header = SegmentHeader { identity, size, previous: identity.base, features };
                    Segment::create(&self.place, header)
                });
                let (segment, is_spare) = created.map_err(|error| self.note_failure(error))?;
                (Arc::clone(right.attempt.first_segment.insert(segment)), is_spare)
            }
        };
        if self.marker.begin(&self.place, history.log_id, incarnation, begin).is_err() {
            self.appender().stats.mark_failed();
        }
        history.entries.push(entry);
        let saved = right.save(&self.place, history, |segments| segments.push(SegmentInfo::of(&segment)));
        saved.map_err(|error| self.note_failure(error))?;
        right.attempt.first_segment = None;
        right.begun(incarnation, begin);
        self.appender().begin(segment, is_spare);
        Ok(())
    }

    fn new_entry(&self, history: &History) -> Result<Entry> {
        let random = || entropy::bytes::<8>().map(u64::from_le_bytes);
        let no_random = |error| Error::io("draw random numbers for", self.place.dir(), error);
        let number = history.next_number();
        let nonce = random().map_err(no_random)?;
        let key = random().map_err(no_random)?;
        Ok(Entry { incarnation: Incarnation { number, nonce }, key, begin: history.next_begin(), end: None })
    }

    /// Starts the background threads, which a log that is only read does not need. What an attempt has started that could
    /// not start both is left for the next one.
    fn start_threads(&self) -> Result<()> {
        // A loom model has five threads at most, and itself starts those that it is about.
        if cfg!(loom) {
            return Ok(());
        }
        let started = |started: Option<io::Result<()>>| {
            let failed = |error| Error::io("start a background thread for", self.place.dir(), error);
            started.ok_or_else(|| self.refusal())?.map_err(failed)
        };
        started(self.start_flusher())?;
        let jobs = Arc::clone(&self.appender().jobs);
        self.appender().jobs.take_with(|receiver| {
            started(self.start_once("forelog-prepare", jobs, move |log| log.run_preparer(&receiver)))
        })
    }
}

impl LogInner {
    /// The flusher's thread, if it does not run. A close stops the log, which has it return.
    pub(super) fn start_flusher(&self) -> Option<io::Result<()>> {
        if cfg!(loom) {
            Some(Ok(()))
        } else {
            self.start_once("forelog-flush", Arc::new(ToldByTheLog), |log| log.flusher.run())
        }
    }
}

/// A thread that returns once the log has stopped.
#[derive(Debug)]
struct ToldByTheLog;

impl Task for ToldByTheLog {
    fn end(&self) {}
}
