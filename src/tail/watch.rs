//! What concerns some keys.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::commit::{Change, Commit, Read};
use super::follow::{Tail, item};
use crate::base::error::Result;
use crate::rt::clock::{self, Moment};

/// Follows what is committed to keys that begin with a prefix: see [`Engine::watch`](crate::Engine::watch). As an iterator it waits without end for the
/// next such commit, and ends after a close.
///
/// Of a commit it shows what concerns those keys: writes, deletions of ranges that have some of them, and the drop of their keyspace, which is the last that
/// there is.
pub struct Watch {
    tail: Tail,
    keyspace: u32,
    prefix: Box<[u8]>,
    is_over: bool,
}

impl Watch {
    pub(super) fn new(tail: Tail, keyspace: u32, prefix: &[u8]) -> Self {
        Watch { tail, keyspace, prefix: prefix.into(), is_over: false }
    }

    /// The next commit, waiting for it for at most `time`; `None` if there was none.
    ///
    /// # Errors
    /// As [`Tail::next_timeout`].
    pub fn next_timeout(&mut self, time: Duration) -> Result<Option<Commit>> {
        self.until(Some(clock::now().after(time)))
    }

    /// The next commit, for an async program: as [`Tail::next_async`].
    ///
    /// # Errors
    /// As there.
    pub async fn next_async(&mut self) -> Result<Commit> {
        poll_fn(|context| {
            loop {
                let read = std::task::ready!(self.tail.poll_read(context))?;
                if let Some(commit) = self.of_interest(read) {
                    return Poll::Ready(Ok(commit));
                }
            }
        })
        .await
    }

    fn until(&mut self, deadline: Option<Moment>) -> Result<Option<Commit>> {
        while let Some(read) = self.tail.read_until(deadline)? {
            if let Some(commit) = self.of_interest(read) {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    fn of_interest(&self, read: Read) -> Option<Commit> {
        let commit = read.only(|keyspace, change| keyspace == self.keyspace && self.concerns(change));
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
        if self.is_over {
            return None;
        }
        let next = self.until(None);
        item(next, &mut self.is_over)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("tail", &self.tail).finish_non_exhaustive()
    }
}
