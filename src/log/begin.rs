//! The life of an incarnation: its begin, its threads, its segments, its end.

use std::sync::Arc;

use super::failure::Refused;
use super::incarnations::Replacing;
use super::inner::LogInner;
use super::mark::Arming;
use super::threads::Job;
use crate::base::error::{Error, Result};
use crate::base::options::FIRST_SEGMENT_BYTES;
use crate::base::types::{Incarnation, Lsn};
use crate::format::history::{History, Life};
use crate::format::identity::Identity;
use crate::log::read::reader::SegmentInfo;
use crate::log::write::segment::Segment;
use crate::rt::entropy;
use crate::rt::sync::Receiver;

impl LogInner {
    /// Begins this open's incarnation, durably, before its first append (O1). Does nothing if it has begun.
    pub(crate) fn begin(&self) -> Result<()> {
        let begun = self.begin_with(&mut self.incarnations().replace());
        begun.map_err(|refused| refused.raise(self))
    }

    fn begin_with(&self, right: &mut Replacing<'_>) -> std::result::Result<(), Refused> {
        if self.incarnations().current().is_some() {
            return Ok(());
        }
        if self.appender().is_stopped() {
            return Err(self.refusal().into());
        }
        self.start_threads()?;
        let mut history = right.history();
        // Drawn once for this open. An attempt that was refused may have left a HISTORY that lists the life, or a segment
        // of it: another attempt of another nonce would leave a directory in which the two do not belong together.
        let life = match right.attempt.drawn {
            Some(life) => life,
            None => *right.attempt.drawn.insert(self.new_life(&history)?),
        };
        let Life { incarnation, key, begin, .. } = life;
        let identity = Identity { log_id: history.log_id, incarnation, key, base: begin.get() };
        let segment = match right.attempt.first_segment.clone() {
            Some(segment) => segment,
            None => {
                let created = Segment::create(&self.place, identity, self.segment_size(0), identity.base);
                let segment = created.map_err(|error| self.note_failure(error))?;
                Arc::clone(right.attempt.first_segment.insert(segment))
            }
        };
        if self.marker.begin(&self.place, history.log_id, incarnation, begin).is_err() {
            self.appender().stats.mark_failed();
        }
        history.lives.push(life);
        let saved = right.save(&self.place, history, |segments| segments.push(SegmentInfo::of(&segment)));
        saved.map_err(|error| self.note_failure(error))?;
        right.attempt.first_segment = None;
        right.begun(incarnation, begin);
        self.appender().begin(segment);
        Ok(())
    }

    fn new_life(&self, history: &History) -> Result<Life> {
        let random = || entropy::bytes::<8>().map(u64::from_le_bytes);
        let no_random = |error| Error::io("draw random numbers for", self.place.dir(), error);
        let number = history.next_number();
        let nonce = random().map_err(no_random)?;
        let key = random().map_err(no_random)?;
        Ok(Life { incarnation: Incarnation { number, nonce }, key, begin: history.next_begin(), end: None })
    }

    fn segment_size(&self, prepared: u32) -> u64 {
        let grown = FIRST_SEGMENT_BYTES.checked_shl(prepared.min(16)).unwrap_or(u64::MAX);
        grown.min(self.settings().segment_bytes)
    }

    /// Starts the background threads, which a log that is only read does not need.
    fn start_threads(&self) -> Result<()> {
        // A loom model has five threads at most, and itself starts those that it is about.
        if cfg!(loom) {
            return Ok(());
        }
        let failed = |error| Error::io("start a background thread for", self.place.dir(), error);
        self.threads.start(
            &self.appender().jobs,
            || self.start_thread("forelog-flush", |log| log.flusher.run()).map_err(failed),
            |jobs| self.start_thread("forelog-prepare", move |log| log.run_preparer(&jobs)).map_err(failed),
        )
    }

    /// The background thread that prepares segments, and writes the mark.
    fn run_preparer(&self, jobs: &Receiver<Job>) {
        while let Some(job) = jobs.recv() {
            match job {
                Job::Mark => self.write_mark(),
                Job::Segment => {
                    let prepared = self.prepare_segment().map_err(|refused| refused.raise(self));
                    if let Ok(segment) = &prepared {
                        self.incarnations().add(segment);
                    }
                    self.appender().segment_is(prepared);
                }
            }
        }
    }

    fn prepare_segment(&self) -> std::result::Result<Arc<Segment>, Refused> {
        let (last, prepared) = self.appender().last_segment().ok_or_else(|| self.refusal())?;
        self.check_segments().map_err(|error| self.note_failure(error))?;
        let identity = Identity { base: last.limit(), ..last.identity() };
        Segment::create(&self.place, identity, self.segment_size(prepared), last.base())
            .map_err(|error| self.note_failure(error))
    }

    fn write_mark(&self) {
        let appender = self.appender();
        let durable = appender.positions.durable();
        if let Err(error) = self.check_segments() {
            self.note_failure(error).raise(self);
        }
        // The end of the incarnation says more than a mark, and after a failure nothing is written any more.
        let written = if appender.is_stopped() { None } else { self.marker.write(Lsn::new(durable)) };
        let arming = match written {
            Some(Ok(())) => {
                appender.stats.marked();
                Arming::Idle
            }
            Some(Err(_)) => {
                appender.stats.mark_failed();
                Arming::Over
            }
            None => Arming::Over,
        };
        appender.mark_is(arming, durable);
    }
}
