//! The log buffer: frames that have their place in the log and are not yet in a file.

use std::sync::Arc;

use super::segment::Segment;
use crate::format::frame::{self, FRAME_HEADER, FRAME_HEADER_LEN, Header, Kind};
use crate::format::pad8;

/// A payload with its checksum, computed before any lock is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared<'a> {
    payload: &'a [u8],
    crc: u32,
    /// It may have what is left for deletions.
    pub(crate) may_use_spare: bool,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Prepared { payload, crc: frame::payload_crc(payload), may_use_spare: false }
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Bytes for consecutive positions of one segment.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) segment: Arc<Segment>,
    /// Position of the first byte.
    pub(crate) position: u64,
    /// Where the run begins in the buffer's bytes; it ends where the next one begins.
    pub(crate) from: usize,
}

impl Run {
    /// Where in its segment's file it begins.
    pub(crate) fn offset(&self) -> u64 {
        self.position - self.segment.base()
    }
}

/// Frames in position order, in as few runs as segments allow.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) runs: Vec<Run>,
}

/// Memory that a buffer keeps for its next use, at most.
const KEEP: usize = 4 << 20;

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The memory that its bytes have, in bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.bytes.capacity() as u64
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.runs.clear();
    }

    /// Where the bytes of run `index` end.
    pub(crate) fn run_end(&self, index: usize) -> usize {
        self.runs.get(index + 1).map_or(self.bytes.len(), |next| next.from)
    }

    fn push_frame(&mut self, segment: &Arc<Segment>, header: &Header, payload: &[u8]) {
        let position = header.lsn - header.frame_len();
        let continues = self.runs.last().is_some_and(|run| {
            Arc::ptr_eq(&run.segment, segment) && run.position + (self.bytes.len() - run.from) as u64 == position
        });
        let from = self.bytes.len();
        if !continues {
            self.runs.push(Run { segment: Arc::clone(segment), position, from });
        }
        let mut head = [0; FRAME_HEADER_LEN];
        header.write(&mut head);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}

/// Where the next record goes: the active segment and those prepared after it.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Active segment first. Empty until the incarnation begins.
    pub(crate) segments: std::collections::VecDeque<Arc<Segment>>,
    /// Position of the next frame.
    pub(crate) next: u64,
}

/// Why a record cannot be placed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NeedsSegment;

impl Tail {
    /// Where a record of `length` bytes would end, if that is within what is durably prepared: a position past the
    /// midpoint of a segment may only be handed out once the next one is there (O2).
    pub(crate) fn end_of(&self, length: u64) -> Result<u64, NeedsSegment> {
        let mut rest = length;
        let mut position = self.next;
        for (index, segment) in self.segments.iter().enumerate() {
            let Some(start) = segment.header().place(position) else { continue };
            let room = segment.limit() - start - FRAME_HEADER;
            if pad8(rest) <= room {
                let end = start + FRAME_HEADER + pad8(rest);
                let followed = index + 1 < self.segments.len();
                let may_be_last = end <= segment.header().midpoint();
                return if may_be_last || followed { Ok(end) } else { Err(NeedsSegment) };
            }
            rest -= room;
            position = segment.limit();
        }
        Err(NeedsSegment)
    }

    /// Places a record, which [`Tail::end_of`] has found room for; returns its LSN and the bytes of log it takes.
    pub(crate) fn place(&mut self, record: &Prepared<'_>, buffer: &mut Buffer) -> (u64, u64) {
        let mut rest = record.payload();
        let mut bytes = 0;
        let mut first = true;
        loop {
            let segment = Arc::clone(self.segments.front().expect("room was found"));
            let Some(start) = segment.header().place(self.next) else {
                self.segments.pop_front();
                continue;
            };
            let room = segment.limit() - start - FRAME_HEADER;
            let here = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (piece, remaining) = rest.split_at(here);
            // The last piece must fit with its padding; room is a whole number of words, so it does.
            let last = remaining.is_empty();
            let kind = match (first, last) {
                (true, true) => Kind::Full,
                (true, false) => Kind::First,
                (false, false) => Kind::Middle,
                (false, true) => Kind::Last,
            };
            let crc = if kind == Kind::Full { record.crc } else { frame::payload_crc(piece) };
            let length = u32::try_from(piece.len()).expect("a segment is smaller than 4 GiB");
            let lsn = start + frame::frame_len(u64::from(length));
            buffer.push_frame(&segment, &Header { payload_crc: crc, lsn, durable: 0, length, kind }, piece);
            bytes += lsn - start;
            self.next = lsn;
            if last {
                return (lsn, bytes);
            }
            rest = remaining;
            first = false;
        }
    }
}
