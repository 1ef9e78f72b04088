//! Any bytes as a batch.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| forelog_fuzz::batch::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    forelog_fuzz::driver::main("batch", forelog_fuzz::batch::target);
}
