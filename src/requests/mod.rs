//! Requests that are done once, however often they are sent.
//!
//! A client that got no answer sends its request again: the first one may have been committed, or lost in a crash. [`Requests`] keeps the id that
//! the client gave the request, and the reply, in the transaction that does it: so they are there exactly if its effects are, after any crash,
//! and a request that comes again gets the reply of the first time.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = forelog::Engine::in_memory()?;
//! use forelog::CommitMode;
//! use forelog::requests::Requests;
//!
//! let orders = engine.create_keyspace("orders")?;
//! let requests = Requests::open(&engine, "requests", 100_000)?; // the last 100,000 are remembered
//! let mut order = |id: &str| {
//!     requests.transact(id, CommitMode::Sync, |tx| {
//!         let number = tx.last(&orders)?.map_or(1, |(last, _)| u64::from_be_bytes(last[..].try_into().unwrap()) + 1);
//!         tx.put(&orders, number.to_be_bytes(), "two loaves")?;
//!         Ok(format!("order {number}"))
//!     })
//! };
//! let first = order("4711")?;
//! let again = order("4711")?; // the reply was lost on its way
//! assert_eq!(first.body, again.body);
//! assert_eq!(first.receipt.token(), again.receipt.token());
//! assert!(again.is_repeated && engine.snapshot()?.iter(&orders)?.count() == 1);
//! # Ok(()) }
//! ```
//!
//! # Rules
//!
//! | no. | rule | without it |
//! |---|---|---|
//! | Q1 | The mark of a request (its id and reply) is written by the transaction that does it | a crash leaves one without the other: done twice, or never |
//! | Q2 | That transaction reads the mark first | two that come at a time are both done. As it is, one of them conflicts, is run again, and finds the mark |
//! | Q3 | A request that was done before is answered when its commit has what the mode promises that it is asked with | a `Sync` answer is given for what a crash can take |
//! | Q4 | The name of the commit is not stored: it is the LSN that wrote the mark. So it is right in a copy of the database, too, where commits have other tokens | |
//! | Q5 | A mark is forgotten in a transaction that finds it to be the one that is old | a request that came again after it was forgotten, and was done again, loses its new mark |
//! | Q6 | Only what is counted is forgotten: an estimate of the number would forget too early | as in Q1 |
//!
//! How old a request is, is when its transaction began: one that took long is forgotten as much earlier. At least the last `keep` are
//! remembered, and up to an eighth more.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::CommitMode;
use crate::engine::Engine;
use crate::index::Value;
use crate::log::Receipt;
use crate::txn::{Keyspace, Len, Snapshot, Transaction};

/// The longest id of a request, in bytes.
pub const MAX_REQUEST_ID_LEN: usize = 1024;

/// Bytes of the begin of a mark, and of the key in the order: the LSN at which the transaction of the request began.
const BEGAN: usize = 8;
/// The most requests that are forgotten in one transaction.
const FORGOTTEN_TOGETHER: usize = 1024;

/// Requests that are done once: see the [module](crate::requests). It keeps the engine open.
pub struct Requests {
    engine: Engine,
    /// For each id, when its transaction began, and the reply.
    marks: Keyspace,
    /// When it began, and the id: the oldest come first. No values.
    order: Keyspace,
    keep: usize,
    /// Done since somebody has looked what is to be forgotten.
    since: AtomicUsize,
}

/// The reply to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// What the request returned when it was done.
    pub body: Value,
    /// Of the commit that did it.
    pub receipt: Receipt,
    /// It was done before, and not by this call.
    pub is_repeated: bool,
}

impl Requests {
    /// Opens the memory of requests in the keyspaces `name` and `name.order`, which it makes if they are not there. At least the last `keep` are remembered.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a `keep` of 0; otherwise as [`Engine::create_keyspace`].
    pub fn open(engine: &Engine, name: &str, keep: usize) -> Result<Self> {
        if keep == 0 {
            return Err(Error::invalid_input(
                "no request is to be remembered: none could be told from one that comes again",
            ));
        }
        let marks = engine.create_keyspace(name)?;
        let order = engine.create_keyspace(&format!("{name}.order"))?;
        Ok(Requests { engine: engine.clone(), marks, order, keep, since: AtomicUsize::new(0) })
    }

