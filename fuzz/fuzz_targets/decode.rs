//! Any bytes as any thing on disk, with checksums that hold.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| forelog_fuzz::decode::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    forelog_fuzz::driver::main("decode", forelog_fuzz::decode::target);
}
