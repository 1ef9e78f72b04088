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
//!
//! A `varint` is an unsigned 32-bit number in LEB128: seven bits in each byte, the low ones first (little-endian), the
//! top bit set in all but the last byte.
//!
//! A batch is **valid** if and only if
//! - its version is 1 and its operations end exactly where it ends;
//! - every tag is known;
//! - every `varint` fits 32 bits and is as short as it can be (its last byte is not zero, unless it is the only one);
//! - a key is at most 65,535 bytes long (it may be empty), a value at most 64 MiB, a name 1 to 255 bytes of UTF-8.
//!
//! So two batches with different bytes never have the same meaning. Whether a keyspace exists is not checked here.

use std::fmt;

/// The batch version that this crate writes, and the only one that it reads.
pub const BATCH_VERSION: u8 = 1;
/// The length of a batch without operations, in bytes: that of its version.
pub(crate) const EMPTY_LEN: usize = 1;
/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 65_535;
/// The longest value, in bytes.
pub const MAX_VALUE_LEN: usize = 64 << 20;
/// The longest name of a keyspace, in bytes of UTF-8. The shortest is one byte.
pub const MAX_KEYSPACE_NAME_LEN: usize = 255;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const CREATE_KEYSPACE: u8 = 3;
const DROP_KEYSPACE: u8 = 4;

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

impl Op<'_> {
    /// The keyspace that the operation is about.
    pub fn keyspace(&self) -> u32 {
        match *self {
            Op::Put { keyspace, .. }
            | Op::Delete { keyspace, .. }
            | Op::CreateKeyspace { keyspace, .. }
            | Op::DropKeyspace { keyspace } => keyspace,
        }
    }

    /// Whether it writes to a keyspace, rather than creating or dropping one.
    pub fn is_write(&self) -> bool {
        matches!(self, Op::Put { .. } | Op::Delete { .. })
    }

    /// Refuses an operation that could be encoded but not decoded.
    fn check(&self) -> Result<(), Reason> {
        match self {
            Op::Put { key, value, .. } => check_key_len(key.len()).and_then(|()| check_value_len(value.len())),
            Op::Delete { key, .. } => check_key_len(key.len()),
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
            Op::CreateKeyspace { keyspace, name } => write!(f, "CreateKeyspace({keyspace}, {name:?})"),
            Op::DropKeyspace { keyspace } => write!(f, "DropKeyspace({keyspace})"),
        }
    }
}

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

/// The bytes that `op` takes in a batch.
pub fn encoded_len(op: &Op<'_>) -> usize {
    let field_len = |bytes: &[u8]| varint_len(bytes.len()) + bytes.len();
    let fields = match op {
        Op::Put { key, value, .. } => field_len(key) + field_len(value),
        Op::Delete { key, .. } => field_len(key),
        Op::CreateKeyspace { name, .. } => field_len(name.as_bytes()),
        Op::DropKeyspace { .. } => 0,
    };
    1 + varint_len(usize::try_from(op.keyspace()).unwrap_or(usize::MAX)) + fields
}

/// Writes a batch.
#[derive(Clone)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: usize,
    only_writes: bool,
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
        BatchBuilder { bytes: batch, count: 0, only_writes: true }
    }

    /// Appends all operations of `batch`.
    pub fn append(&mut self, batch: &Batch<'_>) {
        self.bytes.extend_from_slice(&batch.bytes[1..]);
        self.count += batch.count;
        self.only_writes &= batch.only_writes;
    }

    /// Removes all operations and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(1);
        self.count = 0;
        self.only_writes = true;
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
            Op::CreateKeyspace { keyspace, name } => {
                self.head(CREATE_KEYSPACE, keyspace);
                self.field(name.as_bytes());
            }
            Op::DropKeyspace { keyspace } => self.head(DROP_KEYSPACE, keyspace),
        }
        self.count += 1;
        self.only_writes &= op.is_write();
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
        Batch { bytes: &self.bytes, count: self.count, only_writes: self.only_writes }
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
    only_writes: bool,
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
        let (mut count, mut only_writes) = (0, true);
        while reader.at < bytes.len() {
            only_writes &= reader.op()?.is_write();
            count += 1;
        }
        Ok(Batch { bytes, count, only_writes })
    }

    /// For tests: a batch that only a bug could make. Reading it panics.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn broken() -> Batch<'static> {
        Batch { bytes: &[BATCH_VERSION, u8::MAX], count: 1, only_writes: true }
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
        self.only_writes
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

/// A position in unchecked bytes.
#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn op(&mut self) -> Result<Op<'a>, Malformed> {
        let start = self.at;
        let tag = self.byte()?;
        if !(PUT..=DROP_KEYSPACE).contains(&tag) {
            return Err(Malformed { offset: start, reason: Reason::Tag(tag) });
        }
        let keyspace = self.varint()?;
        Ok(match tag {
            PUT => Op::Put { keyspace, key: self.field(check_key_len)?, value: self.field(check_value_len)? },
            DELETE => Op::Delete { keyspace, key: self.field(check_key_len)? },
            CREATE_KEYSPACE => Op::CreateKeyspace { keyspace, name: self.name()? },
            _ => Op::DropKeyspace { keyspace },
        })
    }

    fn name(&mut self) -> Result<&'a str, Malformed> {
        let offset = self.at;
        let bytes = self.field(check_name_len)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed { offset, reason: Reason::NameEncoding })
    }

    fn field(&mut self, check: fn(usize) -> Result<(), Reason>) -> Result<&'a [u8], Malformed> {
        let offset = self.at;
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        check(len).map_err(|reason| Malformed { offset, reason })?;
        let rest = &self.bytes[self.at..];
        let field = rest.get(..len).ok_or(Malformed { offset, reason: Reason::Truncated })?;
        self.at += len;
        Ok(field)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let offset = self.at;
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            let low = u32::from(byte & 0x7F);
            if shift == 28 && byte > 0x0F {
                return Err(Malformed { offset, reason: Reason::TooLarge });
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err(Malformed { offset, reason: Reason::NotMinimal }) } else { Ok(number) };
            }
        }
        Err(Malformed { offset, reason: Reason::TooLarge })
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed { offset: self.at, reason: Reason::Truncated })?;
        self.at += 1;
        Ok(byte)
    }
}

fn check_key_len(len: usize) -> Result<(), Reason> {
    if len <= MAX_KEY_LEN { Ok(()) } else { Err(Reason::KeyLength(len)) }
}

fn check_value_len(len: usize) -> Result<(), Reason> {
    if len <= MAX_VALUE_LEN { Ok(()) } else { Err(Reason::ValueLength(len)) }
}

fn check_name_len(len: usize) -> Result<(), Reason> {
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

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
