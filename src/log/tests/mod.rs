//! Tests of the log.
#![cfg(feature = "sim")]

mod support;

mod account;
mod closing;
mod cycles;
mod durable_first;
mod flips;
mod forked;
mod gather;
mod guards;
mod lineage;
mod mark;
mod media;
mod pace;
mod power;
mod reading;
mod refused;
mod required_segments;
mod salvage;
mod verdicts;
mod waiters;
