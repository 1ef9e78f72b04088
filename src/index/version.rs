//! One version of a key, as it is written and read, and the direction of a scan.

use crate::base::types::Lsn;

use super::value::Value;

/// A value of more bytes is allocated on its own, and readers share it. A smaller one lies with its key, and each
/// reader gets a copy.
pub(super) const MOST_IN_PLACE: usize = 1024;

/// A longer key is allocated on its own, too: its record has the number under which its leaf has it instead.
pub(super) const LONGEST_KEY: usize = 1024;

/// The value of a version, or its absence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// A tombstone.
    Deleted,
    InPlace(&'a [u8]),
    Shared(&'a Value),
}

impl Content<'_> {
    pub(super) fn is_deleted(self) -> bool {
        matches!(self, Content::Deleted)
    }

    /// The value, if there is one.
    #[inline]
    pub(super) fn value(self) -> Option<Value> {
        match self {
            Content::Deleted => None,
            Content::InPlace(bytes) => Some(Value::from(bytes)),
            Content::Shared(value) => Some(value.clone()),
        }
    }
}

/// A copy of a value that is too large to lie in a leaf. `None` for smaller ones.
pub(super) fn share(value: Option<&[u8]>) -> Option<Value> {
    value.filter(|value| value.len() > MOST_IN_PLACE).map(Value::from)
}

/// The bytes that a value takes outside of the leaf.
pub(super) fn large_len(content: Content<'_>) -> usize {
    if let Content::Shared(value) = content { value.len() } else { 0 }
}

/// The bytes that a key takes outside of the leaf, as long as it has a record.
pub(super) fn long_key_len(key: &[u8]) -> usize {
    if key.len() > LONGEST_KEY { key.len() } else { 0 }
}

/// The bytes that a record takes outside of the leaf.
pub(super) fn outside_len(key: &[u8], content: Content<'_>) -> usize {
    long_key_len(key) + large_len(content)
}

pub(super) fn content<'a>(value: Option<&'a [u8]>, shared: Option<&'a Value>) -> Content<'a> {
    match (shared, value) {
        (Some(value), _) => Content::Shared(value),
        (None, Some(value)) => Content::InPlace(value),
        (None, None) => Content::Deleted,
    }
}

/// What memory says of a key at an LSN.
#[derive(Debug)]
pub(super) enum Look<T = Value> {
    /// A value, or what was asked of it; or `None`: it was deleted.
    Found(Option<T>),
    /// There is none. Layers have that, too, if they have all up to this LSN: the newest deletion that left no trace.
    Absent(#[cfg_attr(not(debug_assertions), expect(dead_code, reason = "a check of debug builds asks"))] Lsn),
    /// Layers may have it. If they end below this LSN, they do not know that it was deleted with a range.
    Unknown(Lsn),
}

/// Names a version among the [superseded ones](super::undo::Undo).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seq(pub(super) u64);

impl Seq {
    /// No version was superseded.
    pub(super) const NONE: Seq = Seq(0);
}

/// A version of a key, and the name of its predecessor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'a> {
    pub(super) lsn: Lsn,
    pub(super) older: Seq,
    pub(super) content: Content<'a>,
}

/// The direction of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Forward,
    Backward,
}
