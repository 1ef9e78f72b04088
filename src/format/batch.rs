//! The batch: the operations of one transaction, as the payload of its record.
//!
//! | part | size | field |
//! |---|---|---|
//! | version | 1 | batch version (1) |
//! | operations | the rest | zero or more, one after the other, in the order in which they take effect |
//!
//! An operation is a tag of one byte, the id of its keyspace, and the fields of the tag:
//!
//! | tag | operation | fields after the tag |
//! |---|---|---|
//! | 1 | Put | keyspace `varint`, key length `varint`, key, value length `varint`, value |
//! | 2 | Delete | keyspace `varint`, key length `varint`, key |
//! | 3 | CreateKeyspace | keyspace `varint`, name length `varint`, name |
//! | 4 | DropKeyspace | keyspace `varint` |
//! | 5 | DeleteRange | keyspace `varint`, form (1 byte), length of `from` `varint`, `from`; with form 1 also: length of `to` `varint`, `to` |
//!
//! A DeleteRange deletes each key that is at or above `from`: with form 1 below `to`, with form 0 to the end of its keyspace.
//!
//! A `varint` is an unsigned 32-bit number in LEB128: seven bits in each byte, the low ones first (little-endian), the
//! top bit set in all but the last byte.
//!
//! A batch is **valid** if and only if
//! - its version is 1 and its operations end exactly where it ends;
//! - every tag is known;
//! - every `varint` fits 32 bits and is as short as it can be (its last byte is not zero, unless it is the only one);
//! - a key is at most 65,535 bytes long (it may be empty), a value at most 64 MiB, a name 1 to 255 bytes of UTF-8;
//! - a form is 0 or 1, `from` and `to` are at most 65,536 bytes long (so that the longest key has an end), and `from` is below `to`.
//!
//! So two batches with different bytes never have the same operations. Whether a keyspace exists is not checked here.

mod effect;
mod op;
mod reader;
mod refused;

use std::fmt;

pub(crate) use effect::Effective;
pub use op::{Op, encoded_len};
use reader::Reader;
pub use refused::{Malformed, Reason};

/// The batch version that this crate writes, and the only one that it reads.
pub const BATCH_VERSION: u8 = 1;
/// The length of a batch without operations, in bytes: that of its version.
pub(crate) const EMPTY_LEN: usize = 1;
/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 65_535;
/// The longest bound of a range, in bytes: what comes right behind the longest key.
pub(crate) const MAX_BOUND_LEN: usize = MAX_KEY_LEN + 1;
/// The longest value, in bytes.
pub const MAX_VALUE_LEN: usize = 64 << 20;
/// The longest name of a keyspace, in bytes of UTF-8. The shortest is one byte.
pub const MAX_KEYSPACE_NAME_LEN: usize = 255;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const CREATE_KEYSPACE: u8 = 3;
const DROP_KEYSPACE: u8 = 4;
const DELETE_RANGE: u8 = 5;

/// The forms of a range.
const TO_THE_END: u8 = 0;
const UP_TO: u8 = 1;

/// What the operations of a batch are, besides puts and deletions of one key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Kinds {
    /// It creates or drops a keyspace.
    has_changes: bool,
    /// It deletes a range.
    has_ranges: bool,
}

impl Kinds {
    fn note(&mut self, op: &Op<'_>) {
        self.has_changes |= !op.is_write();
        self.has_ranges |= matches!(op, Op::DeleteRange { .. });
    }

    fn join(&mut self, other: Kinds) {
        self.has_changes |= other.has_changes;
        self.has_ranges |= other.has_ranges;
    }
}

