//! The preamble of a segment's header and of HISTORY: 32 bytes with the same layout in all versions.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | CRC of all bytes from 12 on |
//! | 12 | 4 | format version |
//! | 16 | 8 | compatible feature bits |
//! | 24 | 8 | must-understand feature bits |

use super::fields::{put, u32_at, u64_at};
use super::{FORMAT_VERSION, Refusal};

/// Length of the preamble.
pub(super) const PREAMBLE: usize = 32;

const CRC: usize = 8;
const VERSION: usize = 12;
const INCOMPATIBLE: usize = 24;

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(super) magic: [u8; 8],
    /// The must-understand bits that this build understands in it.
    pub(super) known: u64,
}

impl Kind {
    /// One without bits.
    pub(super) const fn plain(magic: [u8; 8]) -> Self {
        Kind { magic, known: 0 }
    }
}

/// Writes the preamble. The rest must be complete.
pub(super) fn write(bytes: &mut [u8], kind: Kind) {
    write_with(bytes, kind, 0);
}

/// The same with must-understand bits.
pub(super) fn write_with(bytes: &mut [u8], kind: Kind, features: u64) {
    debug_assert_eq!(features & !kind.known, 0, "what is written is read");
    put(bytes, 0, &kind.magic);
    put(bytes, VERSION, &FORMAT_VERSION.to_le_bytes());
    put(bytes, INCOMPATIBLE, &features.to_le_bytes());
    let crc = crc32fast::hash(&bytes[VERSION..]);
    put(bytes, CRC, &crc.to_le_bytes());
}

/// Whether a file that begins with `head` has the layout of this version. Asked before the checksum is known.
pub(super) fn is_of_this_version(head: &[u8], kind: Kind) -> Result<bool, Refusal> {
    if !head.starts_with(&kind.magic) {
        return Err(Refusal::Magic);
    }
    Ok(u32_at(head, VERSION) == FORMAT_VERSION && features(head) & !kind.known == 0)
}

/// Refuses bytes that this version cannot read. The order of the checks decides how a newer file differs from damage.
pub(super) fn check(bytes: &[u8], kind: Kind) -> Result<(), Refusal> {
    let (head, rest) = bytes.split_at(PREAMBLE.min(bytes.len()));
    let mut check = Check::begin(head, kind)?;
    check.add(rest);
    check.end()
}

/// The same for bytes that come in pieces.
#[derive(Debug)]
pub(crate) struct Check {
    crc: crc32fast::Hasher,
    expected: u32,
    /// What is said if the checksum is right.
    verdict: Result<(), Refusal>,
}

impl Check {
    /// Begins with the preamble, and what else is there.
    pub(super) fn begin(head: &[u8], kind: Kind) -> Result<Self, Refusal> {
        if !head.starts_with(&kind.magic) {
            return Err(Refusal::Magic);
        }
        if head.len() < PREAMBLE {
            return Err(Refusal::Checksum);
        }
        let verdict = match (u32_at(head, VERSION), features(head) & !kind.known) {
            (FORMAT_VERSION, 0) => Ok(()),
            (FORMAT_VERSION, unknown) => Err(Refusal::Features(unknown)),
            (0, _) => Err(Refusal::Impossible),
            (newer, _) => Err(Refusal::Version(newer)),
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[VERSION..]);
        Ok(Check { crc, expected: u32_at(head, CRC), verdict })
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
    }

    pub(crate) fn end(self) -> Result<(), Refusal> {
        if self.crc.finalize() == self.expected { self.verdict } else { Err(Refusal::Checksum) }
    }
}

/// The must-understand bits in a preamble.
pub(super) fn features(head: &[u8]) -> u64 {
    u64_at(head, INCOMPATIBLE)
}

/// The checksum in a preamble.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    u32_at(bytes, CRC)
}
