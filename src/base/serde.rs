//! What programs store and send of this crate: modes, tokens and outcomes as their texts, LSNs as numbers (feature `serde`).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::types::{CommitMode, Lsn, Outcome, Token};

/// Reads a text, borrowed or not.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text that forelog prints")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'d> Deserialize<'d> for $type {
            fn deserialize<D: Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(PhantomData))
            }
        }
    )+};
}
as_text!(CommitMode, Token, Outcome);

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.get())
    }
}

impl<'d> Deserialize<'d> for Lsn {
    fn deserialize<D: Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(Lsn::new)
    }
}