/// Writes a batch.
#[derive(Clone)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: usize,
    kinds: Kinds,
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batch().fmt(f)
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without operations.
    pub fn new() -> Self {
        Self::with_capacity(EMPTY_LEN)
    }

    /// The same, with room for `bytes` bytes in all.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut batch = Vec::with_capacity(bytes);
        batch.push(BATCH_VERSION);
        BatchBuilder { bytes: batch, count: 0, kinds: Kinds::default() }
    }

    /// Appends all operations of `batch`.
    pub fn append(&mut self, batch: &Batch<'_>) {
        self.bytes.extend_from_slice(&batch.bytes[1..]);
        self.count += batch.count;
        self.kinds.join(batch.kinds);
    }

    /// Removes all operations and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(1);
        self.count = 0;
        self.kinds = Kinds::default();
    }

    /// Appends an operation. Refuses one that is over a limit, and then appends nothing.
    pub fn push(&mut self, op: &Op<'_>) -> Result<(), Reason> {
        op.check()?;
        self.bytes.reserve(encoded_len(op));
        match *op {
            Op::Put { keyspace, key, value } => {
                self.head(PUT, keyspace);
                self.field(key);
                self.field(value);
            }
            Op::Delete { keyspace, key } => {
                self.head(DELETE, keyspace);
                self.field(key);
            }
            Op::DeleteRange { keyspace, from, to } => {
                self.head(DELETE_RANGE, keyspace);
                self.bytes.push(if to.is_some() { UP_TO } else { TO_THE_END });
                self.field(from);
                to.into_iter().for_each(|to| self.field(to));
            }
            Op::CreateKeyspace { keyspace, name } => {
                self.head(CREATE_KEYSPACE, keyspace);
                self.field(name.as_bytes());
            }
            Op::DropKeyspace { keyspace } => self.head(DROP_KEYSPACE, keyspace),
        }
        self.count += 1;
        self.kinds.note(op);
        Ok(())
    }

    /// Appends a `Put`.
    pub fn put(&mut self, keyspace: u32, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        self.push(&Op::Put { keyspace, key, value })
    }

    /// Appends a `Delete`.
    pub fn delete(&mut self, keyspace: u32, key: &[u8]) -> Result<(), Reason> {
        self.push(&Op::Delete { keyspace, key })
    }

    /// Appends a `DeleteRange`: of the keys from `from` on, up to and without `to`.
    pub fn delete_range(&mut self, keyspace: u32, from: &[u8], to: Option<&[u8]>) -> Result<(), Reason> {
        self.push(&Op::DeleteRange { keyspace, from, to })
    }

    /// Appends a `CreateKeyspace`.
    pub fn create_keyspace(&mut self, keyspace: u32, name: &str) -> Result<(), Reason> {
        self.push(&Op::CreateKeyspace { keyspace, name })
    }

    /// Appends a `DropKeyspace`.
    pub fn drop_keyspace(&mut self, keyspace: u32) -> Result<(), Reason> {
        self.push(&Op::DropKeyspace { keyspace })
    }

    /// The bytes of the batch so far.
    #[allow(clippy::len_without_is_empty, reason = "the version is always there")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The batch so far.
    pub fn batch(&self) -> Batch<'_> {
        Batch { bytes: &self.bytes, count: self.count, kinds: self.kinds }
    }

    fn head(&mut self, tag: u8, keyspace: u32) {
        self.bytes.push(tag);
        self.varint(keyspace);
    }

    fn field(&mut self, bytes: &[u8]) {
        self.varint(u32::try_from(bytes.len()).expect("the limits are far below"));
        self.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut number: u32) {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }
}

/// A valid batch, borrowed from its bytes.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    count: usize,
    kinds: Kinds,
}

/// Prints sizes only: the contents belong to the user.
impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("operations", &self.count).field("bytes", &self.bytes.len()).finish()
    }
}

impl<'a> Batch<'a> {
    /// Checks all of `bytes`. Allocates nothing.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(&BATCH_VERSION) => {}
            Some(&version) => return Err(Malformed { offset: 0, reason: Reason::Version(version) }),
            None => return Err(Malformed { offset: 0, reason: Reason::Truncated }),
        }
        let mut reader = Reader { bytes, at: 1 };
        let (mut count, mut kinds) = (0, Kinds::default());
        while reader.at < bytes.len() {
            kinds.note(&reader.op()?);
            count += 1;
        }
        Ok(Batch { bytes, count, kinds })
    }

    /// For tests: a batch that only a bug could make. Reading it panics.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn broken() -> Batch<'static> {
        Batch { bytes: &[BATCH_VERSION, u8::MAX], count: 1, kinds: Kinds::default() }
    }

    /// All bytes, as they go to the log.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it creates and drops no keyspace.
    pub fn only_writes(&self) -> bool {
        !self.kinds.has_changes
    }

    /// Whether it deletes a range.
    pub fn has_ranges(&self) -> bool {
        self.kinds.has_ranges
    }

    /// The operations in order, without the writes of which a later deletion of a range in the batch leaves nothing.
    pub(crate) fn effective(&self) -> Effective<'a> {
        Effective::new(self)
    }

    /// The operations in order.
    pub fn iter(&self) -> Ops<'a> {
        Ops { reader: Reader { bytes: self.bytes, at: 1 } }
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Op<'a>;
    type IntoIter = Ops<'a>;

    fn into_iter(self) -> Ops<'a> {
        self.iter()
    }
}

/// The operations of a [`Batch`].
#[derive(Clone)]
pub struct Ops<'a> {
    reader: Reader<'a>,
}

impl fmt::Debug for Ops<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ops")
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        let is_more = self.reader.at < self.reader.bytes.len();
        is_more.then(|| self.reader.op().expect("these bytes were checked, or built here"))
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
