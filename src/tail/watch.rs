//! What concerns some keys.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::commit::{Change, Commit, Next};
use super::follow::{Tail, item};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::rt::clock::{self, Moment};

/// Follows what is committed to keys that begin with a prefix: see [`Engine::watch`](crate::Engine::watch). As an iterator it waits without end for the
/// next such commit, and ends after a close, or behind the drop.
///
/// Of a commit it shows what concerns those keys: writes, deletions of ranges that have some of them, and the drop of their keyspace, which is the last that
/// there is.
pub struct Watch {
    tail: Tail,
    keyspace: u32,
    prefix: Box<[u8]>,
    /// The keyspace was dropped, and that was shown.
    is_dropped: bool,
    is_told: bool,
}

/// Commits of no interest that one poll passes over: then other tasks go first.
const PASSED_AT_ONCE: u32 = 64;

impl Watch {
    pub(super) fn new(tail: Tail, keyspace: u32, prefix: &[u8]) -> Self {
        Watch { tail, keyspace, prefix: prefix.into(), is_dropped: false, is_told: false }
    }

    /// Everything up to here was shown, or is of no interest.
    pub fn lsn(&self) -> Lsn {
        self.tail.lsn()
    }

    /// The next commit, waiting for it for at most `time`; `None` if there was none. (What is of no interest is passed over meanwhile.)
    ///
    /// # Errors
    /// As [`Tail::next_timeout`]; [`KeyspaceDropped`](ErrorKind::KeyspaceDropped) behind the drop.
    pub fn next_timeout(&mut self, time: Duration) -> Result<Option<Commit>> {
        self.until(Some(clock::now().after(time)))
    }

    /// The next commit, for an async program: as [`Tail::next_async`].
    ///
    /// # Errors
    /// As there.
    pub async fn next_async(&mut self) -> Result<Commit> {
        poll_fn(|context| {
            for _ in 0..PASSED_AT_ONCE {
                self.check_dropped()?;
                let commit = std::task::ready!(self.tail.poll_read(context))?;
                if let Some(commit) = self.of_interest(commit) {
                    return Poll::Ready(Ok(commit));
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn until(&mut self, deadline: Option<Moment>) -> Next {
        loop {
            self.check_dropped()?;
            let Some(commit) = self.tail.read_until(deadline)? else { return Ok(None) };
            if let Some(commit) = self.of_interest(commit) {
                return Ok(Some(commit));
            }
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    fn check_dropped(&self) -> Result<()> {
        if !self.is_dropped {
            return Ok(());
        }
        Err(Error::new(ErrorKind::KeyspaceDropped, "the keyspace was dropped: nothing more comes"))
    }

    fn of_interest(&mut self, mut commit: Commit) -> Option<Commit> {
        commit.changes.retain(|change| change.keyspace().id == self.keyspace && self.concerns(change));
        self.is_dropped = matches!(commit.changes.last(), Some(Change::DropKeyspace { .. }));
        (!commit.changes.is_empty()).then_some(commit)
    }

    fn concerns(&self, change: &Change) -> bool {
        let prefix = &*self.prefix;
        match change {
            Change::Put { key, .. } | Change::Delete { key, .. } => key.starts_with(prefix),
            // It begins before the last key with the prefix, and ends behind the first.
            Change::DeleteRange { from, to, .. } => {
                (from.as_slice() <= prefix || from.starts_with(prefix))
                    && to.as_ref().is_none_or(|to| to.as_slice() > prefix)
            }
            Change::DropKeyspace { .. } => true,
            Change::CreateKeyspace { .. } => false,
        }
    }
}

impl Iterator for Watch {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_dropped {
            return None;
        }
        let next = self.until(None);
        item(next, &mut self.is_told)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("tail", &self.tail).finish_non_exhaustive()
    }
}
