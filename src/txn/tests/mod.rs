//! Tests of transactions.

mod reads;
