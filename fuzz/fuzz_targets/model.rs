//! Operations against a model, with an I/O error at some point.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| forelog_fuzz::model::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    forelog_fuzz::driver::main("model", forelog_fuzz::model::target);
}
