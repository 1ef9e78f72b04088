//! The filter of a partition: a Bloom filter in lines of the length of a cache line (TABLES.md, section 2.3).

use super::super::fill::mix;
use super::data::Interval;
use crate::base::types::Lsn;

/// Length of a line: one cache line, so that a question waits for memory once.
pub(crate) const LINE: usize = 64;
/// Bits for each key in a run of the lowest layer, which has most of the keys.
const IN_LOWEST: usize = 10;
/// And in a run of any other. A read asks each of them before it comes to the lowest one; together they have half as many keys.
const ABOVE: usize = 16;
const BITS_PER_LINE: usize = 8 * LINE;
/// Bits set for each key.
const PROBES: u32 = 6;

/// The hash of a full key.
pub(crate) fn hash(full_key: &[u8]) -> u64 {
    let (words, rest) = full_key.as_chunks::<8>();
    let mut hash = mix(full_key.len() as u64);
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    if rest.is_empty() {
        return hash;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last))
}

/// How many bits a run with this interval has for each key.
pub(crate) fn bits_per_key(interval: Interval) -> usize {
    if interval.from == Lsn::ZERO { IN_LOWEST } else { ABOVE }
}

/// The filter of keys with these hashes, with so many bits for each.
pub(crate) fn build(hashes: &[u64], bits_per_key: usize) -> Vec<u8> {
    let lines = (hashes.len() * bits_per_key).div_ceil(BITS_PER_LINE).max(1);
    let mut filter = vec![0; lines * LINE];
    for hash in hashes {
        let start = line_of(*hash, lines) * LINE;
        for bit in bits_of(*hash) {
            filter[start + bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Whether the filter may have a key with this hash. `false` is certain. The filter is whole lines, at least one.
pub(crate) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let start = line_of(hash, filter.len() / LINE) * LINE;
    let line = &filter[start..start + LINE];
    bits_of(hash).all(|bit| line[bit / 8] & (1 << (bit % 8)) != 0)
}

fn line_of(hash: u64, lines: usize) -> usize {
    let line = (u128::from(hash >> 32) * lines as u128) >> 32;
    usize::try_from(line).expect("below the number of lines")
}

fn bits_of(hash: u64) -> impl Iterator<Item = usize> {
    let bits = mix(hash);
    (0..PROBES).map(move |probe| usize::try_from((bits >> (9 * probe)) % BITS_PER_LINE as u64).expect("below 512"))
}
