//! An entry as bytes of its leaf: a header, the key, and a value that lies in place.

use super::super::version::Seq;
use crate::words::types::Lsn;

/// Bytes of a header.
const LEN: usize = 24;

/// Where the value of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Nowhere: a tombstone.
    Deleted,
    InPlace,
    Shared,
}

/// What stands before a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) lsn: Lsn,
    pub(super) older: Seq,
    /// The length of a value in place, or which of the shared values of the leaf it is.
    pub(super) value: u32,
    pub(super) key_len: u16,
    pub(super) form: Form,
}

impl Header {
    pub(super) fn new(lsn: Lsn, older: Seq, key: &[u8], form: Form, value: u32) -> Self {
        let key_len = u16::try_from(key.len()).expect("a key has at most 65,535 bytes");
        Header { lsn, older, value, key_len, form }
    }

    /// The header at `place`, and the bytes behind it.
    #[inline]
    pub(super) fn read(bytes: &[u8], place: u32) -> (Header, &[u8]) {
        let (header, rest) = bytes[place as usize..].split_first_chunk().expect("a record is whole");
        (Header::decode(header), rest)
    }

    #[inline]
    pub(super) fn read_mut(bytes: &mut [u8], place: u32) -> (Header, &mut [u8]) {
        let (header, rest) = bytes[place as usize..].split_first_chunk_mut().expect("a record is whole");
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

    fn encode(self) -> [u8; LEN] {
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

    pub(super) fn write(self, bytes: &mut [u8], place: u32) {
        bytes[place as usize..][..LEN].copy_from_slice(&self.encode());
    }

    pub(super) fn append(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.encode());
    }

    pub(super) fn key_len(self) -> usize {
        usize::from(self.key_len)
    }

    /// The bytes of a value in place.
    pub(super) fn value_len(self) -> usize {
        if self.form == Form::InPlace { self.value as usize } else { 0 }
    }

    /// The bytes of the record.
    pub(super) fn len(self) -> usize {
        LEN + self.key_len() + self.value_len()
    }
}
