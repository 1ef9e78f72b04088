//! Counters.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::types::Lsn;
use crate::log::write::budget::LossWindow;

/// What a log has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Records appended.
    pub appends: u64,
    /// Flushes completed. Several commits share one: compare with `appends`.
    pub flushes: u64,
    /// Fsyncs of segment files issued by them.
    pub fsyncs: u64,
    /// Write rounds to the segments.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Segments prepared.
    pub segments_prepared: u64,
    /// Times that the durable LSN was noted outside the segments, after the log had come to rest.
    pub marks: u64,
    /// Failures to do so. After one it is not tried again until the database is reopened; commits are not affected.
    pub mark_failures: u64,
    /// Commits that had to wait for room in the loss budget or for a segment.
    pub stalls: u64,
    /// The largest loss window at an acknowledgement so far, each figure on its own.
    pub largest_window: LossWindow,
    /// Everything in the log at or below this was let go.
    pub oldest: Lsn,
    /// Bytes of segments that only [retention](crate::Options::retain_log_bytes) keeps: tables have all that is in them.
    pub retained_bytes: u64,
    /// Times that these were let go for lack of room on the disk.
    pub retention_gave_way: u64,
    /// [Pins](crate::LogPin) that were dropped: they kept too much, or there was no room.
    pub log_pins_dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    appends: AtomicU64,
    flushes: AtomicU64,
    fsyncs: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    segments_prepared: AtomicU64,
    marks: AtomicU64,
    mark_failures: AtomicU64,
    stalls: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn appended(&self) {
        add(&self.appends, 1);
    }

    pub(crate) fn flushed(&self, fsyncs: u64) {
        add(&self.flushes, 1);
        add(&self.fsyncs, fsyncs);
    }

    pub(crate) fn wrote(&self, bytes: u64) {
        add(&self.writes, 1);
        add(&self.bytes_written, bytes);
    }

    pub(crate) fn prepared(&self) {
        add(&self.segments_prepared, 1);
    }

    pub(crate) fn marked(&self) {
        add(&self.marks, 1);
    }

    pub(crate) fn mark_failed(&self) {
        add(&self.mark_failures, 1);
    }

    pub(crate) fn stalled(&self) {
        add(&self.stalls, 1);
    }

    pub(crate) fn read(&self, largest_window: LossWindow) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appends: get(&self.appends),
            flushes: get(&self.flushes),
            fsyncs: get(&self.fsyncs),
            writes: get(&self.writes),
            bytes_written: get(&self.bytes_written),
            segments_prepared: get(&self.segments_prepared),
            marks: get(&self.marks),
            mark_failures: get(&self.mark_failures),
            stalls: get(&self.stalls),
            largest_window,
            ..Stats::default()
        }
    }
}
