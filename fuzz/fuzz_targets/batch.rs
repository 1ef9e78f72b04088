//! Any bytes either are a batch that reads back, or are refused; never a panic.
#![cfg_attr(fuzzing, no_main)]

use forelog::format::batch::{Batch, BatchBuilder};

fn target(bytes: &[u8]) {
    let Ok(batch) = Batch::parse(bytes) else { return };
    let mut again = BatchBuilder::new();
    for op in batch.iter() {
        again.push(&op).expect("what was read can be written");
    }
    assert_eq!(again.batch().bytes(), bytes, "one batch, one encoding");
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target(bytes));

#[cfg(not(fuzzing))]
mod driver;

#[cfg(not(fuzzing))]
fn main() {
    driver::drive(target);
}
