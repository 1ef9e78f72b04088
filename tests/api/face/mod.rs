//! The public face: what a program that uses the crate can write, sees printed, and is told.

mod bounds;
#[cfg(feature = "sim")]
mod errors;
mod printed;
mod words;
