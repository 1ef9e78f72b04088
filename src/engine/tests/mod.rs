//! Tests of the engine.

mod after_a_panic;
mod applied_together;
mod failing_reads;
