//! The fill: the content of a segment where nothing has landed yet (specification, section 2.2).
//!
//! The word at position `p` (a multiple of 8) is `mix(k + p)`, little-endian, with `k` a digest of the segment's
//! identity: `k = mix(k ^ word)` over its six 8-byte words, from zero.

use super::WORD;
use super::identity::Identity;

/// The finalizer of splitmix64 after one step of its counter.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The fill of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    key: u64,
}

impl Fill {
    pub(crate) fn new(identity: Identity) -> Self {
        let bytes = identity.to_bytes();
        let (words, _) = bytes.as_chunks::<8>();
        Fill { key: words.iter().fold(0, |key, word| mix(key ^ u64::from_le_bytes(*word))) }
    }

    /// The word at `position` while nothing has landed there.
    pub(crate) fn word(self, position: u64) -> [u8; 8] {
        mix(self.key.wrapping_add(position)).to_le_bytes()
    }

    /// Writes the fill over `bytes`, whose first byte is at `position`. `bytes` and `position` are whole words.
    pub(crate) fn write(self, bytes: &mut [u8], position: u64) {
        let (words, rest) = bytes.as_chunks_mut::<8>();
        debug_assert!(rest.is_empty() && position.is_multiple_of(WORD));
        let mut at = position;
        for word in words {
            *word = self.word(at);
            at += WORD;
        }
    }

    /// The number of words in `bytes`, whose first byte is at `position`, that show the fill.
    pub(crate) fn count(self, bytes: &[u8], position: u64) -> usize {
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().zip((position..).step_by(8)).filter(|(word, at)| **word == self.word(*at)).count()
    }
}
