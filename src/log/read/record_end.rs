//! Positions that a caller brings along, checked: only the end of a record of this log's history is one.
//!
//! | where the position is | what proves that a record ends there |
//! |---|---|
//! | a [`RecordEnd`], which only the log makes | nothing: it is one; nothing is read |
//! | at a watermark, at `oldest`, at the end of an incarnation | these are ends of records; nothing is read |
//! | anywhere else in a segment | the next frame begins right there, and begins a record: one header is read |
//! | less than a frame below the segment's limit | the fill begins there, and the next segment begins with a record |
//!
//! Without that proof the frames of the segment are walked, from its first one on: only a position that is refused, or
//! one before a damaged frame, costs so much.

use super::reader::{FrameReader, SegmentInfo};
use super::walk::Frames;
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::types::{Lsn, Outcome, Token};
use crate::format::WORD;
use crate::format::frame::FRAME_HEADER;
use crate::log::incarnations::Known;
use crate::log::inner::LogInner;

/// A place in the history of a log, as a caller names it: where a scan or tail begins, or up to where to flush.
///
/// Keep a [`Token`] outside of the log, not an [`Lsn`], and resume by that: a token names the incarnation of the log, so a
/// position of a log that was restored from an older copy, and has gone on, is told from one of the same number. A bare
/// LSN is checked to be the end of a record of this log, and of which one it cannot say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Position {
    /// After the record that ends here; with [`Lsn::ZERO`] at the oldest record there is.
    Lsn(Lsn),
    /// After the record that the token names.
    Token(Token),
    /// After the record that ended there, which nothing has to be read to know.
    End(RecordEnd),
}

/// Where a record ends, from the log itself: of a [receipt](crate::Receipt::end) or of a record that was
/// [read](crate::log::Record::end). As a [`Position`] it costs no read, where an LSN or a token may cost that of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordEnd(Token);

impl RecordEnd {
    /// `token` was handed out with a receipt, or read with a record.
    pub(crate) fn of(token: Token) -> Self {
        RecordEnd(token)
    }

    /// The position.
    pub fn lsn(&self) -> Lsn {
        self.0.lsn
    }

    /// The record's name for ever, to be stored.
    pub fn token(&self) -> Token {
        self.0
    }
}

impl From<RecordEnd> for Position {
    fn from(end: RecordEnd) -> Self {
        Position::End(end)
    }
}

impl From<Lsn> for Position {
    fn from(lsn: Lsn) -> Self {
        Position::Lsn(lsn)
    }
}

impl From<Token> for Position {
    fn from(token: Token) -> Self {
        Position::Token(token)
    }
}

impl LogInner {
    /// Where to read on from `position`: an end of a record that is not retired, or `oldest`.
    pub(crate) fn resolve(&self, position: Position) -> Result<Lsn> {
        let lsn = self.lsn_of(position)?;
        let retired = || {
            let oldest = self.incarnations().oldest();
            if lsn < oldest && lsn != Lsn::ZERO { Err(retired(oldest, lsn)) } else { Ok(oldest) }
        };
        if lsn == Lsn::ZERO {
            return retired();
        }
        retired()?;
        let found = self.proves_end(position, lsn);
        // Retired meanwhile: then what could not be read is not missed.
        retired()?;
        if found? { Ok(lsn) } else { Err(no_record_end(lsn)) }
    }

