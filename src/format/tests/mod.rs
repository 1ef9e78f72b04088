//! Tests of the formats.

mod fixtures;
mod golden;
mod table;
