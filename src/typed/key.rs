//! Types that are keys: their bytes have their order.

use std::borrow::Borrow;

/// A type whose values are keys. The order of their bytes must be the order that scans are to have.
///
/// For a type of your own, made of others:
///
/// ```
/// use forelog::typed::TypedKey;
///
/// struct UserId(u64);
///
/// impl TypedKey for UserId {
///     type Borrowed = UserId;
///     fn encode_part(key: &UserId, to: &mut Vec<u8>) {
///         u64::encode_part(&key.0, to);
///     }
///     fn decode_part(bytes: &mut &[u8]) -> Option<UserId> {
///         u64::decode_part(bytes).map(UserId)
///     }
/// }
/// ```
pub trait TypedKey: Sized + Borrow<Self::Borrowed> {
    /// What a key is looked up by: `str` for `String`, otherwise the type itself.
    type Borrowed: ?Sized;

    /// Appends the bytes of a part of a key that more may follow: they must tell their own end.
    fn encode_part(key: &Self::Borrowed, to: &mut Vec<u8>);

    /// Takes a part from the front of `bytes`; `None` if it is none of this type.
    fn decode_part(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the bytes of a key, or of its last part: nothing follows.
    fn encode(key: &Self::Borrowed, to: &mut Vec<u8>) {
        Self::encode_part(key, to);
    }

    /// The key that has these bytes, and no others; `None` if there is none.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        Self::decode_part(&mut bytes).filter(|_| bytes.is_empty())
    }
}

/// What keys of the type `K` may begin with: for tuples their first parts, as a tuple; for `String` a `str`, for `Vec<u8>` bytes.
pub trait PrefixOf<K> {
    /// Appends the bytes with which those keys begin.
    fn encode_prefix(&self, to: &mut Vec<u8>);
}

impl PrefixOf<String> for str {
    fn encode_prefix(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }
}

impl PrefixOf<String> for String {
    fn encode_prefix(&self, to: &mut Vec<u8>) {
        self.as_str().encode_prefix(to);
    }
}

impl PrefixOf<Vec<u8>> for [u8] {
    fn encode_prefix(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

impl PrefixOf<Vec<u8>> for Vec<u8> {
    fn encode_prefix(&self, to: &mut Vec<u8>) {
        self.as_slice().encode_prefix(to);
    }
}

/// Takes so many bytes from the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

macro_rules! integers {
    ($($type:ty: $turned:expr),+) => {$(
        impl TypedKey for $type {
            type Borrowed = $type;

            fn encode_part(key: &$type, to: &mut Vec<u8>) {
                to.extend_from_slice(&(key ^ $turned).to_be_bytes());
            }

            fn decode_part(bytes: &mut &[u8]) -> Option<$type> {
                take(bytes).map(|bytes| <$type>::from_be_bytes(bytes) ^ $turned)
            }
        }
    )+};
}
integers!(u8: 0, u16: 0, u32: 0, u64: 0, u128: 0);
// The sign turned over: otherwise the negative ones would follow the others.
integers!(i8: i8::MIN, i16: i16::MIN, i32: i32::MIN, i64: i64::MIN, i128: i128::MIN);

impl TypedKey for () {
    type Borrowed = ();

    fn encode_part((): &(), _to: &mut Vec<u8>) {}

    fn decode_part(_bytes: &mut &[u8]) -> Option<()> {
        Some(())
    }
}

impl TypedKey for bool {
    type Borrowed = bool;

    fn encode_part(key: &bool, to: &mut Vec<u8>) {
        to.push(u8::from(*key));
    }

    fn decode_part(bytes: &mut &[u8]) -> Option<bool> {
        match take(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl TypedKey for char {
    type Borrowed = char;

    fn encode_part(key: &char, to: &mut Vec<u8>) {
        u32::encode_part(&u32::from(*key), to);
    }

    fn decode_part(bytes: &mut &[u8]) -> Option<char> {
        u32::decode_part(bytes).and_then(char::from_u32)
    }
}

impl<const N: usize> TypedKey for [u8; N] {
    type Borrowed = [u8; N];

    fn encode_part(key: &[u8; N], to: &mut Vec<u8>) {
        to.extend_from_slice(key);
    }

    fn decode_part(bytes: &mut &[u8]) -> Option<[u8; N]> {
        take(bytes)
    }
}

impl<T: TypedKey> TypedKey for Option<T> {
    type Borrowed = Option<T>;

    fn encode_part(key: &Option<T>, to: &mut Vec<u8>) {
        bool::encode_part(&key.is_some(), to);
        if let Some(key) = key {
            T::encode_part(key.borrow(), to);
        }
    }

    fn decode_part(bytes: &mut &[u8]) -> Option<Option<T>> {
        if bool::decode_part(bytes)? { T::decode_part(bytes).map(Some) } else { Some(None) }
    }

    fn encode(key: &Option<T>, to: &mut Vec<u8>) {
        bool::encode_part(&key.is_some(), to);
        if let Some(key) = key {
            T::encode(key.borrow(), to);
        }
    }

    fn decode(mut bytes: &[u8]) -> Option<Option<T>> {
        if bool::decode_part(&mut bytes)? { T::decode(bytes).map(Some) } else { bytes.is_empty().then_some(None) }
    }
}

/// Ends a part of bytes: no byte that follows makes it greater than a longer part with the same begin, which goes on with a byte
/// above `00`, or with `00 01`.
const END: [u8; 2] = [0, 0];
/// Stands for a byte `00` within such a part.
const ZERO: [u8; 2] = [0, 1];

impl TypedKey for Vec<u8> {
    type Borrowed = [u8];

    fn encode_part(key: &[u8], to: &mut Vec<u8>) {
        for byte in key {
            match byte {
                0 => to.extend_from_slice(&ZERO),
                byte => to.push(*byte),
            }
        }
        to.extend_from_slice(&END);
    }

    fn decode_part(bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        loop {
            let zero = bytes.iter().position(|byte| *byte == 0)?;
            key.extend_from_slice(&bytes[..zero]);
            *bytes = &bytes[zero..];
            match take(bytes)? {
                END => return Some(key),
                ZERO => key.push(0),
                _ => return None,
            }
        }
    }

    fn encode(key: &[u8], to: &mut Vec<u8>) {
        to.extend_from_slice(key);
    }

    fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }
}

impl TypedKey for String {
    type Borrowed = str;

    fn encode_part(key: &str, to: &mut Vec<u8>) {
        Vec::encode_part(key.as_bytes(), to);
    }

    fn decode_part(bytes: &mut &[u8]) -> Option<String> {
        Vec::decode_part(bytes).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    fn encode(key: &str, to: &mut Vec<u8>) {
        to.extend_from_slice(key.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<String> {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}
