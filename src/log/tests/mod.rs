//! Tests of the log. Those that cut the power, or have a disk that fails, need the simulated one.

#[cfg(feature = "sim")]
pub(crate) mod support;

#[cfg(feature = "sim")]
mod account;
#[cfg(feature = "sim")]
mod closing;
#[cfg(feature = "sim")]
mod cut;
#[cfg(feature = "sim")]
mod cycles;
#[cfg(feature = "sim")]
mod durable_first;
#[cfg(feature = "sim")]
mod flips;
#[cfg(feature = "sim")]
mod forked;
mod gather;
#[cfg(feature = "sim")]
mod guards;
#[cfg(feature = "sim")]
mod lineage;
#[cfg(feature = "sim")]
mod mark;
#[cfg(feature = "sim")]
mod media;
#[cfg(feature = "sim")]
mod power;
#[cfg(feature = "sim")]
mod prior;
#[cfg(feature = "sim")]
mod reading;
#[cfg(feature = "sim")]
mod refused;
#[cfg(feature = "sim")]
mod required_segments;
#[cfg(feature = "sim")]
mod retain;
#[cfg(feature = "sim")]
mod verdicts;
mod waiters;
#[cfg(feature = "sim")]
mod walk;
