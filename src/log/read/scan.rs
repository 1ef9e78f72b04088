//! Reading the log: a scan of what is durable, and a tail that follows it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::reader::SegmentInfo;
use super::record_end::{Position, RecordEnd, retired};
use super::walk::{Frames, Piece, Records};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::types::{Lsn, Token};
use crate::format::frame::Header;
use crate::log::inner::LogInner;
use crate::log::write::waiters::Waited;
use crate::rt::clock;

/// One record of the log.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Where it ends.
    pub lsn: Lsn,
    /// Its name for ever: a reader that keeps it can go on from here after any number of restarts.
    pub token: Token,
    /// What was appended.
    pub payload: Vec<u8>,
    /// Apart from `token`, which a user may change.
    end: RecordEnd,
}

impl Record {
    /// Where it ends, to read on from or to retire up to without a read.
    pub fn end(&self) -> RecordEnd {
        self.end
    }
}

/// Its place and its size: what is in it is the user's.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { lsn, payload, .. } = self;
        f.debug_struct("Record").field("lsn", lsn).field("bytes", &payload.len()).finish()
    }
}

/// A position in the records of a log, moving forward.
pub(crate) struct Cursor {
    log: Arc<LogInner>,
    /// End of the last record passed.
    position: u64,
    open: Option<Frames>,
    /// The error that ended it.
    failed: Option<Error>,
}

impl Cursor {
    pub(crate) fn new(log: &Arc<LogInner>, after: Position) -> Result<Self> {
        let position = log.resolve(after)?.get();
        Ok(Cursor { log: Arc::clone(log), position, open: None, failed: None })
    }

    /// The end of the last record passed.
    pub(crate) fn position(&self) -> Lsn {
        Lsn::new(self.position)
    }

    /// The next record that ends at or below `bound`. An error ends the cursor: it never skips what it cannot read. Only
    /// what the operating system refused, for want of descriptors for example, is tried again by the next call.
    pub(crate) fn next(&mut self, bound: u64) -> Option<Result<Record>> {
        if self.failed.is_some() {
            return None;
        }
        let begin = self.position;
        let next = self.try_next(bound);
        if let Err(error) = &next {
            if error.kind() == ErrorKind::Io {
                (self.position, self.open) = (begin, None);
            } else {
                self.failed = Some(error.clone());
            }
        }
        next.transpose()
    }

    fn try_next(&mut self, bound: u64) -> Result<Option<Record>> {
        self.log.check_process()?;
        let mut records = Records::default();
        let begin = self.position;
        loop {
            let Some((start, header)) = self.next_frame(bound)? else {
                // A record is durable as a whole, so half of one above the bound is looked at again later.
                self.position = begin;
                return Ok(None);
            };
            self.position = header.lsn;
            let frames = self.open.as_mut().expect("a frame was read from it");
            let payload = match records.add(start, header.kind, frames.payload(&header)?) {
                Piece::GoesOn => continue,
                Piece::Record { payload, .. } => Some(payload.into_owned()),
                Piece::Headless => None,
            };
            let info = frames.info();
            // Reading begins at the end of a record, so the frames of each record come from its first one on.
            let Some(payload) = payload else {
                return Err(Error::damaged(&info.path, Lsn::new(start), DamageCause::Impossible));
            };
            let lsn = Lsn::new(header.lsn);
            let incarnation = info.header.identity.incarnation;
            let token = Token { log_id: self.log.incarnations().log_id(), incarnation, lsn };
            return Ok(Some(Record { lsn, token, payload, end: RecordEnd::of(token) }));
        }
    }

    /// The frame after the current position, unless it ends above `bound`.
    fn next_frame(&mut self, bound: u64) -> Result<Option<(u64, Header)>> {
        loop {
            if self.position >= bound {
                return Ok(None);
            }
            if let Some(frames) = &mut self.open {
                let end = frames.info().end.min(bound);
                frames.seek(self.position);
                if let Some(mut frame) = frames.next(end) {
                    if frame.whole().is_none() {
                        // What was read ahead may be older than the frame.
                        frames.forget();
                        frame = frames.at(frame.start);
                    }
                    return match frame.whole() {
                        Some(header) if header.lsn <= bound => Ok(Some((frame.start, *header))),
                        Some(_) => Ok(None),
                        None => Err(frame.not_whole(frames.info(), DamageCause::Rotten)),
                    };
                }
            }
            if !self.open_next(bound)? {
                return Ok(None);
            }
        }
    }

