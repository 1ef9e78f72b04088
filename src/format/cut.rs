//! A write that was cut off within a word: the word begins with new bytes and ends with the fill that was there (A3).
//!
//! If the cut is before the last word of a header, or of a payload, the next word of it shows the fill, and it is torn by
//! that. What is here tells it for those two last words. Each byte that shows the fill is evidence for a cut, and the
//! checksum makes up for the others. The word behind is evidence, too: a write that was cut off wrote nothing there. A
//! word in which one flipped bit explains the same is not taken for cut, unless a payload that shows the fill follows.

use crc32fast::Hasher;

use super::fields::{put, u64_at};
use super::fill::Fill;
use super::frame::{self, Decoded, FRAME_HEADER, FRAME_HEADER_LEN, Header, KIND, KINDS, LENGTH, LSN};
use super::{WORD, pad8};

const WORD_LEN: usize = size_of::<u64>();
/// The fill in this number of bytes is evidence enough. For fewer missing bytes a checksum says more.
const ENOUGH: usize = 4;

/// What stands in the word behind the one that may be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behind {
    /// The fill: nothing landed there.
    Fill,
    /// Something that was written, in the same sector: so the write did not end before it (A3).
    Written,
    /// Nothing that says anything: another sector may have landed without this one (A6).
    Unknown,
}

/// Whether `word` is what a write of `new` over `old` leaves if it is cut off within the word.
fn is_cut(word: &[u8], new: &[u8], old: [u8; WORD_LEN]) -> bool {
    (1..WORD_LEN).any(|landed| word[..landed] == new[..landed] && word[landed..] == old[landed..])
}

/// Whether two words differ in more than one bit.
fn is_no_flip(word: &[u8], new: &[u8]) -> bool {
    word.iter().zip(new).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() > 1
}

/// Whether `bytes` are a header at `position` whose last word was cut. The length and the kind, which that word has, are
/// tried: the LSN leaves eight lengths.
pub(crate) fn header_was_cut(
    bytes: &[u8; FRAME_HEADER_LEN],
    position: u64,
    limit: u64,
    identity: &Hasher,
    fill: Fill,
    behind: Behind,
) -> bool {
    if behind == Behind::Written {
        return false;
    }
    let Some(padded) = u64_at(bytes, LSN).checked_sub(position).and_then(|end| end.checked_sub(FRAME_HEADER)) else {
        return false;
    };
    let old = fill.word(position + LENGTH as u64);
    let lengths = (padded.saturating_sub(WORD - 1)..=padded).filter(|length| pad8(*length) == padded);
    lengths.filter_map(|length| u32::try_from(length).ok()).any(|length| {
        KINDS.iter().any(|kind| {
            let mut whole = *bytes;
            whole[LENGTH..].fill(0);
            put(&mut whole, LENGTH, &length.to_le_bytes());
            whole[KIND] = *kind as u8;
            // The payload is torn, whatever became of the header.
            let has_torn_payload = length > 0 && behind == Behind::Fill;
            is_cut(&bytes[LENGTH..], &whole[LENGTH..], old)
                && (has_torn_payload || is_no_flip(&bytes[LENGTH..], &whole[LENGTH..]))
                && matches!(frame::decode(&whole, position, limit, identity), Decoded::Valid(_))
        })
    })
}

/// Whether `padded`, the payload at `position` with its padding, belongs to a write of a payload with this header that was
/// cut within its last word.
pub(crate) fn payload_was_cut(header: &Header, padded: &[u8], position: u64, fill: Fill, behind: Behind) -> bool {
    if behind == Behind::Written {
        return false;
    }
    let Some((before, last)) = padded.split_last_chunk::<WORD_LEN>() else { return false };
    let old = fill.word(position + before.len() as u64);
    // Bytes of the payload in the last word, one at least; the others are padding.
    let inside = header.length as usize - before.len();
    (1..WORD_LEN).any(|landed| {
        let missing = inside.saturating_sub(landed);
        let shows_a_cut =
            last[landed..] == old[landed..] && last[inside.min(landed)..landed].iter().all(|byte| *byte == 0);
        let completed = || {
            let payload = &padded[..before.len() + inside - missing];
            let rest = completion(payload, missing, header.payload_crc)?;
            let mut whole = [0; WORD_LEN];
            whole[..inside - missing].copy_from_slice(&last[..inside - missing]);
            whole[inside - missing..inside].copy_from_slice(&rest[..missing]);
            Some(whole)
        };
        shows_a_cut && (missing >= ENOUGH || completed().is_some_and(|whole| is_no_flip(last, &whole)))
    })
}

/// The `missing` bytes behind `landed` that give a payload with this checksum.
fn completion(landed: &[u8], missing: usize, payload_crc: u32) -> Option<[u8; 4]> {
    let mut so_far = Hasher::new();
    so_far.update(landed);
    let values = (0..1_u32 << (8 * missing)).map(u32::to_le_bytes);
    values.into_iter().find(|value| {
        let mut hasher = so_far.clone();
        hasher.update(&value[..missing]);
        hasher.finalize() == payload_crc
    })
}
