//! Any changes to the files of a database, and an open.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| forelog_fuzz::open::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    forelog_fuzz::driver::main("open", forelog_fuzz::open::target);
}
