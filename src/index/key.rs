//! Keys as the index holds them: short ones in place, so that a comparison needs no access to other memory.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use super::value::Value;
use crate::base::excerpt::Excerpt;

/// The longest key that is stored in place. With its length and the tag of the enum it takes three machine words.
const IN_PLACE: usize = 22;

/// A key as the database hands it out: immutable bytes, cheap to clone.
///
/// Dereferences to `[u8]`, and compares with slices, arrays and vectors of bytes. Printed for debugging, a long one is
/// cut.
#[derive(Clone)]
pub struct Key(Bytes);

#[derive(Clone)]
enum Bytes {
    InPlace { length: u8, bytes: [u8; IN_PLACE] },
    Shared(Arc<[u8]>),
}

impl Key {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Bytes::InPlace { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Shared(bytes) => bytes,
        }
    }

    /// The key, if it is short enough to be stored in place.
    pub(super) fn in_place(key: &[u8]) -> Option<Key> {
        let mut bytes = [0; IN_PLACE];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        let length = u8::try_from(key.len()).ok()?;
        Some(Key(Bytes::InPlace { length, bytes }))
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        Key::in_place(key).unwrap_or_else(|| Key(Bytes::Shared(key.into())))
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(key: &[u8; N]) -> Self {
        Key::from(key.as_slice())
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

// `Borrow` requires the equality, order and hash of the slice.
impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        match (&self.0, &other.0) {
            // Padded with zeros to one length, two keys compare as they do without the padding, unless one is the other
            // followed by zeros: then the shorter comes first. Comparing whole machine words is faster than comparing
            // slices.
            (Bytes::InPlace { length, bytes }, Bytes::InPlace { length: other_length, bytes: other_bytes }) => {
                words(bytes).cmp(&words(other_bytes)).then(length.cmp(other_length))
            }
            _ => self.as_slice().cmp(other.as_slice()),
        }
    }
}

/// The bytes as numbers in the same order.
fn words(bytes: &[u8; IN_PLACE]) -> (u64, u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, rest @ ..] = *bytes;
    let [q, r, s, t, u, v] = rest;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
        u64::from_be_bytes([q, r, s, t, u, v, 0, 0]),
    )
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

macro_rules! compares_with {
    ($($other:ty $(, $parameter:ident)?;)+) => {$(
        impl$(<const $parameter: usize>)? PartialEq<$other> for Key {
            fn eq(&self, other: &$other) -> bool {
                let other: &[u8] = other.as_ref();
                self.as_slice() == other
            }
        }
    )+};
}
compares_with!([u8]; &[u8]; [u8; N], N; &[u8; N], N; Vec<u8>; Value;);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{:?}", Excerpt(self.as_slice()))
    }
}
