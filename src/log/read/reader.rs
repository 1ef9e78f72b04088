//! Reads single frames from a segment: whatever comes from a file is checked here, each time it enters memory. The walk
//! from one to the next is in `walk`.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crc32fast::Hasher;

use crate::base::error::{DamageCause, Error};
use crate::base::types::Lsn;
use crate::disk::{Access, DiskFile, Mapping, read_exact_at};
use crate::format::WORD;
use crate::format::cut::{self, Behind};
use crate::format::fill::Fill;
use crate::format::frame::{self, Decoded, FRAME_HEADER, FRAME_HEADER_LEN, Header};
use crate::format::segment::SegmentHeader;
use crate::format::verdict::FrameState;
use crate::log::log_dir::LogDir;

/// How much is read ahead.
const WINDOW: u64 = 1 << 20;

/// What a bad spot on the medium takes along.
const SECTOR: u64 = 512;

/// A segment as it is known without opening it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    /// The file's length.
    pub(crate) length: u64,
    /// Where its frames end: its limit, or the end of its incarnation.
    pub(crate) end: u64,
}

impl SegmentInfo {
    pub(crate) fn base(&self) -> u64 {
        self.header.identity.base
    }

    pub(crate) fn first_frame(&self) -> u64 {
        self.header.first_frame()
    }

    /// Where the bytes end that the file has for the segment. The file may be cut, and longer than a segment can be.
    pub(crate) fn end_in_file(&self) -> u64 {
        self.base() + self.length.min(self.header.size)
    }

    /// The segment as far as its file has it: one that was cut when its incarnation ended is shorter than its header says.
    pub(crate) fn in_file(&self) -> SegmentInfo {
        SegmentInfo { end: self.end.min(self.end_in_file()), ..self.clone() }
    }
}

/// What stands at a place where a frame may begin.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) start: u64,
    pub(crate) state: FrameState,
    /// Set if the header is valid.
    pub(crate) header: Option<Header>,
    /// Set if the state is `Unreadable`.
    pub(crate) error: Option<io::Error>,
}

impl Frame {
    /// The header of a whole frame.
    #[inline]
    pub(crate) fn whole(&self) -> Option<&Header> {
        self.header.as_ref().filter(|_| self.state == FrameState::Valid)
    }

    /// The error for a frame of `info` that should be whole: `cause`, unless it could not be read.
    pub(crate) fn not_whole(self, info: &SegmentInfo, cause: DamageCause) -> Error {
        let at = Lsn::new(self.start);
        match self.error {
            Some(error) => Error::unreadable(&info.path, at, error),
            None => Error::damaged(&info.path, at, cause),
        }
    }
}

/// Reads one segment through a window.
#[derive(Debug)]
pub(crate) struct FrameReader {
    file: Arc<dyn DiskFile>,
    map: Option<Arc<dyn Mapping>>,
    base: u64,
    limit: u64,
    /// No byte at or above this is read.
    end: u64,
    checksum: Hasher,
    fill: Fill,
    window: Vec<u8>,
    window_start: u64,
}

impl FrameReader {
    /// Opens the segment's file for reads with pread.
    pub(crate) fn open(place: &LogDir, info: &SegmentInfo) -> io::Result<Self> {
        Ok(FrameReader::new(place.open(&info.path, Access::Read)?, &info.header, info.end))
    }

    pub(crate) fn new(file: Arc<dyn DiskFile>, header: &SegmentHeader, end: u64) -> Self {
        FrameReader {
            file,
            map: None,
            base: header.identity.base,
            limit: header.limit(),
            end,
            checksum: header.identity.checksum(),
            fill: Fill::new(header.identity),
            window: Vec::new(),
            window_start: 0,
        }
    }

    /// Reads through a memory mapping from now on, if the disk has one to offer.
    pub(crate) fn use_mapping(&mut self) -> io::Result<()> {
        self.map = self.file.map()?;
        Ok(())
    }

    /// Forgets what was read ahead: the file may have grown.
    pub(crate) fn forget(&mut self) {
        self.window.clear();
    }

    /// A checksum of the bytes by which the state of this frame was found, which was just examined.
    pub(crate) fn sum(&mut self, frame: &Frame) -> io::Result<u32> {
        let end = frame.header.map_or(frame.start + FRAME_HEADER, |header| header.lsn.min(self.end));
        let range = self.load(frame.start..end)?;
        Ok(crc32fast::hash(&self.window[range]))
    }

