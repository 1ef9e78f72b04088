//! The frame: 32 bytes of header, then the payload padded with zeros to whole words (specification, section 2.3).

use crc32fast::Hasher;

use super::fields::{put, u32_at, u64_at};
use super::{WORD, pad8};

/// Length of a frame's header.
pub(crate) const FRAME_HEADER: u64 = 32;
/// The same, for slices.
pub(crate) const FRAME_HEADER_LEN: usize = 32;
/// If fewer bytes than this remain in a segment, the next frame begins in the next one.
pub(crate) const MIN_ROOM: u64 = 64;

const HEADER_CRC: usize = 0;
const PAYLOAD_CRC: usize = 4;
pub(super) const LSN: usize = 8;
const DURABLE: usize = 16;
pub(super) const LENGTH: usize = 24;
pub(super) const KIND: usize = 28;
const ZERO: usize = 29;

/// Which part of a record a frame has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Full = 1,
    First = 2,
    Middle = 3,
    Last = 4,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Full, Kind::First, Kind::Middle, Kind::Last];

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Full,
            2 => Kind::First,
            3 => Kind::Middle,
            4 => Kind::Last,
            _ => return None,
        })
    }

    /// Whether the frame begins a record.
    pub(crate) fn begins(self) -> bool {
        matches!(self, Kind::Full | Kind::First)
    }

    /// Whether the frame ends a record.
    pub(crate) fn ends(self) -> bool {
        matches!(self, Kind::Full | Kind::Last)
    }
}

/// A frame's header, as its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) payload_crc: u32,
    pub(crate) lsn: u64,
    pub(crate) durable: u64,
    pub(crate) length: u32,
    pub(crate) kind: Kind,
}

/// What the 32 bytes at a possible header position are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decoded {
    Valid(Header),
    /// The checksum does not match.
    Invalid,
    /// The checksum matches, and a field is impossible.
    Impossible,
}

/// The bytes that a frame with this payload takes.
pub(crate) fn frame_len(payload: u64) -> u64 {
    FRAME_HEADER + pad8(payload)
}

/// The checksum of a payload. It does not depend on the position, so it can be computed before the position is known.
pub(crate) fn payload_crc(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

impl Header {
    /// Writes the header without the fields that [`seal`] sets.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        bytes[..FRAME_HEADER_LEN].fill(0);
        put(bytes, PAYLOAD_CRC, &self.payload_crc.to_le_bytes());
        put(bytes, LSN, &self.lsn.to_le_bytes());
        put(bytes, LENGTH, &self.length.to_le_bytes());
        bytes[KIND] = self.kind as u8;
    }

    /// The bytes that the frame takes.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.length))
    }
}

/// Sets the durable LSN and the header's checksum when the frame goes to the file. Returns the frame's length.
pub(crate) fn seal(bytes: &mut [u8], identity: &Hasher, durable: u64) -> u64 {
    put(bytes, DURABLE, &durable.to_le_bytes());
    let crc = header_crc(bytes, identity);
    put(bytes, HEADER_CRC, &crc.to_le_bytes());
    frame_len(u64::from(u32_at(bytes, LENGTH)))
}

fn header_crc(bytes: &[u8], identity: &Hasher) -> u32 {
    let mut hasher = identity.clone();
    hasher.update(&bytes[PAYLOAD_CRC..FRAME_HEADER_LEN]);
    hasher.finalize()
}

/// Whether the bytes can be a header at `position`: a cheap test before the checksum, for the search that tries every
/// position.
pub(crate) fn may_be_header(bytes: &[u8], position: u64) -> bool {
    let length = u64::from(u32_at(bytes, LENGTH));
    u64_at(bytes, LSN) == position.wrapping_add(frame_len(length))
}

/// Decodes the header of a frame at `position` in a segment that ends at `limit`.
pub(crate) fn decode(bytes: &[u8], position: u64, limit: u64, identity: &Hasher) -> Decoded {
    if u32_at(bytes, HEADER_CRC) != header_crc(bytes, identity) {
        return Decoded::Invalid;
    }
    let length = u32_at(bytes, LENGTH);
    let (lsn, durable) = (u64_at(bytes, LSN), u64_at(bytes, DURABLE));
    let Some(kind) = Kind::from_byte(bytes[KIND]) else { return Decoded::Impossible };
    let fits = position.checked_add(frame_len(u64::from(length))).is_some_and(|end| end == lsn && end <= limit);
    if !fits || durable > position || bytes[ZERO..FRAME_HEADER_LEN] != [0; 3] || !position.is_multiple_of(WORD) {
        return Decoded::Impossible;
    }
    Decoded::Valid(Header { payload_crc: u32_at(bytes, PAYLOAD_CRC), lsn, durable, length, kind })
}

/// Whether the padded payload behind a valid header matches the header.
pub(crate) fn payload_is_valid(header: &Header, padded: &[u8]) -> bool {
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    match padded.split_at_checked(length) {
        Some((payload, padding)) => payload_crc(payload) == header.payload_crc && padding.iter().all(|&b| b == 0),
        None => false,
    }
}
