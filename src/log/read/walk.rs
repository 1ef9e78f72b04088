//! The one walk over the frames of a segment, and what puts records together from them.
//!
//! Recovery, the rewrite after it, scans, the check of a position, scrub, salvage and `dump` all read frames one behind
//! the other. Where the next frame may begin, and which record it belongs to, is decided here. Each of them keeps its
//! policy: what to do about a frame that is not whole, and when to stop.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use super::reader::{Frame, FrameReader, SegmentInfo};
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::disk::{Access, DiskFile};
use crate::format::frame::{Header, Kind};
use crate::format::verdict::FrameState;
use crate::log::log_dir::LogDir;

/// The frames of one segment, one behind the other.
#[derive(Debug)]
pub(crate) struct Frames {
    info: SegmentInfo,
    reader: FrameReader,
    /// Behind this the next frame is looked for: the end of the last whole frame.
    position: u64,
}

impl SegmentInfo {
    /// Whether there is a valid header of a frame anywhere in it.
    pub(crate) fn has_frames(&self, place: &LogDir) -> io::Result<bool> {
        let mut has = false;
        Frames::open(place, self)?.search(self.first_frame(), |_, _| has = true)?;
        Ok(has)
    }
}

impl Frames {
    pub(crate) fn open(place: &LogDir, info: &SegmentInfo) -> io::Result<Self> {
        Ok(Frames::of_file(place.open(&info.path, Access::Read)?, info))
    }

    /// Over a segment whose file is open.
    pub(crate) fn of_file(file: Arc<dyn DiskFile>, info: &SegmentInfo) -> Self {
        let reader = FrameReader::new(file, &info.header, info.end);
        Frames { info: info.clone(), reader, position: info.first_frame() }
    }

    pub(crate) fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// Goes on behind `position`.
    #[inline]
    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// What stands where the next frame must begin, if it follows a position below `until`; goes past it if it is whole.
    /// `None` at `until`, and where the next frame begins in the next segment.
    #[inline]
    pub(crate) fn next(&mut self, until: u64) -> Option<Frame> {
        let start = self.info.header.place(self.position).filter(|_| self.position < until)?;
        let frame = self.at(start);
        if let Some(header) = frame.whole() {
            self.position = header.lsn;
        }
        Some(frame)
    }

    /// What stands at `start`, whether a frame has room there or not.
    #[inline]
    pub(crate) fn at(&mut self, start: u64) -> Frame {
        self.reader.examine(start)
    }

    /// What stands at `start` now, and a checksum of its bytes.
    pub(crate) fn look_again(&mut self, start: u64) -> io::Result<(Frame, u32)> {
        self.reader.forget();
        let frame = self.at(start);
        let sum = if frame.state == FrameState::Unreadable { 0 } else { self.reader.sum(&frame)? };
        Ok((frame, sum))
    }

    /// The first whole frame that begins at or above `from`, and where; what cannot be read is passed over.
    pub(crate) fn next_whole(&mut self, from: u64) -> Option<(u64, Header)> {
        self.reader.next_whole(from)
    }

    /// Goes on at the first valid header at or above `from`, whether its frame is whole or not; ends if there is none.
    #[cfg(feature = "unstable")]
    pub(crate) fn seek_header(&mut self, from: u64) -> io::Result<()> {
        let next = self.reader.next_header(from..self.info.end)?;
        self.position = next.map_or(self.info.end, |(start, _)| start);
        Ok(())
    }

    /// Reports every valid header at or above `from`, trusting no length.
    pub(crate) fn search(&mut self, from: u64, found: impl FnMut(u64, &Header)) -> io::Result<()> {
        self.reader.search(from, found)
    }

    /// The payload of the frame that was just found whole.
    #[inline]
    pub(crate) fn payload(&mut self, header: &Header) -> Result<&[u8]> {
        let start = Lsn::new(header.lsn - header.frame_len());
        self.reader.payload(header).map_err(|error| Error::unreadable(&self.info.path, start, error))
    }

    /// All bytes of the frame that was just found whole.
    pub(crate) fn bytes(&mut self, header: &Header) -> Result<&[u8]> {
        let start = Lsn::new(header.lsn - header.frame_len());
        self.reader.frame(header).map_err(|error| Error::unreadable(&self.info.path, start, error))
    }

    /// Reads through a memory mapping from now on, if the disk has one to offer.
    pub(crate) fn use_mapping(&mut self) -> io::Result<()> {
        self.reader.use_mapping()
    }

    /// Forgets what was read ahead: the file may have grown.
    pub(crate) fn forget(&mut self) {
        self.reader.forget();
    }
}

/// The begin of a record whose end was not reached.
#[derive(Debug)]
pub(crate) struct Unended {
    /// Where its first frame begins.
    pub(crate) begin: u64,
    pub(crate) payload: Vec<u8>,
}

/// What a whole frame does to the record that it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The record goes on in the next frame.
    GoesOn,
    /// The record ends here; its first frame begins at `begin`.
    Record { begin: u64, payload: Cow<'a, [u8]> },
    /// The record's begin was not among the frames.
    Headless,
}

/// Puts records together from their frames.
#[derive(Debug, Default)]
pub(crate) struct Records {
    unended: Option<Unended>,
    /// Inside a record whose begin was retired.
    skipping: bool,
}

impl Records {
    /// Of a log whose first frame may be the rest of a record that was retired.
    pub(crate) fn after_retired() -> Self {
        Records { unended: None, skipping: true }
    }

    /// Whether a record was begun and has not ended.
    #[inline]
    pub(crate) fn has_unended(&self) -> bool {
        self.unended.is_some()
    }

    /// Whether a frame of this kind may be the next one.
    #[inline]
    pub(crate) fn may_follow(&self, kind: Kind) -> bool {
        self.unended.is_some() != kind.begins() || self.is_of_retired(kind)
    }

    /// Whether a frame of this kind belongs to the record whose begin was retired.
    #[inline]
    pub(crate) fn is_of_retired(&self, kind: Kind) -> bool {
        self.skipping && !kind.begins()
    }

    /// Passes over a frame of the record whose begin was retired; `false` for every other.
    #[inline]
    pub(crate) fn skip(&mut self, kind: Kind) -> bool {
        let skipped = self.is_of_retired(kind);
        self.skipping = skipped && !kind.ends();
        skipped
    }

    /// Adds the frame that begins at `start`.
    #[inline]
    pub(crate) fn add<'a>(&mut self, start: u64, kind: Kind, payload: &'a [u8]) -> Piece<'a> {
        match (kind, self.unended.take()) {
            (Kind::Full, _) => Piece::Record { begin: start, payload: Cow::Borrowed(payload) },
            (Kind::First, _) => {
                self.unended = Some(Unended { begin: start, payload: payload.to_vec() });
                Piece::GoesOn
            }
            (Kind::Middle | Kind::Last, None) => Piece::Headless,
            (_, Some(mut unended)) => {
                unended.payload.extend_from_slice(payload);
                if kind == Kind::Middle {
                    self.unended = Some(unended);
                    return Piece::GoesOn;
                }
                Piece::Record { begin: unended.begin, payload: Cow::Owned(unended.payload) }
            }
        }
    }

    /// Gives up the record that was begun, if one was.
    pub(crate) fn give_up(&mut self) -> Option<Unended> {
        self.unended.take()
    }
}
