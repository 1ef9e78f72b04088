//! The bytes on disk, and the decision table of recovery: SPECIFICATION.md, which `forelog::specification` shows.

pub(crate) mod batch;
pub(crate) mod cut;
pub(crate) mod features;
pub(crate) mod fill;
pub(crate) mod frame;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod mark;
pub(crate) mod refusal;
pub(crate) mod segment;
#[allow(dead_code, reason = "no checkpoint writes them yet, and no two builds use the same part")]
pub(crate) mod table;
pub(crate) mod verdict;

mod fields;
mod preamble;

#[cfg(test)]
mod tests;

pub(crate) use preamble::Check;
pub(crate) use refusal::Refusal;

/// The format version that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Everything in a segment is aligned to this unit, which lands whole (A1).
pub(crate) const WORD: u64 = 8;

/// `length` rounded up to whole words.
pub(crate) const fn pad8(length: u64) -> u64 {
    length.next_multiple_of(WORD)
}
