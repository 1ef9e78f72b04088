//! Keys and values with types, over keyspaces of bytes.
//!
//! A [`TypedKeyspace`] says what the keys and values of a keyspace are. Reads and writes go through the transaction, snapshot or batch
//! that they belong to:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = forelog::Engine::in_memory()?;
//! use forelog::CommitMode;
//! use forelog::typed::TypedKeyspace;
//!
//! // Readings of sensors: which sensor and when, and how warm it was.
//! let readings = TypedKeyspace::<(String, u64), f64>::create(&engine, "readings")?;
//! engine.transact(CommitMode::Async, |tx| {
//!     tx.typed(&readings).put(&("attic".into(), 1), &21.5)?;
//!     tx.typed(&readings).put(&("attic".into(), 2), &22.0)?;
//!     tx.typed(&readings).put(&("cellar".into(), 1), &12.0)
//! })?;
//!
//! let snapshot = engine.snapshot()?;
//! let attic = snapshot.typed(&readings).prefix(&("attic".to_owned(),))?;
//! let warmest = attic.map(|entry| entry.map(|(_, celsius)| celsius)).try_fold(f64::MIN, |most, now| now.map(|now| most.max(now)))?;
//! assert_eq!(warmest, 22.0);
//! # Ok(()) }
//! ```
//!
//! The order of keys is that of their type: numbers by their value, text by its bytes, tuples by their first part, then the second. What is
//! on disk are the bytes that the types give, and nothing that says which types they were: a program that reads a keyspace with other types
//! than it was written with gets [`WrongType`](crate::ErrorKind::WrongType), or, where the bytes happen to fit, other values. A keyspace of
//! `String` keys is the same as one that is written without types.
//!
//! | type | bytes |
//! |---|---|
//! | `u8` to `u128` | big endian |
//! | `i8` to `i128` | big endian, with the sign bit turned over in keys |
//! | `f32`, `f64` (values only) | their bits, big endian |
//! | `bool`, `char`, `()` | one byte; four bytes, big endian; none |
//! | `String`, `Vec<u8>`, `[u8; N]` | as they are |
//! | tuples (keys only) | their parts one after another; `String` and `Vec<u8>` that are not the last part end with `00 00`, and a byte `00` in them is `00 01` |
//! | `Option` (keys only) | `00` for `None`, which is the least; `01` and the bytes of what there is |
//! | `Json` (values only; feature `serde`) | JSON of anything that serde knows |
//!
//! Types of your own: [`TypedKey`], [`TypedValue`].

mod key;
mod keyspace;
mod tuple;
mod value;
mod view;

pub use key::{PrefixOf, TypedKey};
pub use keyspace::TypedKeyspace;
#[cfg(feature = "serde")]
pub use value::Json;
pub use value::TypedValue;
pub use view::{Reads, Typed, TypedEntries, Writes};
