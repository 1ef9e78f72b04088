//! The preamble of a segment's header and of HISTORY: 32 bytes with the same layout in all versions.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | CRC of all bytes from 12 on |
//! | 12 | 4 | format version |
//! | 16 | 8 | compatible feature bits |
//! | 24 | 8 | must-understand feature bits |

use super::features::KNOWN_FEATURES;
use super::fields::{put, u32_at, u64_at};
use super::{FORMAT_VERSION, Refusal};

/// Length of the preamble.
pub(super) const PREAMBLE: usize = 32;

const CRC: usize = 8;
const VERSION: usize = 12;
const INCOMPATIBLE: usize = 24;

/// Writes the preamble. The rest must be complete.
pub(super) fn write(bytes: &mut [u8], magic: [u8; 8]) {
    put(bytes, 0, &magic);
    put(bytes, VERSION, &FORMAT_VERSION.to_le_bytes());
    let crc = crc32fast::hash(&bytes[VERSION..]);
    put(bytes, CRC, &crc.to_le_bytes());
}

/// Whether a file that begins with `head` has the layout of this version. Asked before the checksum is known.
pub(super) fn is_of_this_version(head: &[u8], magic: [u8; 8]) -> Result<bool, Refusal> {
    if !head.starts_with(&magic) {
        return Err(Refusal::Magic);
    }
    Ok(u32_at(head, VERSION) == FORMAT_VERSION && u64_at(head, INCOMPATIBLE) & !KNOWN_FEATURES == 0)
}

/// Refuses bytes that this version cannot read. The order of the checks decides how a newer file differs from damage.
pub(super) fn check(bytes: &[u8], magic: [u8; 8]) -> Result<(), Refusal> {
    if !bytes.starts_with(&magic) {
        return Err(Refusal::Magic);
    }
    if bytes.len() < PREAMBLE || u32_at(bytes, CRC) != crc32fast::hash(&bytes[VERSION..]) {
        return Err(Refusal::Checksum);
    }
    match u32_at(bytes, VERSION) {
        FORMAT_VERSION => {}
        0 => return Err(Refusal::Impossible),
        newer => return Err(Refusal::Version(newer)),
    }
    match u64_at(bytes, INCOMPATIBLE) & !KNOWN_FEATURES {
        0 => Ok(()),
        unknown => Err(Refusal::Features(unknown)),
    }
}

/// The checksum in a preamble.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    u32_at(bytes, CRC)
}
