//! Care of what is on the medium: salvage, scrub, dump, and reading at a pace. It changes nothing of what it looks at.

#[cfg(feature = "unstable")]
pub(crate) mod dump;
pub(crate) mod pace;
pub(crate) mod salvage;
pub(crate) mod scrub;
#[cfg(feature = "unstable")]
pub(crate) mod table_file;

#[cfg(all(test, feature = "sim"))]
mod tests;
