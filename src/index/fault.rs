//! For tests: makes a read fail, as a read of a table may.

use std::cell::Cell;

use crate::base::error::{Error, ErrorKind, Result};

std::thread_local! {
    /// How many reads succeed before the one that fails.
    static NEXT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes one read on this thread fail, after `reads` that succeed.
pub(crate) fn read_fails_after(reads: usize) {
    NEXT.set(Some(reads));
}

/// Fails if this is the read that [`read_fails_after`] chose.
pub(super) fn strike() -> Result<()> {
    let left = NEXT.get();
    NEXT.set(left.and_then(|left| left.checked_sub(1)));
    if left == Some(0) { Err(Error::new(ErrorKind::Io, "a read failed on purpose")) } else { Ok(()) }
}
