//! Tests of the formats.

mod golden;
mod table;
