//! Transactions that are run again when they conflict.

use super::Engine;
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::{Error, Result};
use crate::base::types::CommitMode;
use crate::log::Receipt;
use crate::rt::sleeper::Sleeper;
use crate::txn::Transaction;

use std::task::Poll;
use std::time::Duration;

/// How often a transaction is run before its conflict is an error. Mostly each conflict is the commit of another one.
const RUNS: u32 = 100;
/// The pause before it is run for the third time; each further one is twice as long, up to the longest.
const PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// The pause before a transaction is run again that has run so often, if it is run again.
fn pause(runs: u32) -> Option<Duration> {
    match runs {
        0 | 1 => Some(Duration::ZERO),
        RUNS.. => None,
        _ => Some(PAUSE.saturating_mul(1 << (runs - 2).min(16)).min(LONGEST_PAUSE)),
    }
}

impl Engine {
    /// Runs `body` in a transaction and commits that in `mode`; after a conflict both are done again, up to 100 times, with a pause
    /// that grows to 5 ms. Returns what `body` did, and the receipt.
    ///
    /// `body` may run many times, so what it does besides reading and writing the transaction must bear that. If it returns an error
    /// nothing is committed; a [`Conflict`](ErrorKind::Conflict) of its own is no exception.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let visits = engine.create_keyspace("visits")?;
    /// use forelog::CommitMode;
    /// let (count, receipt) = engine.transact(CommitMode::Async, |tx| {
    ///     let count = tx.get(&visits, "page")?.map_or(0, |count| count[0]) + 1;
    ///     tx.put(&visits, "page", [count])?;
    ///     Ok(count)
    /// })?;
    /// assert_eq!(count, 1);
    /// receipt.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of `body`; of [`Engine::begin`] and [`Transaction::commit`], with [`Conflict`](ErrorKind::Conflict) only after 100 runs.
    pub fn transact<T>(
        &self,
        mode: CommitMode,
        mut body: impl FnMut(&mut Transaction) -> Result<T>,
    ) -> Result<(T, Receipt)> {
        let rest = Sleeper::new();
        for runs in 1.. {
            let mut tx = self.begin()?;
            let result = body(&mut tx)?;
            match tx.commit_with(mode) {
                Err(error) if is_conflict(&error) => match pause(runs) {
                    Some(time) => _ = rest.pause(time),
                    None => return Err(error),
                },
                committed => return committed.map(|receipt| (result, receipt)),
            }
        }
        unreachable!("it gives up before")
    }

    /// [`Engine::transact`] for an async program: the commit is [`Transaction::commit_async`]. After a conflict other tasks go first, and
    /// there is no pause: a task has no timer of its own.
    ///
    /// # Errors
    /// As [`Engine::transact`].
    pub async fn transact_async<T>(
        &self,
        mode: CommitMode,
        mut body: impl FnMut(&mut Transaction) -> Result<T>,
    ) -> Result<(T, Receipt)> {
        for runs in 1.. {
            let mut tx = self.begin()?;
            let result = body(&mut tx)?;
            match tx.commit_async(mode).await {
                Err(error) if is_conflict(&error) && pause(runs).is_some() => yield_now().await,
                committed => return committed.map(|receipt| (result, receipt)),
            }
        }
        unreachable!("it gives up before")
    }
}

/// Lets other tasks of the executor go first.
async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn is_conflict(error: &Error) -> bool {
    error.kind() == crate::base::error::ErrorKind::Conflict
}