    /// Where the window holds `range`, after reading it if needed.
    #[inline]
    fn load(&mut self, range: Range<u64>) -> io::Result<Range<usize>> {
        let loaded = self.window_start..self.window_start + self.window.len() as u64;
        if range.start < loaded.start || range.end > loaded.end {
            if range.end > self.end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let wanted = range.end - range.start;
            let ahead = wanted.max(WINDOW).min(self.end - range.start);
            // A bad sector among what is read ahead is the fault of the frame that it is in, not of this one.
            if ahead == wanted || self.read(range.start, ahead).is_err() {
                self.read(range.start, wanted)?;
            }
        }
        let index = |position: u64| usize::try_from(position - self.window_start).expect("inside the window");
        Ok(index(range.start)..index(range.end))
    }

    /// Reads `length` bytes from `start` into the window, which is empty after a failure.
    fn read(&mut self, start: u64, length: u64) -> io::Result<()> {
        self.window.clear();
        self.window.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        self.window_start = start;
        let offset = start - self.base;
        let copied = self.map.as_ref().is_some_and(|map| map.copy_to(&mut self.window, offset));
        if !copied && let Err(error) = read_exact_at(&*self.file, &mut self.window, offset) {
            self.window.clear();
            return Err(error);
        }
        Ok(())
    }

    /// The header at `position`, if a valid one stands there. Reads no more than that.
    pub(crate) fn header_at(&self, position: u64) -> io::Result<Option<Header>> {
        if position + FRAME_HEADER > self.end {
            return Ok(None);
        }
        let mut bytes = [0; FRAME_HEADER_LEN];
        read_exact_at(&*self.file, &mut bytes, position - self.base)?;
        match frame::decode(&bytes, position, self.limit, &self.checksum) {
            Decoded::Valid(header) => Ok(Some(header)),
            Decoded::Invalid | Decoded::Impossible => Ok(None),
        }
    }

    /// Whether everything from `position` to the segment's limit, less than a frame, is fill, and the word before is not.
    pub(crate) fn fill_begins_at(&self, position: u64) -> io::Result<bool> {
        let start = position - WORD;
        let mut bytes = vec![0; usize::try_from(self.limit - start).map_err(io::Error::other)?];
        read_exact_at(&*self.file, &mut bytes, start - self.base)?;
        let (before, after) = bytes.split_at(FRAME_HEADER_LEN / 4);
        Ok(self.fill.count(before, start) == 0 && self.fill.count(after, position) == after.len() / before.len())
    }

    /// What stands at `start`, a possible place of a frame.
    // Each frame is made in one place: a million small moves are a twentieth of the time of an open.
    #[inline]
    pub(crate) fn examine(&mut self, start: u64) -> Frame {
        let unreadable = |error| Frame { start, state: FrameState::Unreadable, header: None, error: Some(error) };
        let range = match self.load(start..start + FRAME_HEADER) {
            Ok(range) => range,
            Err(error) => return unreadable(error),
        };
        let bytes = &self.window[range];
        let header = match frame::decode(bytes, start, self.limit, &self.checksum) {
            Decoded::Valid(header) => header,
            Decoded::Impossible => return Frame { start, state: FrameState::Impossible, header: None, error: None },
            Decoded::Invalid => {
                return match self.invalid_header(start) {
                    Ok(state) => Frame { start, state, header: None, error: None },
                    Err(error) => unreadable(error),
                };
            }
        };
        let state = if header.lsn > self.end {
            FrameState::Impossible
        } else {
            let payload = start + FRAME_HEADER;
            let range = match self.load(payload..header.lsn) {
                Ok(range) => range,
                Err(error) => return unreadable(error),
            };
            if frame::payload_is_valid(&header, &self.window[range]) {
                FrameState::Valid
            } else {
                match self.invalid_payload(&header) {
                    Ok(state) => state,
                    Err(error) => return unreadable(error),
                }
            }
        };
        Frame { start, state, header: Some(header), error: None }
    }