    /// Does the request `id` by `body`, in a transaction that is committed in `mode` and run again when it conflicts; or, if that was done
    /// before, returns the reply of that time.
    ///
    /// # Errors
    /// Those of `body` and of [`Engine::transact`]: the request was not done, and may be sent again. With
    /// [`Indeterminate`](ErrorKind::Indeterminate) it may have been: after the database was opened again, it is known. [`InvalidInput`](ErrorKind::InvalidInput)
    /// for an `id` of more than [`MAX_REQUEST_ID_LEN`] bytes.
    pub fn transact<R: AsRef<[u8]>>(
        &self,
        id: impl AsRef<[u8]>,
        mode: CommitMode,
        mut body: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<Reply> {
        let id = checked(id.as_ref())?;
        let (done, receipt) = self.engine.transact(mode, |tx| self.run(tx, id, &mut body))?;
        let reply = self.reply(done, receipt);
        self.engine.wait_for_mode(&reply.receipt, mode)?;
        Ok(reply)
    }

    /// [`Requests::transact`] for an async program: to poll it blocks no thread, but for the body.
    ///
    /// # Errors
    /// As there.
    pub async fn transact_async<R: AsRef<[u8]>>(
        &self,
        id: impl AsRef<[u8]>,
        mode: CommitMode,
        mut body: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<Reply> {
        let id = checked(id.as_ref())?;
        let (done, receipt) = self.engine.transact_async(mode, |tx| self.run(tx, id, &mut body)).await?;
        let reply = self.reply(done, receipt);
        // Durable is more than any other mode promises.
        if reply.is_repeated && !matches!(mode, CommitMode::Async | CommitMode::Within(_)) {
            reply.receipt.clone().await?;
        }
        Ok(reply)
    }

    /// The reply to the request `id`, if it was done and is remembered. Durable or not: the receipt tells.
    ///
    /// # Errors
    /// As [`Snapshot::get`]; [`InvalidInput`](ErrorKind::InvalidInput) as above.
    pub fn find(&self, id: impl AsRef<[u8]>) -> Result<Option<Reply>> {
        let id = checked(id.as_ref())?;
        let snapshot = self.engine.snapshot()?;
        let (Some(mark), Some(receipt)) = (snapshot.get(&self.marks, id)?, snapshot.written_by(&self.marks, id)?)
        else {
            return Ok(None);
        };
        Ok(Some(Reply { body: body_of(&mark).into(), receipt, is_repeated: true }))
    }

    /// What is committed for a request: its reply, and the commit that has done it before, if one has.
    fn run<R: AsRef<[u8]>>(
        &self,
        tx: &mut Transaction,
        id: &[u8],
        body: &mut impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<(Value, Option<Receipt>)> {
        if let Some(mark) = tx.get(&self.marks, id)? {
            return Ok((body_of(&mark).into(), tx.written_by(&self.marks, id)?));
        }
        let reply = body(tx)?;
        let began = tx.snapshot_lsn().get().to_be_bytes();
        tx.put(&self.marks, id, [&began, reply.as_ref()].concat())?;
        tx.put(&self.order, [&began, id].concat(), "")?;
        Ok((reply.as_ref().into(), None))
    }

    fn reply(&self, (body, before): (Value, Option<Receipt>), receipt: Receipt) -> Reply {
        let is_repeated = before.is_some();
        if !is_repeated {
            self.forget_some();
        }
        Reply { body, receipt: before.unwrap_or(receipt), is_repeated }
    }

    /// Now and then, forgets the oldest. The request that it comes with is done: an error is none of it, and the next one tries again.
    fn forget_some(&self) {
        let often = (self.keep / 8).clamp(1, FORGOTTEN_TOGETHER);
        if self.since.fetch_add(1, Ordering::Relaxed) + 1 >= often {
            self.since.store(0, Ordering::Relaxed);
            let _ = self.forget();
        }
    }

    fn forget(&self) -> Result<()> {
        let snapshot = self.engine.snapshot()?;
        let mut rest = self.count(&snapshot)?.saturating_sub(self.keep);
        let mut oldest = snapshot.iter(&self.order)?;
        while rest > 0 {
            let keys: Vec<_> = oldest.by_ref().take(rest.min(FORGOTTEN_TOGETHER)).collect::<Result<_>>()?;
            if keys.is_empty() {
                break;
            }
            rest -= keys.len();
            self.engine.transact(CommitMode::Async, |tx| {
                for (key, _) in &keys {
                    let (began, id) = key.split_at(BEGAN.min(key.len()));
                    // Another call may have forgotten it, and the request come again.
                    if tx.get(&self.marks, id)?.is_some_and(|mark| mark.starts_with(began)) {
                        tx.delete(&self.marks, id)?;
                    }
                    tx.delete(&self.order, key)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn count(&self, snapshot: &Snapshot) -> Result<usize> {
        if let Len::Exact(requests) = snapshot.len(&self.order)? {
            return Ok(requests);
        }
        snapshot.iter(&self.order)?.try_fold(0, |count, entry| entry.map(|_| count + 1))
    }
}

fn checked(id: &[u8]) -> Result<&[u8]> {
    if id.len() <= MAX_REQUEST_ID_LEN {
        return Ok(id);
    }
    let message =
        format!("the id of a request has {} bytes, of at most {MAX_REQUEST_ID_LEN}: use a hash of it", id.len());
    Err(Error::new(ErrorKind::InvalidInput, message))
}

/// What a mark has behind the begin.
fn body_of(mark: &[u8]) -> &[u8] {
    mark.get(BEGAN..).unwrap_or_default()
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("keyspace", &self.marks).field("keep", &self.keep).finish_non_exhaustive()
    }
}
