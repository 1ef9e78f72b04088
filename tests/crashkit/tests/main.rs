//! What the crash tests are made of, itself under test.

mod events;
mod ledger;
mod shrink;
