//! Runs: files that hold what an interval of the log did to a range of keys, sorted. Written once, read block by block
//! (`format/TABLES.md`, section 2.3).

pub(crate) mod cursor;
pub(crate) mod read;
pub(crate) mod rescue;
pub(crate) mod write;

#[cfg(test)]
mod tests;
