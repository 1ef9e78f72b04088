//! Tests of transactions.

mod reads;
#[cfg(feature = "sim")]
mod throttle;
