//! The vocabulary: types, errors, options. Everything else imports from here; nothing here imports from elsewhere.

pub(crate) mod error;
pub(crate) mod excerpt;
pub(crate) mod options;
mod parse;
pub(crate) mod range_set;
pub(crate) mod search;
#[cfg(feature = "serde")]
mod serde;
pub(crate) mod types;
