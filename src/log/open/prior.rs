//! What is known of a log from files that are not its own.

use crate::base::types::Lsn;

/// What the opener knows of the log from its other files. By default nothing, and everything is replayed.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Prior {
    /// The log was durable up to here, as a file says that was written after it: evidence like MARK's.
    pub(crate) proven: Lsn,
    /// A record ends here, and what those up to here say is known: they are not needed, not walked and not replayed.
    pub(crate) known: Lsn,
    /// Segments that end at or below this were let go. Others stay, even if all in them is known, as far as the opener retains
    /// them.
    pub(crate) let_go: Lsn,
}
