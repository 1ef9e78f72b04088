//! Tests of the `forelog` command: the real program, as its users have it.

mod cli;
mod salvage;