    /// Opens the segment after the current one, or the first one that ends above the position; `false` if there is none
    /// below `bound`.
    fn open_next(&mut self, bound: u64) -> Result<bool> {
        let current = self.open.as_ref().map(|frames| frames.info().base());
        let passed = Lsn::new(self.position);
        let next = self.log.incarnations().look(|known| {
            let oldest = known.oldest;
            // The segments between are gone: to go on behind them would skip records without a word.
            if oldest > passed {
                return Err(retired(oldest, passed));
            }
            let index = match current {
                Some(base) => known.segments.partition_point(|info| info.base() <= base),
                None => known.segments.partition_point(|info| info.end <= passed.get()),
            };
            Ok(known.segments.get(index).cloned())
        })?;
        let Some(info) = next.filter(|info| info.first_frame() < bound) else { return Ok(false) };
        let sealed = info.end <= self.log.positions().durable();
        let open = || -> std::io::Result<Frames> {
            let mut frames = Frames::open(&self.log.place, &info)?;
            if sealed && self.log.settings().mapped_reads {
                frames.use_mapping()?;
            }
            Ok(frames)
        };
        let frames = open().map_err(|error| self.not_open(&info, error))?;
        self.position = self.position.max(info.first_frame());
        self.open = Some(frames);
        Ok(true)
    }

    /// Why a segment that was in the catalogue a moment ago cannot be opened.
    fn not_open(&self, info: &SegmentInfo, error: std::io::Error) -> Error {
        let oldest = self.log.incarnations().oldest();
        // After a close another open may have removed it, which nobody tells here.
        let is_gone = error.kind() == std::io::ErrorKind::NotFound && self.log.is_over();
        if oldest.get() >= info.end || is_gone {
            return retired(oldest.max(Lsn::new(if is_gone { info.end } else { 0 })), Lsn::new(self.position));
        }
        Error::unreadable(&info.path, Lsn::new(info.base()), error)
    }
}

/// The records that were durable when the scan began, or written, in order. After an error it ends.
pub struct Scan {
    cursor: Cursor,
    bound: u64,
    is_over: bool,
}

impl Scan {
    pub(crate) fn new(log: &Arc<LogInner>, after: Position) -> Result<Self> {
        Ok(Scan { cursor: Cursor::new(log, after)?, bound: log.positions().durable(), is_over: false })
    }

    /// Also what is not durable yet: has it written.
    pub(crate) fn of_appended(log: &Arc<LogInner>, after: Position) -> Result<Self> {
        let cursor = Cursor::new(log, after)?;
        let bound = log.positions().appended();
        log.write_to(Lsn::new(bound))?;
        Ok(Scan { cursor, bound, is_over: false })
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, up_to) = (Lsn::new(self.cursor.position), Lsn::new(self.bound));
        f.debug_struct("Scan").field("passed", &passed).field("up_to", &up_to).finish_non_exhaustive()
    }
}

impl Iterator for Scan {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.cursor.next(self.bound);
        self.is_over = next.as_ref().is_none_or(Result::is_err);
        next
    }
}

/// Follows the log: the records in order, each as soon as it is durable.
pub struct Tail {
    cursor: Cursor,
    log: Arc<LogInner>,
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("passed", &Lsn::new(self.cursor.position)).finish_non_exhaustive()
    }
}

impl Tail {
    pub(crate) fn new(log: &Arc<LogInner>, after: Position) -> Result<Self> {
        Ok(Tail { cursor: Cursor::new(log, after)?, log: Arc::clone(log) })
    }

    /// The next durable record, waiting for it for at most `time`; `None` if there was none. It makes no flush due.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] and [`ErrorKind::Retired`], after which every call fails the same way. [`ErrorKind::Io`], after
    /// which the next call tries again. [`ErrorKind::Closed`] and [`ErrorKind::Poisoned`], once everything durable was read.
    pub fn next_timeout(&mut self, time: Duration) -> Result<Option<Record>> {
        self.log.check_process()?;
        let deadline = clock::now().after(time);
        loop {
            let durable = self.log.positions().durable();
            if let Some(record) = self.cursor.next(durable) {
                return record.map(Some);
            }
            if let Some(error) = &self.cursor.failed {
                return Err(error.clone());
            }
            if self.is_over() && self.log.positions().durable() == durable {
                return Err(self.log.refusal());
            }
            match self.log.flusher.watch_to(durable + 1, Some(deadline)) {
                Ok(Waited::TimedOut) => return Ok(None),
                // There is more to read, or the log is over: the next round tells.
                Ok(Waited::Reached) | Err(_) => {}
            }
        }
    }

    /// Whether nothing will become durable any more. A log that is being closed has a last flush to come.
    fn is_over(&self) -> bool {
        let positions = self.log.positions();
        let stopped = self.log.appender().is_stopped();
        stopped && (self.log.poisoned().is_some() || positions.durable() >= positions.appended())
    }
}
