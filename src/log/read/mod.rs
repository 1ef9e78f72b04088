//! Reading the log: frames from files, records from frames, positions that a caller brings along.

pub(crate) mod reader;
pub(crate) mod record_end;
pub(crate) mod scan;
pub(crate) mod walk;
