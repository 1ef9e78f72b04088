//! An entry as bytes of its leaf: a header, the key unless it is long, and the value if it is stored in place.

use super::super::version::{LONGEST_KEY, Seq};
use super::shape::New;
use crate::base::types::Lsn;

/// Bytes of a header.
const LEN: usize = 24;
const NUMBER: usize = 4;

/// Where the value of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Nowhere: a tombstone.
    Deleted,
    InPlace,
    Shared,
}

/// What stands before a key in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) lsn: Lsn,
    pub(super) older: Seq,
    /// The length of a value in place, or the number of a shared value in the leaf.
    pub(super) value: u32,
    pub(super) key_len: u16,
    pub(super) form: Form,
}

impl Header {
    pub(super) const LEN: usize = LEN;

    pub(super) fn of(new: &New<'_>, form: Form, value: u32) -> Self {
        let key_len = u16::try_from(new.key.len()).expect("a key has at most 65,535 bytes");
        Header { lsn: new.version.lsn, older: new.version.older, value, key_len, form }
    }

    /// The header at `place`, and the bytes behind it.
    #[inline]
    pub(super) fn read(bytes: &[u8], place: u16) -> (Header, &[u8]) {
        let (header, rest) = bytes[usize::from(place)..].split_first_chunk().expect("a record is whole");
        (Header::decode(header), rest)
    }

    #[inline]
    pub(super) fn read_mut(bytes: &mut [u8], place: u16) -> (Header, &mut [u8]) {
        let (header, rest) = bytes[usize::from(place)..].split_first_chunk_mut().expect("a record is whole");
        (Header::decode(header), rest)
    }

    #[inline]
    fn decode(bytes: &[u8; LEN]) -> Header {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        let [i, j, k, l, m, n, o, p, rest @ ..] = rest;
        let [q, r, s, t, u, v, form, _] = rest;
        Header {
            lsn: Lsn::new(u64::from_ne_bytes([a, b, c, d, e, f, g, h])),
            older: Seq(u64::from_ne_bytes([i, j, k, l, m, n, o, p])),
            value: u32::from_ne_bytes([q, r, s, t]),
            key_len: u16::from_ne_bytes([u, v]),
            form: match form {
                0 => Form::Deleted,
                1 => Form::InPlace,
                _ => Form::Shared,
            },
        }
    }

    pub(super) fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&self.lsn.get().to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.older.0.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.value.to_ne_bytes());
        bytes[20..22].copy_from_slice(&self.key_len.to_ne_bytes());
        bytes[22] = match self.form {
            Form::Deleted => 0,
            Form::InPlace => 1,
            Form::Shared => 2,
        };
        bytes
    }

    pub(super) fn write(self, bytes: &mut [u8], place: u16) {
        bytes[usize::from(place)..][..LEN].copy_from_slice(&self.encode());
    }

    pub(super) fn is_long(self) -> bool {
        usize::from(self.key_len) > LONGEST_KEY
    }

    /// The bytes that the key, or its number, takes in the record.
    #[inline]
    pub(super) fn key_room(self) -> usize {
        if self.is_long() { NUMBER } else { usize::from(self.key_len) }
    }

    /// The number of a long key, read from the bytes behind the header.
    pub(super) fn key_number(self, rest: &[u8]) -> Option<u32> {
        rest.first_chunk().filter(|_| self.is_long()).map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// The bytes of a value in place; 0 for other forms.
    pub(super) fn value_len(self) -> usize {
        if self.form == Form::InPlace { self.value as usize } else { 0 }
    }

    /// The bytes of the whole record.
    pub(super) fn len(self) -> usize {
        LEN + self.key_room() + self.value_len()
    }
}