    /// The state of the frame at `start`, whose header fails its checksum.
    #[cold]
    fn invalid_header(&mut self, start: u64) -> io::Result<FrameState> {
        let range = self.load(start..start + FRAME_HEADER)?;
        let bytes: [u8; FRAME_HEADER_LEN] = self.window[range].try_into().expect("a header");
        Ok(match self.fill.count(&bytes, start) {
            n if n == FRAME_HEADER_LEN / 8 => FrameState::Unwritten,
            0 => {
                let behind = self.behind(start + FRAME_HEADER);
                let was_cut = cut::header_was_cut(&bytes, start, self.limit, &self.checksum, self.fill, behind);
                if was_cut { FrameState::HeaderTorn } else { FrameState::HeaderRotten }
            }
            _ => FrameState::HeaderTorn,
        })
    }

    /// The state of a frame whose payload fails its checksum.
    #[cold]
    fn invalid_payload(&mut self, header: &Header) -> io::Result<FrameState> {
        let start = header.lsn - header.frame_len() + FRAME_HEADER;
        let range = self.load(start..header.lsn)?;
        if self.fill.count(&self.window[range], start) > 0 {
            return Ok(FrameState::PayloadTorn);
        }
        let behind = self.behind(header.lsn);
        let range = self.load(start..header.lsn)?;
        let was_cut = cut::payload_was_cut(header, &self.window[range], start, self.fill, behind);
        Ok(if was_cut { FrameState::PayloadTorn } else { FrameState::PayloadRotten })
    }

    /// What stands at `position`, behind a word that may be cut. That it cannot be read says nothing of that word.
    fn behind(&mut self, position: u64) -> Behind {
        if position + WORD > self.end {
            return Behind::Unknown;
        }
        let Ok(range) = self.load(position..position + WORD) else { return Behind::Unknown };
        match self.fill.count(&self.window[range], position) {
            0 if position.is_multiple_of(SECTOR) => Behind::Unknown,
            0 => Behind::Written,
            _ => Behind::Fill,
        }
    }

    /// The payload of the frame that [`FrameReader::examine`] just found valid.
    #[inline]
    pub(crate) fn payload(&mut self, header: &Header) -> io::Result<&[u8]> {
        let start = header.lsn - header.frame_len() + FRAME_HEADER;
        let range = self.load(start..start + u64::from(header.length))?;
        Ok(&self.window[range])
    }

    /// All bytes of the frame that [`FrameReader::examine`] just found valid.
    pub(crate) fn frame(&mut self, header: &Header) -> io::Result<&[u8]> {
        let range = self.load(header.lsn - header.frame_len()..header.lsn)?;
        Ok(&self.window[range])
    }

    /// Tries every possible header position from `position` up, trusting no length, and reports each valid header.
    pub(crate) fn search(&mut self, position: u64, mut found: impl FnMut(u64, &Header)) -> io::Result<()> {
        let mut at = position;
        while let Some((place, header)) = self.next_header(at..self.end)? {
            found(place, &header);
            at = place + WORD;
        }
        Ok(())
    }

    /// The first valid header that begins in `range`, trusting no length.
    pub(crate) fn next_header(&mut self, range: Range<u64>) -> io::Result<Option<(u64, Header)>> {
        let mut at = range.start;
        while at < range.end && at + FRAME_HEADER <= self.end {
            let mut index = self.load(at..at + FRAME_HEADER)?.start;
            while let Some(bytes) = self.window.get(index..index + FRAME_HEADER_LEN).filter(|_| at < range.end) {
                if frame::may_be_header(bytes, at)
                    && let Decoded::Valid(header) = frame::decode(bytes, at, self.limit, &self.checksum)
                {
                    return Ok(Some((at, header)));
                }
                at += WORD;
                index += FRAME_HEADER_LEN / 4;
            }
        }
        Ok(None)
    }

    /// The first whole frame that begins at or above `from`, and where; what cannot be read is passed over, sector by
    /// sector.
    pub(crate) fn next_whole(&mut self, from: u64) -> Option<(u64, Header)> {
        let mut at = from;
        while at < self.end {
            let sector = (at + SECTOR) / SECTOR * SECTOR;
            let ahead = match self.next_header(at..self.end) {
                Ok(None) => return None,
                Ok(found) => found,
                Err(_) => self.next_header(at..sector).unwrap_or_default(),
            };
            let Some((place, _)) = ahead else {
                at = sector;
                continue;
            };
            if let Some(header) = self.examine(place).whole() {
                return Some((place, *header));
            }
            at = place + WORD;
        }
        None
    }
}
