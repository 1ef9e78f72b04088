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
//! | Q2 | That transaction reads the mark first, and once more at the end: the body may have begun another one | two that come at a time are both done. As it is, one of them conflicts, is run again, and finds the mark |
//! | Q3 | A request that was done before is answered when its commit has what the mode promises that it is asked with; a flush is due then | a `Sync` answer is given for what a crash can take |
//! | Q4 | The name of the commit is not stored: it is the LSN that wrote the mark | a transaction would have to know its place before it has one |
//! | Q5 | A mark is forgotten in a transaction that finds it to be the one that is old | a request that came again after it was forgotten, and was done again, loses its new mark |
//! | Q6 | Each mark has a number: one more than the highest that can be seen when the request is done. So numbers have no gap, and of those that are not more than `keep` below the highest there are `keep` or more; only the others are forgotten. The highest is not read by the transaction: two may have one number | each request conflicts with each other |
//! | Q7 | The keyspace says by an entry of its own that it holds requests, and is refused if it holds something else | a user's data are taken for marks, and forgotten |
//!
//! Numbers are in the data, so that they go on in a copy of the database, whatever its LSNs are. A request gets its number when its transaction runs. One
//! that then waits long for its place counts as older than it is, by as many as come meanwhile: let `keep` be far above the number of
//! requests that are under way at a time. Where many come at a time, more than `keep` are remembered. With several [`Requests`] of one name the smallest
//! `keep` holds.
//!
//! | key | value |
//! |---|---|
//! | `00` | what the keyspace is, and the version of this list |
//! | `01`, id | number (8 bytes, big endian), reply |
//! | `02`, number, id | nothing |

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::CommitMode;
use crate::engine::Engine;
use crate::index::{Key, Value};
use crate::log::Receipt;
use crate::txn::{Keyspace, Snapshot, Transaction};

/// The longest id of a request, in bytes.
pub const MAX_REQUEST_ID_LEN: usize = 1024;

const HEADER: [u8; 1] = [0];
const IS_REQUESTS: &str = "forelog requests 1";
const MARK: u8 = 1;
const ORDER: u8 = 2;
/// Bytes of a number.
const NUMBER: usize = 8;
/// So many requests are done before somebody looks what is to be forgotten.
const OFTEN: u32 = 64;
/// And so many are forgotten then, at most: more than have come, so that a `keep` that was made smaller holds at last.
const FORGOTTEN_TOGETHER: usize = 256;

/// Requests that are done once: see the [module](crate::requests). It keeps the engine open.
pub struct Requests {
    engine: Engine,
    keyspace: Keyspace,
    keep: u64,
    /// Done since somebody has looked.
    since: AtomicU32,
}

/// The reply to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// What the request returned when it was done.
    pub body: Value,
    /// Of the commit that did it. (In a copy that [`Engine::save_to`] or a salvage has made: of the one that copied its mark.)
    pub receipt: Receipt,
    /// It was done before, and not by this call.
    pub is_repeated: bool,
}

impl Requests {
    /// Opens the memory of requests in the keyspace `name`, which it makes if it is not there. The last `keep` are remembered, by the order in which their transactions ran.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a `keep` of 0, and for a keyspace that holds something else; otherwise as
    /// [`Engine::create_keyspace`] and [`Engine::transact`].
    pub fn open(engine: &Engine, name: &str, keep: u64) -> Result<Self> {
        if keep == 0 {
            return Err(Error::invalid_input(
                "no request is to be remembered: none could be told from one that comes again",
            ));
        }
        let keyspace = engine.create_keyspace(name)?;
        engine.transact(engine.commit_mode(), |tx| match tx.get(&keyspace, HEADER)? {
            Some(header) if header == IS_REQUESTS.as_bytes() => Ok(()),
            None if tx.first(&keyspace)?.is_none() => tx.put(&keyspace, HEADER, IS_REQUESTS),
            _ => Err(Error::invalid_input(format!(
                "the keyspace '{name}' holds something else than requests: choose another name"
            ))),
        })?;
        Ok(Requests { engine: engine.clone(), keyspace, keep, since: AtomicU32::new(OFTEN) })
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
        match done {
            Ok(found) => {
                found.receipt.hurry()?;
                self.engine.wait_for_mode(&found.receipt, mode)?;
                Ok(found)
            }
            Err(body) => {
                // The request is done: an error of this is none of it, and the next one tries again.
                let _ = self.due().and_then(|keys| keys.map_or(Ok(()), |keys| self.forget(&keys)));
                Ok(Reply { body, receipt, is_repeated: false })
            }
        }
    }

