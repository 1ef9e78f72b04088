//! Following what is committed: [`Engine::tail`] gives each transaction as it was committed, in order, [`Engine::watch`] what concerns some keys.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = forelog::Engine::in_memory()?;
//! # let orders = engine.create_keyspace("orders")?;
//! use forelog::CommitMode;
//! use forelog::tail::{Change, Horizon};
//!
//! let mut tail = engine.tail(engine.visible_lsn(), Horizon::Durable)?;
//! let mut batch = engine.batch()?;
//! batch.put(&orders, "7", "two loaves")?;
//! batch.commit_with(CommitMode::Async)?;
//!
//! let commit = tail.next().expect("the engine is open")?; // waits until it is durable
//! match &commit.changes[0] {
//!     Change::Put { key, value, .. } => assert_eq!((&key[..], &value[..]), (&b"7"[..], &b"two loaves"[..])),
//!     other => panic!("{other:?}"),
//! }
//! let position = commit.receipt.token().to_string(); // store it: a tail goes on from there, also after a restart
//! # let _ = engine.tail(position.parse::<forelog::Token>()?, Horizon::Durable)?;
//! # Ok(()) }
//! ```
//!
//! # Rules
//!
//! | no. | rule |
//! |---|---|
//! | L1 | A tail reads the log, which has each transaction as a whole and in the order of the commits. So it shows every one, once, and none in part. No commit waits for it, but for the locks that any reader takes, and at the visible horizon for the write call that it makes |
//! | L2 | At the horizon [`Durable`](Horizon::Durable) nothing is shown that a crash can take. At [`Visible`](Horizon::Visible) what is committed is shown at once; a crash may take it, and then another commit may have its position: keep the token, which tells |
//! | L3 | The log that a tail has not read yet is pinned, up to [`Options::retain_pinned_bytes`](crate::Options::retain_pinned_bytes), or until the disk has no room. A tail that is further behind gets [`Retired`](crate::ErrorKind::Retired), once, and ends: it has fallen behind |
//! | L4 | Pins do not outlive the engine: who wants to go on after a restart where it was sets [`Options::retain_log_bytes`](crate::Options::retain_log_bytes) |
//! | L5 | After a close a tail shows what is left, and ends. After a failure it shows what is durable, and then the error |
//!
//! **A copy that follows.** Begin the tail first, then copy a [`Snapshot`](crate::Snapshot), then apply what the tail shows: from its begin on, not from the snapshot on.
//! Puts and deletions that the copy has already do not change it.
//!
//! The mode of a commit is not in the log: it says how its committer waits. Whether it is durable, its receipt says.

mod commit;
mod follow;
mod watch;

pub use commit::{Change, ChangedKeyspace, Commit};
pub use follow::{Horizon, Tail};
pub use watch::Watch;

use crate::base::error::Result;
use crate::engine::Engine;
use crate::log::read::record_end::Position;
use crate::txn::Keyspace;

impl Engine {
    /// Follows what is committed after a position: a [`Token`](crate::Token), an LSN such as [`Engine::durable_lsn`], or [`Lsn::ZERO`](crate::Lsn::ZERO)
    /// for all that the log still has. See the [module](crate::tail).
    ///
    /// It does not keep the engine open.
    ///
    /// # Errors
    /// [`Retired`](crate::ErrorKind::Retired) if the log does not go back so far; [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is no position of this
    /// database; [`Io`](crate::ErrorKind::Io), [`Closed`](crate::ErrorKind::Closed), [`Forked`](crate::ErrorKind::Forked).
    pub fn tail(&self, after: impl Into<Position>, horizon: Horizon) -> Result<Tail> {
        self.pipeline().check_open()?;
        Tail::new(self.pipeline(), after.into(), horizon)
    }

    /// Follows what is committed from now on to the keys of a keyspace that begin with `prefix`, as soon as it is visible. See the [module](crate::tail).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let jobs = engine.create_keyspace("jobs")?;
    /// # let mut batch = engine.batch()?;
    /// # batch.put(&jobs, "mail/1", "work")?;
    /// let mut mails = engine.watch(&jobs, "mail/")?;
    /// batch.commit_with(forelog::CommitMode::Async)?;
    /// let commit = mails.next().expect("the engine is open")?; // waits until there is something to do
    /// assert_eq!(commit.changes.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::tail`]; [`KeyspaceDropped`](crate::ErrorKind::KeyspaceDropped).
    pub fn watch(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Result<Watch> {
        let at = keyspace.check_alive(self.pipeline())?;
        Ok(Watch::new(self.tail(at, Horizon::Visible)?, keyspace.id(), prefix.as_ref()))
    }
}
