//! Tests of the care of a log, on the simulated disk.

mod pace;
mod salvage;
