//! The vocabulary: types, errors, options, and the four doors through which time, threads, randomness and the
//! process enter. Everything else imports from here; nothing here imports from the layers above.

pub mod clock;
pub mod entropy;
pub mod error;
pub mod options;
pub mod process;
#[cfg(feature = "sim")]
pub mod schedule;
pub mod sync;
pub mod types;