    /// [`Requests::transact`] for an async program: to poll it blocks no thread, but for the body, and for reads of what is not in memory.
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
        match done {
            Ok(found) if matches!(mode, CommitMode::Async | CommitMode::Within(_)) => {
                found.receipt.hurry()?;
                Ok(found)
            }
            Ok(found) => {
                // Durable is what `Written` promises, and more.
                found.receipt.clone().await?;
                Ok(found)
            }
            Err(body) => {
                if let Ok(Some(keys)) = self.due() {
                    let _ = self.forget_async(&keys).await;
                }
                Ok(Reply { body, receipt, is_repeated: false })
            }
        }
    }

    /// The reply to the request `id`, if it was done and is remembered. Durable or not: the receipt tells.
    ///
    /// # Errors
    /// As [`Snapshot::get`]; [`InvalidInput`](ErrorKind::InvalidInput) as above.
    pub fn find(&self, id: impl AsRef<[u8]>) -> Result<Option<Reply>> {
        let key = mark(checked(id.as_ref())?);
        let snapshot = self.engine.snapshot()?;
        let Some(mark) = snapshot.get(&self.keyspace, &key)? else { return Ok(None) };
        let receipt = snapshot.written_by(&self.keyspace, &key)?;
        Ok(receipt.map(|receipt| Reply::again(&mark, receipt)))
    }

    /// What is committed for a request: nothing, if it was done before; else its reply.
    fn run<R: AsRef<[u8]>>(
        &self,
        tx: &mut Transaction,
        id: &[u8],
        body: &mut impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<std::result::Result<Reply, Value>> {
        let key = mark(id);
        if let Some(found) = self.look(tx, &key)? {
            return Ok(Ok(found));
        }
        let reply = body(tx)?;
        // Q2.
        if tx.get(&self.keyspace, &key)?.is_some() {
            // What the body has done is given up.
            *tx = self.engine.begin()?;
            let found = self.look(tx, &key)?;
            return found
                .map(Ok)
                .ok_or_else(|| Error::invalid_input("a request must not write to the keyspace of requests"));
        }
        let number = (self.newest(&self.engine.snapshot()?)? + 1).to_be_bytes();
        tx.put(&self.keyspace, &key, [&number, reply.as_ref()].concat())?;
        tx.put(&self.keyspace, [&[ORDER], &number[..], id].concat(), "")?;
        Ok(Err(reply.as_ref().into()))
    }

    fn look(&self, tx: &mut Transaction, key: &[u8]) -> Result<Option<Reply>> {
        let Some(mark) = tx.get(&self.keyspace, key)? else { return Ok(None) };
        let receipt = tx.written_by(&self.keyspace, key)?;
        Ok(receipt.map(|receipt| Reply::again(&mark, receipt)))
    }

    /// The highest number.
    fn newest(&self, snapshot: &Snapshot) -> Result<u64> {
        let last = snapshot.prefix(&self.keyspace, [ORDER])?.next_back().transpose()?;
        Ok(last.map_or(0, |(key, _)| number_of(&key)))
    }

    /// Now and then, the oldest that are to be forgotten, by their keys in the order.
    fn due(&self) -> Result<Option<Vec<Key>>> {
        if self.since.fetch_add(1, Ordering::Relaxed) < OFTEN {
            return Ok(None);
        }
        self.since.store(0, Ordering::Relaxed);
        let snapshot = self.engine.snapshot()?;
        let kept_from = self.newest(&snapshot)?.saturating_sub(self.keep - 1);
        let mut keys = Vec::new();
        for entry in snapshot.prefix(&self.keyspace, [ORDER])?.take(FORGOTTEN_TOGETHER) {
            let (key, _) = entry?;
            if number_of(&key) >= kept_from {
                break;
            }
            keys.push(key);
        }
        Ok((!keys.is_empty()).then_some(keys))
    }

    fn forget(&self, keys: &[Key]) -> Result<()> {
        match self.engine.transact(CommitMode::Async, |tx| self.remove(tx, keys)) {
            // All of them are more than a transaction may be.
            Err(error) if error.kind() == ErrorKind::InvalidInput && keys.len() > 1 => {
                keys.chunks(1).try_for_each(|one| self.forget(one))
            }
            done => done.map(|_| ()),
        }
    }

    async fn forget_async(&self, keys: &[Key]) -> Result<()> {
        match self.engine.transact_async(CommitMode::Async, |tx| self.remove(tx, keys)).await {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                for one in keys.chunks(1) {
                    self.engine.transact_async(CommitMode::Async, |tx| self.remove(tx, one)).await?;
                }
                Ok(())
            }
            done => done.map(|_| ()),
        }
    }

    fn remove(&self, tx: &mut Transaction, keys: &[Key]) -> Result<()> {
        for key in keys {
            let (number, id) = key[1..].split_at(NUMBER.min(key.len() - 1));
            // Another call may have forgotten it, and the request have come again.
            if tx.get(&self.keyspace, mark(id))?.is_some_and(|mark| mark.starts_with(number)) {
                tx.delete(&self.keyspace, mark(id))?;
            }
            tx.delete(&self.keyspace, key)?;
        }
        Ok(())
    }
}

impl Reply {
    /// Of a request whose mark was found.
    fn again(mark: &[u8], receipt: Receipt) -> Self {
        // Behind its number.
        Reply { body: mark.get(NUMBER..).unwrap_or_default().into(), receipt, is_repeated: true }
    }
}

fn checked(id: &[u8]) -> Result<&[u8]> {
    if id.len() <= MAX_REQUEST_ID_LEN {
        return Ok(id);
    }
    let message =
        format!("the id of a request has {} bytes, of at most {MAX_REQUEST_ID_LEN}: use a hash of it", id.len());
    Err(Error::invalid_input(message))
}

fn mark(id: &[u8]) -> Vec<u8> {
    [&[MARK], id].concat()
}

/// The number in a key of the order.
fn number_of(key: &[u8]) -> u64 {
    key[1..].first_chunk::<NUMBER>().map_or(0, |number| u64::from_be_bytes(*number))
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("keyspace", &self.keyspace).field("keep", &self.keep).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
