//! Tests of the `forelog` command: the real program, as its users have it.

mod backup;
mod beside;
mod cli;
mod cli_care;
mod common;
mod compact;
mod import;
mod limits;
mod outcome;
mod reading;
mod salvage;
mod table_file;
mod tables;
