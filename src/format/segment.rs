//! The segment's header: its first sector (specification, section 2.1).

use super::features::IN_SEGMENTS;
use super::fields::{array_at, put, u64_at};
use super::frame::MIN_ROOM;
use super::identity::{IDENTITY_LEN, Identity};
use super::preamble::Kind;
use super::{Refusal, preamble};
use crate::base::options::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use crate::base::types::{Incarnation, LogId};

/// Length of the header: one sector, so that it is written whole or not at all.
pub(crate) const SEGMENT_HEADER: u64 = 512;
/// The same, for slices.
pub(crate) const SEGMENT_HEADER_LEN: usize = 512;

const KIND: Kind = Kind { magic: *b"forelog\x1a", known: IN_SEGMENTS };
const IDENTITY: usize = 32;
const SIZE: usize = 80;
const PREVIOUS: usize = 88;
const END: usize = 96;

/// A segment's header, as its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) size: u64,
    /// The base of the previous segment of the incarnation; in the first segment its own base.
    pub(crate) previous: u64,
    /// The must-understand bits that HISTORY had when the segment was made, of those that segments have.
    pub(crate) features: u64,
}

impl SegmentHeader {
    pub(crate) fn to_bytes(self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        put(&mut bytes, IDENTITY, &self.identity.to_bytes());
        put(&mut bytes, SIZE, &self.size.to_le_bytes());
        put(&mut bytes, PREVIOUS, &self.previous.to_le_bytes());
        preamble::write_with(&mut bytes, KIND, self.features);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<Self, Refusal> {
        preamble::check(bytes, KIND)?;
        let identity: [u8; IDENTITY_LEN] = array_at(bytes, IDENTITY);
        let identity = Identity {
            log_id: LogId(array_at(&identity, 0)),
            incarnation: Incarnation { number: u64_at(&identity, 16), nonce: u64_at(&identity, 24) },
            key: u64_at(&identity, 32),
            base: u64_at(&identity, 40),
        };
        let header = SegmentHeader {
            identity,
            size: u64_at(bytes, SIZE),
            previous: u64_at(bytes, PREVIOUS),
            features: preamble::features(bytes),
        };
        let sane = (MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&header.size)
            && header.size.is_multiple_of(512)
            && identity.base.is_multiple_of(512)
            && identity.base.checked_add(header.size).is_some()
            && header.previous <= identity.base
            && bytes[END..].iter().all(|&b| b == 0);
        if sane { Ok(header) } else { Err(Refusal::Impossible) }
    }

    /// The position at which the segment ends.
    pub(crate) fn limit(&self) -> u64 {
        self.identity.base + self.size
    }

    /// Where the first frame begins.
    pub(crate) fn first_frame(&self) -> u64 {
        self.identity.base + SEGMENT_HEADER
    }

    /// No LSN past this is handed out before the next segment is durable (O2).
    pub(crate) fn midpoint(&self) -> u64 {
        self.identity.base + self.size / 2
    }

    /// Where a frame that follows `position` begins in this segment; `None` if it begins in the next one.
    pub(crate) fn place(&self, position: u64) -> Option<u64> {
        let start = position.max(self.first_frame());
        (start + MIN_ROOM <= self.limit()).then_some(start)
    }
}

/// Appended to a segment's name until the file is complete and durable.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// The name of the segment's file.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:016x}.log")
}

/// The base of the segment whose file is called `name`; `None` if that is not a segment's name.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let base = (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())??;
    (file_name(base) == name).then_some(base)
}
