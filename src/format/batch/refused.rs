//! Why bytes are not a batch.

use std::fmt;

use super::{MAX_BOUND_LEN, MAX_KEY_LEN, MAX_KEYSPACE_NAME_LEN, MAX_VALUE_LEN};

/// Why bytes are not a batch, or why an operation cannot be part of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Written by a version that this crate does not know.
    Version(u8),
    /// No operation has this tag.
    Tag(u8),
    /// It ends within an operation, or before its version.
    Truncated,
    /// A number is longer than necessary.
    NotMinimal,
    /// A number does not fit 32 bits.
    TooLarge,
    /// A key is longer than [`MAX_KEY_LEN`].
    KeyLength(usize),
    /// A bound of a range is more than one byte longer than [`MAX_KEY_LEN`].
    BoundLength(usize),
    /// A range ends where it begins, or before.
    EmptyRange,
    /// No range has this form.
    Form(u8),
    /// A value is longer than [`MAX_VALUE_LEN`].
    ValueLength(usize),
    /// The name of a keyspace is empty or longer than [`MAX_KEYSPACE_NAME_LEN`].
    NameLength(usize),
    /// The name of a keyspace is not UTF-8.
    NameEncoding,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Version(version) => write!(f, "batch version {version} is not known"),
            Reason::Tag(tag) => write!(f, "no operation has the tag {tag}"),
            Reason::Truncated => write!(f, "it ends too early"),
            Reason::NotMinimal => write!(f, "a number is longer than necessary"),
            Reason::TooLarge => write!(f, "a number does not fit 32 bits"),
            Reason::KeyLength(len) => write!(f, "a key of {len} bytes: the limit is {MAX_KEY_LEN}"),
            Reason::BoundLength(len) => write!(f, "a bound of {len} bytes: the limit is {MAX_BOUND_LEN}"),
            Reason::EmptyRange => write!(f, "a range that ends where it begins, or before"),
            Reason::Form(form) => write!(f, "no range has the form {form}"),
            Reason::ValueLength(len) => write!(f, "a value of {len} bytes: the limit is {MAX_VALUE_LEN}"),
            Reason::NameLength(len) => {
                write!(f, "a keyspace name of {len} bytes: 1 to {MAX_KEYSPACE_NAME_LEN} are allowed")
            }
            Reason::NameEncoding => write!(f, "a keyspace name is not UTF-8"),
        }
    }
}

impl std::error::Error for Reason {}

/// Bytes that are not a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The offset in the bytes at which the bad field begins.
    pub offset: usize,
    /// Why the field is refused.
    pub reason: Reason,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a batch: at byte {}: {}", self.offset, self.reason)
    }
}

impl std::error::Error for Malformed {}
