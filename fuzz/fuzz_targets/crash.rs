//! Operations, a power loss, and what may be left.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| forelog_fuzz::crash::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    forelog_fuzz::driver::main("crash", forelog_fuzz::crash::target);
}