    /// [`LogInner::flush_to`] for a position that a caller brings along.
    pub(crate) fn flush_to_position(&self, position: Position) -> Result<()> {
        let lsn = self.lsn_of(position)?;
        self.flush_to(lsn.get())?;
        // What was retired was durable.
        if lsn <= self.incarnations().oldest() {
            return Ok(());
        }
        match self.proves_end(position, lsn) {
            Ok(false) => Err(no_record_end(lsn)),
            // It is durable: what cannot be read now is told to who reads it.
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// The LSN of a position that was handed out, if its lineage says so.
    pub(crate) fn lsn_of(&self, position: Position) -> Result<Lsn> {
        let lsn = match position {
            Position::Lsn(lsn) => lsn,
            Position::Token(token) | Position::End(RecordEnd(token)) => match self.outcome(&token)? {
                Outcome::Durable | Outcome::Pending | Outcome::Indeterminate => token.lsn,
                Outcome::Pruned => return Err(retired(self.incarnations().oldest(), token.lsn)),
                outcome => {
                    let message = format!("the token {token} is {outcome:?} here: no record of this log is its own");
                    return Err(Error::invalid_input(message));
                }
            },
        };
        let appended = self.positions().appended();
        if lsn.get() > appended {
            let message = format!("LSN {lsn} was not handed out yet: the log ends at {}", Lsn::new(appended));
            return Err(Error::invalid_input(message));
        }
        Ok(lsn)
    }

    /// Whether a record ends at `lsn`, the position that was brought along as `position`.
    pub(crate) fn proves_end(&self, position: Position, lsn: Lsn) -> Result<bool> {
        match position {
            Position::End(_) => Ok(true),
            Position::Lsn(_) | Position::Token(_) => self.ends_record(lsn.get()),
        }
    }

    /// Whether a record ends at `lsn`, which is above `oldest` and was appended. Has it written if it is not.
    fn ends_record(&self, lsn: u64) -> Result<bool> {
        let marks = [self.positions().durable(), self.positions().written(), self.positions().appended()];
        if marks.contains(&lsn) {
            return Ok(true);
        }
        if !lsn.is_multiple_of(WORD) {
            return Ok(false);
        }
        self.flusher.write_to(lsn)?;
        if self.incarnations().look(|known| known.oldest.get() == lsn || ends_incarnation(known, lsn)) {
            return Ok(true);
        }
        let Some((info, next)) = self.incarnations().look(|known| segment_with(known, lsn)) else { return Ok(false) };
        let found = self.next_frame_proves(&info, next.as_ref(), lsn);
        match found.map_err(|error| Error::unreadable(&info.path, Lsn::new(lsn), error))? {
            Some(proven) => Ok(proven),
            None => self.walk_to(&info, lsn),
        }
    }

    /// What the frame behind `lsn` says about it, if there is one.
    fn next_frame_proves(
        &self,
        info: &SegmentInfo,
        next: Option<&SegmentInfo>,
        lsn: u64,
    ) -> std::io::Result<Option<bool>> {
        let reader = FrameReader::open(&self.place, info)?;
        if info.header.place(lsn).is_some() {
            return Ok(reader.header_at(lsn)?.map(|header| header.kind.begins()));
        }
        let Some(next) = next.filter(|next| next.header.previous == info.base()) else { return Ok(None) };
        if !reader.fill_begins_at(lsn)? {
            return Ok(None);
        }
        let header = FrameReader::open(&self.place, next)?.header_at(next.first_frame())?;
        Ok(header.map(|header| header.kind.begins()))
    }

    /// Whether a record ends at `lsn`, by the frames of its segment.
    fn walk_to(&self, info: &SegmentInfo, lsn: u64) -> Result<bool> {
        let mut frames = Frames::open(&self.place, info)
            .map_err(|error| Error::unreadable(&info.path, Lsn::new(info.base()), error))?;
        while let Some(frame) = frames.next(lsn) {
            match frame.whole() {
                Some(header) if header.lsn == lsn => return Ok(header.kind.ends()),
                Some(_) => {}
                None => return Err(frame.not_whole(info, DamageCause::Rotten)),
            }
        }
        Ok(false)
    }
}

/// The segment that a record may end in at `lsn`, and the one after it.
fn segment_with(known: &Known, lsn: u64) -> Option<(SegmentInfo, Option<SegmentInfo>)> {
    let index = known.segments.partition_point(|info| info.end < lsn);
    let info = known.segments.get(index).filter(|info| info.first_frame() < lsn)?;
    Some((info.clone(), known.segments.get(index + 1).cloned()))
}

/// Whether an incarnation that has ended has its last record end there.
fn ends_incarnation(known: &Known, lsn: u64) -> bool {
    let entries = &known.history.entries;
    let index = entries.partition_point(|entry| entry.begin.get() < lsn);
    let entry = index.checked_sub(1).and_then(|index| entries.get(index));
    entry.and_then(|entry| entry.end).is_some_and(|end| end.lsn.get() == lsn)
}

/// The shortest frame's end in the first segment of an incarnation.
pub(crate) fn first_end(begin: u64) -> u64 {
    begin + crate::format::segment::SEGMENT_HEADER + FRAME_HEADER
}

pub(crate) fn no_record_end(lsn: Lsn) -> Error {
    Error::invalid_input(format!(
        "no record of this log ends at LSN {lsn}: a position is 0, or the LSN of a receipt, record or token of this log. If \
         the log was restored from an older copy, read it from the beginning"
    ))
}

/// The error for a position below what was retired.
pub(crate) fn retired(oldest: Lsn, after: Lsn) -> Error {
    Error::new(ErrorKind::Retired, format!("records up to {oldest} were retired; {after} is below that"))
}
