//! Reading the log: a scan of what is durable, and a tail that follows it.

use std::sync::Arc;
use std::time::Duration;

use super::flush::Waited;
use super::reader::{FrameReader, SegmentInfo};
use super::shared::Shared;
use crate::format::frame::{Header, Kind};
use crate::format::verdict::FrameState;
use crate::words::clock;
use crate::words::error::{DamageCause, Error, ErrorKind, Result};
use crate::words::plant::planted;
use crate::words::types::Lsn;

/// One record of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Where it ends.
    pub lsn: Lsn,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// A position in the records of a log, moving forward.
#[derive(Debug)]
pub(crate) struct Cursor {
    shared: Arc<Shared>,
    /// End of the last record passed.
    position: u64,
    /// Records up to here are skipped.
    after: u64,
    open: Option<(SegmentInfo, FrameReader)>,
    /// The error that ended it.
    failed: Option<Error>,
}

impl Cursor {
    pub(crate) fn new(shared: &Arc<Shared>, after: Lsn) -> Result<Self> {
        let oldest = shared.lives.lock().history.oldest;
        if after < oldest && after != Lsn::ZERO {
            return Err(retired(oldest, after));
        }
        let after = after.max(oldest).get();
        Ok(Cursor { shared: Arc::clone(shared), position: 0, after, open: None, failed: None })
    }

    /// The next record that ends at or below `bound`. An error ends the cursor: it never skips what it cannot read.
    fn next(&mut self, bound: u64) -> Option<Result<Record>> {
        if self.failed.is_some() {
            return None;
        }
        let next = self.try_next(bound);
        self.failed = next.as_ref().err().cloned();
        next.transpose()
    }

    fn try_next(&mut self, bound: u64) -> Result<Option<Record>> {
        let mut partial: Option<Vec<u8>> = None;
        let begin = self.position;
        loop {
            let Some((start, header)) = self.next_frame(bound)? else {
                // A record is durable as a whole, so half of one above the bound is looked at again later.
                self.position = begin;
                return Ok(None);
            };
            self.position = header.lsn;
            let (info, reader) = self.open.as_mut().expect("a frame was read from it");
            let payload =
                reader.payload(&header).map_err(|error| Error::unreadable(&info.path, Lsn::new(start), error))?;
            let payload = match (header.kind, partial.take()) {
                (Kind::Full, _) => payload.to_vec(),
                (Kind::First, _) => {
                    partial = Some(payload.to_vec());
                    continue;
                }
                (kind, Some(mut record)) => {
                    record.extend_from_slice(payload);
                    if kind == Kind::Middle {
                        partial = Some(record);
                        continue;
                    }
                    record
                }
                // The rest of a record that began in a retired segment.
                (_, None) => continue,
            };
            if header.lsn > self.after {
                return Ok(Some(Record { lsn: Lsn::new(header.lsn), payload }));
            }
        }
    }

    /// The frame after the current position, unless it ends above `bound`.
    fn next_frame(&mut self, bound: u64) -> Result<Option<(u64, Header)>> {
        loop {
            if self.position >= bound {
                return Ok(None);
            }
            if let Some((info, reader)) = &mut self.open {
                let end = info.end.min(bound);
                let place = info.place(self.position);
                if let Some(start) = place
                    && self.position < end
                {
                    let mut examined = reader.examine(start);
                    if examined.state != FrameState::Valid {
                        // What was read ahead may be older than the frame.
                        reader.forget();
                        examined = reader.examine(start);
                    }
                    return match (examined.state, examined.header) {
                        (FrameState::Valid, Some(header)) if header.lsn <= bound => Ok(Some((start, header))),
                        (FrameState::Valid, _) => Ok(None),
                        _ => Err(match examined.error {
                            Some(error) => Error::unreadable(&info.path, Lsn::new(start), error),
                            None => Error::damaged(&info.path, Lsn::new(start), DamageCause::Rotten),
                        }),
                    };
                }
            }
            if !self.open_next(bound)? {
                return Ok(None);
            }
        }
    }

    /// Where to begin: the segment that holds `after`, or an earlier one if a record that ends above `after` begins
    /// there (`after` need not be the end of a record).
    fn first_segment(&self, bound: u64) -> Result<Option<SegmentInfo>> {
        let (candidates, next) = {
            let lives = self.shared.lives.lock();
            let index = lives.catalogue.partition_point(|info| info.end <= self.after);
            (lives.catalogue[..index].to_vec(), lives.catalogue.get(index).cloned())
        };
        let Some(mut first) = next else { return Ok(None) };
        for earlier in candidates.into_iter().rev() {
            if first.first_frame() >= bound || first.header.previous != earlier.base() {
                break;
            }
            let mut reader =
                FrameReader::open(&self.shared.place, &first).map_err(|error| self.not_open(&first, error))?;
            // What is not valid is met, and reported, when it is its turn.
            match reader.examine(first.first_frame()).header {
                Some(header) if header.kind == Kind::Middle => first = earlier,
                Some(header) if header.kind == Kind::Last && header.lsn > self.after => first = earlier,
                _ => break,
            }
        }
        Ok(Some(first))
    }

