//! Transactions: what they read and write, when they conflict, and the commit pipeline.
//!
//! | file | what it does |
//! |---|---|
//! | `pipeline` | the numbered steps of a commit; the only place where log and index meet on the way down |
//! | `transaction`, `try_commit` | serializable transactions with read-your-writes; commits that may give up, and give theirs back |
//! | `async_commit`, `helper` | commits that a task waits for, and the thread that does for them what may take long |
//! | `prune` | the thread that removes what no reader can reach any more, when no commit does |
//! | `due` | how much of the log lies behind the last checkpoint, and who is told that it is much |
//! | `throttle` | commits wait for background work that does not keep up |
//! | `watchers` | who waits for the next commit to be visible |
//! | `batch` | blind write batches, which never conflict |
//! | `single` | calls on one entry, or the first and the last |
//! | `snapshot` | a reader's consistent view |
//! | `read_only` | the state of a database that was read without opening it |
//! | `reads`, `consumed`, `writes` | what a transaction read, for conflict detection, as far as its iterators have come; and what it will write |
//! | `bounds`, `entries` | the range of keys that is asked for; iteration over a snapshot, with a transaction's own writes laid over it |
//! | `keyspace` | the handle of a keyspace |

pub(crate) mod async_commit;
mod batch;
mod bounds;
mod consumed;
pub(crate) mod due;
mod entries;
mod helper;
mod keyspace;
pub(crate) mod pipeline;
pub(crate) mod prune;
mod read_only;
mod reads;
mod single;
mod snapshot;
pub(crate) mod throttle;
mod transaction;
mod try_commit;
pub(crate) mod watchers;
mod writes;

#[cfg(test)]
mod tests;

pub use async_commit::CommitFuture;
pub use batch::WriteBatch;
pub use bounds::KeyBounds;
pub use entries::Entries;
pub use keyspace::Keyspace;
pub(crate) use keyspace::no_such_keyspace;
pub use read_only::ReadOnly;
pub use snapshot::{Len, Snapshot};
pub use transaction::Transaction;
pub use try_commit::TryCommitError;
