//! What the fuzz targets do with their input. Each is a function from bytes to nothing, which panics if something is
//! wrong; `fuzz_targets/` makes programs of them, `tests/fuzz.rs` of the crate runs each for a short while.

pub mod batch;
pub mod client;
pub mod crash;
pub mod decode;
pub mod driver;
pub mod model;
pub mod open;
pub mod table;

/// Panics if something is wrong with what its input makes of an engine.
pub type Target = fn(&[u8]);

/// The targets by name, with the folder of their seeds.
pub const TARGETS: [(&str, Target); 6] = [
    ("batch", batch::target),
    ("decode", decode::target),
    ("open", open::target),
    ("model", model::target),
    ("crash", crash::target),
    ("table", table::target),
];
