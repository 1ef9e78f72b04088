//! Tests of the engine.

#[cfg(feature = "sim")]
mod after_a_panic;
mod applied_together;
