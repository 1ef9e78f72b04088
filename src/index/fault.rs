//! For tests: a read fails, as one of a table may.

use std::cell::Cell;

use crate::base::error::{Error, ErrorKind, Result};

std::thread_local! {
    /// How many reads succeed before the one that fails.
    static NEXT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has one read on this thread fail, after `reads` that succeed.
pub(crate) fn read_fails_after(reads: usize) {
    NEXT.set(Some(reads));
}

/// Fails if it is time.
pub(super) fn strike() -> Result<()> {
    let left = NEXT.get();
    NEXT.set(left.and_then(|left| left.checked_sub(1)));
    if left == Some(0) { Err(Error::new(ErrorKind::Io, "a read failed on purpose")) } else { Ok(()) }
}
