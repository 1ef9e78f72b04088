//! One operation of a batch.

use std::fmt;

use super::refused::Reason;
use super::{MAX_BOUND_LEN, MAX_KEY_LEN, MAX_KEYSPACE_NAME_LEN, MAX_VALUE_LEN};

/// One operation of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets the value of a key.
    Put {
        /// The keyspace's id.
        keyspace: u32,
        /// The key.
        key: &'a [u8],
        /// Its value from now on.
        value: &'a [u8],
    },
    /// Removes a key, if it is there.
    Delete {
        /// The keyspace's id.
        keyspace: u32,
        /// The key.
        key: &'a [u8],
    },
    /// Removes all keys of a range, whether they are there or not.
    DeleteRange {
        /// The keyspace's id.
        keyspace: u32,
        /// The first key of the range.
        from: &'a [u8],
        /// The first key behind it; `None`: it goes to the end of the keyspace.
        to: Option<&'a [u8]>,
    },
    /// Creates a keyspace under an id that was never used.
    CreateKeyspace {
        /// The new keyspace's id.
        keyspace: u32,
        /// Its name.
        name: &'a str,
    },
    /// Drops a keyspace with all that is in it.
    DropKeyspace {
        /// The keyspace's id.
        keyspace: u32,
    },
}

impl<'a> Op<'a> {
    /// The keyspace that the operation is about.
    pub fn keyspace(&self) -> u32 {
        match *self {
            Op::Put { keyspace, .. }
            | Op::Delete { keyspace, .. }
            | Op::DeleteRange { keyspace, .. }
            | Op::CreateKeyspace { keyspace, .. }
            | Op::DropKeyspace { keyspace } => keyspace,
        }
    }

    /// Whether it writes to a keyspace, rather than creating or dropping one.
    pub fn is_write(&self) -> bool {
        matches!(self, Op::Put { .. } | Op::Delete { .. } | Op::DeleteRange { .. })
    }

    /// The key that it writes to, if it is one.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Op::Put { key, .. } | Op::Delete { key, .. } => Some(key),
            Op::DeleteRange { .. } | Op::CreateKeyspace { .. } | Op::DropKeyspace { .. } => None,
        }
    }

    /// Refuses an operation that could be encoded but not decoded.
    pub(super) fn check(&self) -> Result<(), Reason> {
        match self {
            Op::Put { key, value, .. } => check_key_len(key.len()).and_then(|()| check_value_len(value.len())),
            Op::Delete { key, .. } => check_key_len(key.len()),
            Op::DeleteRange { from, to, .. } => check_range(from, *to),
            Op::CreateKeyspace { name, .. } => check_name_len(name.len()),
            Op::DropKeyspace { .. } => Ok(()),
        }
    }
}

impl fmt::Debug for Op<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::base::excerpt::Excerpt;
        match self {
            Op::Put { keyspace, key, value } => write!(f, "Put({keyspace}, {:?} = {:?})", Excerpt(key), Excerpt(value)),
            Op::Delete { keyspace, key } => write!(f, "Delete({keyspace}, {:?})", Excerpt(key)),
            Op::DeleteRange { keyspace, from, to: Some(to) } => {
                write!(f, "DeleteRange({keyspace}, {:?}..{:?})", Excerpt(from), Excerpt(to))
            }
            Op::DeleteRange { keyspace, from, to: None } => write!(f, "DeleteRange({keyspace}, {:?}..)", Excerpt(from)),
            Op::CreateKeyspace { keyspace, name } => write!(f, "CreateKeyspace({keyspace}, {name:?})"),
            Op::DropKeyspace { keyspace } => write!(f, "DropKeyspace({keyspace})"),
        }
    }
}

/// The bytes that `op` takes in a batch.
pub fn encoded_len(op: &Op<'_>) -> usize {
    let field_len = |bytes: &[u8]| varint_len(bytes.len()) + bytes.len();
    let fields = match op {
        Op::Put { key, value, .. } => field_len(key) + field_len(value),
        Op::Delete { key, .. } => field_len(key),
        Op::DeleteRange { from, to, .. } => 1 + field_len(from) + to.map_or(0, field_len),
        Op::CreateKeyspace { name, .. } => field_len(name.as_bytes()),
        Op::DropKeyspace { .. } => 0,
    };
    1 + varint_len(usize::try_from(op.keyspace()).unwrap_or(usize::MAX)) + fields
}

pub(super) fn check_key_len(len: usize) -> Result<(), Reason> {
    if len <= MAX_KEY_LEN { Ok(()) } else { Err(Reason::KeyLength(len)) }
}

pub(super) fn check_value_len(len: usize) -> Result<(), Reason> {
    if len <= MAX_VALUE_LEN { Ok(()) } else { Err(Reason::ValueLength(len)) }
}

pub(super) fn check_bound_len(len: usize) -> Result<(), Reason> {
    if len <= MAX_BOUND_LEN { Ok(()) } else { Err(Reason::BoundLength(len)) }
}

/// A range that holds no key at all deletes nothing, and is not written.
pub(super) fn check_range(from: &[u8], to: Option<&[u8]>) -> Result<(), Reason> {
    check_bound_len(from.len())?;
    to.map_or(Ok(()), |to| check_bound_len(to.len()))?;
    if to.is_none_or(|to| from < to) { Ok(()) } else { Err(Reason::EmptyRange) }
}

pub(super) fn check_name_len(len: usize) -> Result<(), Reason> {
    if (1..=MAX_KEYSPACE_NAME_LEN).contains(&len) { Ok(()) } else { Err(Reason::NameLength(len)) }
}

fn varint_len(number: usize) -> usize {
    match number {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}