    /// Opens the segment after the current one; `false` if there is none below `bound`.
    fn open_next(&mut self, bound: u64) -> Result<bool> {
        let current = self.open.as_ref().map(|(info, _)| info.base());
        let passed = Lsn::new(if current.is_some() { self.position } else { self.after });
        let next = {
            let lives = self.shared.lives.lock();
            let oldest = lives.history.oldest;
            // The segments between are gone: to go on behind them would skip records without a word.
            if oldest > passed {
                return Err(retired(oldest, passed));
            }
            current.map(|base| lives.catalogue.iter().find(|info| info.base() > base).cloned())
        };
        let next = match next {
            Some(next) => next,
            None => self.first_segment(bound)?,
        };
        let Some(info) = next.filter(|info| info.first_frame() < bound) else { return Ok(false) };
        let sealed = info.end <= self.shared.positions.durable();
        let open = || -> std::io::Result<FrameReader> {
            let mut reader = FrameReader::open(&self.shared.place, &info)?;
            if sealed && self.shared.settings.mapped_reads {
                reader.use_mapping()?;
            }
            Ok(reader)
        };
        let reader = open().map_err(|error| self.not_open(&info, error))?;
        self.position = info.first_frame();
        self.open = Some((info, reader));
        Ok(true)
    }

    /// Why a segment that was in the catalogue a moment ago cannot be opened.
    fn not_open(&self, info: &SegmentInfo, error: std::io::Error) -> Error {
        let oldest = self.shared.lives.lock().history.oldest;
        if oldest.get() >= info.end && !planted!("race-retired-is-damage") {
            return retired(oldest, Lsn::new(self.position.max(self.after)));
        }
        Error::unreadable(&info.path, Lsn::new(info.base()), error)
    }
}

fn retired(oldest: Lsn, after: Lsn) -> Error {
    Error::new(ErrorKind::Retired, format!("records up to {oldest} were retired; {after} is below that"))
}

/// The records that were durable when the scan began, in order. After an error it ends.
#[derive(Debug)]
pub struct Scan {
    cursor: Cursor,
    bound: u64,
}

impl Scan {
    pub(crate) fn new(shared: &Arc<Shared>, after: Lsn) -> Result<Self> {
        Ok(Scan { cursor: Cursor::new(shared, after)?, bound: shared.positions.durable() })
    }
}

impl Iterator for Scan {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.bound)
    }
}

/// Follows the log: the records in order, each as soon as it is durable.
#[derive(Debug)]
pub struct Tail {
    cursor: Cursor,
    shared: Arc<Shared>,
}

impl Tail {
    pub(crate) fn new(shared: &Arc<Shared>, after: Lsn) -> Result<Self> {
        Ok(Tail { cursor: Cursor::new(shared, after)?, shared: Arc::clone(shared) })
    }

    /// The next durable record, waiting for it for at most `time`; `None` if there was none. It makes no flush due.
    ///
    /// # Errors
    /// Damage, after which every call fails the same way to be read; a closed or poisoned log, once everything durable was read.
    pub fn next_timeout(&mut self, time: Duration) -> Result<Option<Record>> {
        self.shared.check_process()?;
        let deadline = clock::now().after(time);
        loop {
            let durable = self.shared.positions.durable();
            if let Some(record) = self.cursor.next(durable) {
                return record.map(Some);
            }
            if let Some(error) = &self.cursor.failed {
                return Err(error.clone());
            }
            if self.is_over() && self.shared.positions.durable() == durable {
                return Err(self.shared.refusal());
            }
            match self.shared.watch_to(durable + 1, deadline) {
                Ok(Waited::TimedOut) => return Ok(None),
                // There is more to read, or the log is over: the next round tells.
                Ok(Waited::Reached) | Err(_) => {}
            }
        }
    }

    /// Whether nothing will become durable any more. A log that is being closed has a last flush to come.
    fn is_over(&self) -> bool {
        let positions = &self.shared.positions;
        let stopped = self.shared.core.lock().stopped;
        stopped && (self.shared.poisoned().is_some() || positions.durable() >= positions.appended())
    }
}
