//! Fields one after the other, of which none reaches beyond the end.

use std::cmp::Ordering;

use super::MAX_BOUND;

/// Reads fields from the front of bytes. `None` means that they end too early or break a rule; the caller refuses them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `count` bytes that must be zero.
    pub(super) fn zeros(&mut self, count: usize) -> Option<()> {
        self.bytes(count)?.iter().all(|byte| *byte == 0).then_some(())
    }

    /// A varint in its shortest form.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7F);
            if low << shift >> shift != low {
                return None;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// A length, and so many bytes.
    pub(super) fn field(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.bytes(length)
    }

    /// The same for a bound.
    pub(super) fn bound(&mut self) -> Option<&'a [u8]> {
        self.field().filter(|bound| bound.len() <= MAX_BOUND)
    }

    /// Replaces `last` by the byte string that follows it, which was written with [`put_shared`]. Returns how the former
    /// compares with the new one.
    pub(super) fn shared(&mut self, last: &mut Vec<u8>) -> Option<Ordering> {
        let (shared, rest) = (self.length()?, self.length()?);
        let rest = self.bytes(rest)?;
        let (was, is) = (last.get(shared..)?.first().copied(), rest.first().copied());
        // The prefix must be the longest one, so that one string has one form.
        if (was.is_some() && was == is) || shared + rest.len() > MAX_BOUND {
            return None;
        }
        last.truncate(shared);
        last.extend_from_slice(rest);
        Some(was.cmp(&is))
    }
}

pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        bytes.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    bytes.push(low);
}

pub(super) fn put_field(bytes: &mut Vec<u8>, field: &[u8]) {
    put_varint(bytes, field.len() as u64);
    bytes.extend_from_slice(field);
}

/// Writes `next` as what it adds to `last`, which it replaces.
pub(super) fn put_shared(bytes: &mut Vec<u8>, last: &mut Vec<u8>, next: &[u8]) {
    let shared = common_prefix(last, next);
    put_varint(bytes, shared as u64);
    put_field(bytes, &next[shared..]);
    last.truncate(shared);
    last.extend_from_slice(&next[shared..]);
}

/// The length of the longest common prefix.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
