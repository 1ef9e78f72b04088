//! The program as it is used, in the small; the campaign does all of it.

mod kill;
#[cfg(target_os = "linux")]
mod power;
