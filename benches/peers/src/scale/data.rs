//! The keys and values of a run: all follow from numbers and a seed.

use crate::common::KEY_BYTES;

/// Spreads the bits of a number (splitmix64).
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The numbers below `size` in an order without a pattern, in no memory: a Feistel network of four rounds over the next even
/// power of two. What lies beyond `size` is encrypted again until it does not.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    size: u64,
    half: u32,
    seed: u64,
}

impl Order {
    /// `size` is at least 1.
    pub fn new(size: u64, seed: u64) -> Order {
        let bits = (u64::BITS - (size - 1).leading_zeros()).max(2);
        Order { size, half: bits.div_ceil(2), seed }
    }

    /// The number at a place of the order; `place` is below the size.
    pub fn at(&self, place: u64) -> u64 {
        let mut number = self.permuted(place);
        while number >= self.size {
            number = self.permuted(number);
        }
        number
    }

    fn permuted(&self, number: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (mix(right ^ mix(self.seed ^ round)) & mask));
        }
        left << self.half | right
    }
}

/// The keys of a run, by their rank.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    count: u64,
}

impl Keys {
    /// `count` is at least 1.
    pub fn new(count: u64) -> Keys {
        Keys { count }
    }

    /// The key of this rank, below the count. The ranks are spread over all of the first 8 bytes, and the last 8 follow no
    /// rule, so that the keys share few bytes.
    pub fn key(&self, rank: u64) -> [u8; KEY_BYTES] {
        self.with_end(rank, mix(rank) | 1)
    }

    /// A key that was never written, beside the one of this rank.
    pub fn absent(&self, rank: u64) -> [u8; KEY_BYTES] {
        self.with_end(rank, mix(rank) & !1)
    }

    fn with_end(&self, rank: u64, end: u64) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        let (head, tail) = key.split_at_mut(KEY_BYTES - 8);
        head.copy_from_slice(&(rank * (u64::MAX / self.count)).to_be_bytes());
        tail.copy_from_slice(&end.to_be_bytes());
        key
    }
}

/// Fills a value with bytes that no compression shortens, other ones for each key and each number of a `writing`.
pub fn fill_value(value: &mut [u8], rank: u64, writing: u64) {
    let mut state = mix(rank ^ mix(writing)) | 1;
    for piece in value.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
    }
}
