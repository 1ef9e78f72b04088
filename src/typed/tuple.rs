//! Tuples as keys: by the first part, then by the second.

use super::key::{PrefixOf, TypedKey};

/// A tuple of the parts that are named, and of a last one.
macro_rules! tuples {
    ($(($($part:ident $number:tt)*; $last:ident $end:tt)),+) => {$(
        impl<$($part: TypedKey,)* $last: TypedKey> TypedKey for ($($part,)* $last,) {
            type Borrowed = Self;

            fn encode_part(key: &Self, to: &mut Vec<u8>) {
                $($part::encode_part(key.$number.borrow(), to);)*
                $last::encode_part(key.$end.borrow(), to);
            }

            fn decode_part(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($part::decode_part(bytes)?,)* $last::decode_part(bytes)?,))
            }

            fn encode(key: &Self, to: &mut Vec<u8>) {
                $($part::encode_part(key.$number.borrow(), to);)*
                $last::encode(key.$end.borrow(), to);
            }

            #[allow(unused_mut, reason = "a tuple of one part has nothing before the last")]
            fn decode(mut bytes: &[u8]) -> Option<Self> {
                Some(($($part::decode_part(&mut bytes)?,)* $last::decode(bytes)?,))
            }
        }
    )+};
}
tuples!(
    (; A 0),
    (A 0; B 1),
    (A 0 B 1; C 2),
    (A 0 B 1 C 2; D 3),
    (A 0 B 1 C 2 D 3; E 4),
    (A 0 B 1 C 2 D 3 E 4; F 5)
);

/// The first parts of tuples that have more.
macro_rules! prefixes {
    ($(($($part:ident)+; $($rest:ident)+)),+) => {$(
        impl<$($part: TypedKey,)+ $($rest: TypedKey),+> PrefixOf<($($part,)+ $($rest,)+)> for ($($part,)+) {
            fn encode_prefix(&self, to: &mut Vec<u8>) {
                Self::encode_part(self, to);
            }
        }
    )+};
}
prefixes!(
    (A; B),
    (A; B C),
    (A; B C D),
    (A; B C D E),
    (A; B C D E F),
    (A B; C),
    (A B; C D),
    (A B; C D E),
    (A B; C D E F),
    (A B C; D),
    (A B C; D E),
    (A B C; D E F),
    (A B C D; E),
    (A B C D; E F),
    (A B C D E; F)
);
