//! Loading: what the log says goes into an index that nobody reads yet.
//!
//! The log has keys in the order in which they were written, which is none: applied one by one, each waits for its own
//! pages of memory. So writes are gathered, a bundle at a time (`bundle`), each bundle is sorted, and keyspaces are built
//! from sorted bundles and what they had before, leaf after leaf and with no search (`merge`). Of several writes to one key
//! only the last counts, since no snapshot is older than the load.
//!
//! Unless there is little, one thread sorts a bundle while the next is gathered, another has the memory for the one after it
//! come (`worker`), and all cores build: a keyspace is cut into parts by its keys.
//!
//! **Memory.** Beside the index and the log's read buffer a load takes up to a dozen bundles, each of at most 32 MiB of keys
//! and values (one transaction more) and 40 bytes for each of at most 2^18 writes: half a gigabyte in all. (A transaction of
//! more writes takes 40 bytes for each, and twice that while they are sorted.) Once the index takes more than twice what is
//! gathered, gathering goes on until that is half of the index, so that building it anew costs each write the same, however
//! large the index is. While a keyspace is built anew its old leaves go piece by piece,
//! if they lie in the order of their keys; those that were written one by one (see [`Loader::add`]) go at the end.

mod bundle;
mod merge;
mod worker;

#[cfg(any(test, shuttle))]
pub(crate) mod fault;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::tree::Tree;
use super::{ApplyError, Index};
use crate::format::batch::Batch;
use crate::words::plant::planted;
use crate::words::types::Lsn;

use bundle::{Bundle, Scratch};
use worker::{Memory, Worker};

/// How much is gathered before it is sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) writes: usize,
    /// Of keys and values.
    pub(crate) bytes: usize,
    /// Bytes until which no second thread is worth its while.
    pub(crate) alone: usize,
}

impl Limits {
    const WRITES: usize = 1 << 18;
    const BYTES: usize = 32 << 20;
    const ALONE: usize = 16 << 10;

    /// For a log whose segments are that large: no bundle is larger than one, and a full one is not little.
    pub(crate) fn of(segment_bytes: u64) -> Self {
        let bytes = usize::try_from(segment_bytes).map_or(Self::BYTES, |bytes| bytes.min(Self::BYTES));
        Limits { writes: Self::WRITES, bytes, alone: Self::ALONE.min(bytes) }
    }
}

/// The panic was reported by the panic hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Panicked;

/// Builds an index from transactions in LSN order.
#[derive(Debug)]
pub(crate) struct Loader {
    index: Index,
    limits: Limits,
    trees: Trees,
    bundle: Bundle,
    /// Those that came back from the worker.
    sorted: Vec<Bundle>,
    gathered: Gathered,
    /// Bytes of the bundles that were handed over.
    handed_over: usize,
    worker: Option<Worker>,
    /// Has the next bundle.
    memory: Option<Memory>,
    /// Of the last transaction.
    lsn: Lsn,
}

/// What the sorted bundles take.
#[derive(Debug, Default)]
struct Gathered {
    /// So many of them are counted.
    counted: usize,
    bytes: usize,
    /// As much as is put in at once, while the index is as it is.
    enough: Option<usize>,
}

/// The keyspaces that are written to.
#[derive(Debug, Default)]
struct Trees {
    list: Vec<Arc<Tree>>,
    /// Where each is in the list, by its id.
    places: BTreeMap<u32, u32>,
}

impl Loader {
    /// So many sorted bundles are put in, unless the index is much larger.
    const GATHERED: usize = 8;

    pub(crate) fn new(limits: Limits) -> Self {
        Loader {
            index: Index::new(),
            limits,
            trees: Trees::default(),
            bundle: Bundle::default(),
            sorted: Vec::new(),
            gathered: Gathered::default(),
            handed_over: 0,
            worker: None,
            memory: None,
            lsn: Lsn::ZERO,
        }
    }

    /// Takes in the transaction `batch` of LSN `lsn`. One that makes or removes keyspaces is applied as a commit is, after
    /// everything before it. After an error the loader is good for nothing.
    pub(crate) fn add(&mut self, lsn: Lsn, batch: &Batch<'_>) -> Result<Result<(), ApplyError>, Panicked> {
        if lsn <= self.lsn {
            return Ok(Err(ApplyError::LsnNotRising { lsn, applied: self.lsn }));
        }
        if !batch.only_writes() {
            self.settle()?;
            return Ok(self.apply(lsn, batch));
        }
        for op in batch {
            let last = self.bundle.last_tree();
            let tree = match self.trees.place_of(op.keyspace(), last, &self.index) {
                Ok(tree) => tree,
                Err(error) => return Ok(Err(error)),
            };
            self.bundle.push(tree, lsn, &op);
        }
        self.lsn = lsn;
        if self.bundle.writes().len() >= self.limits.writes || self.bundle.bytes() >= self.limits.bytes {
            self.hand_over()?;
        }
        Ok(Ok(()))
    }

    /// Keyspaces come and go: everything before must be there.
    fn apply(&mut self, lsn: Lsn, batch: &Batch<'_>) -> Result<(), ApplyError> {
        self.index.apply(lsn, batch, lsn)?;
        self.index.publish(lsn);
        // So that no key waits to be pruned when what it has is replaced.
        self.index.prune(lsn, usize::MAX);
        self.trees = Trees::default();
        self.lsn = lsn;
        Ok(())
    }

    /// Gives the bundle to the worker. While there is little, and where no thread is to be had, it is sorted here.
    fn hand_over(&mut self) -> Result<(), Panicked> {
        self.handed_over += self.bundle.bytes();
        let next = match &self.memory {
            Some(memory) => memory.take()?,
            None => Bundle::like(&self.bundle, self.limits),
        };
        if self.worker.is_none() && self.handed_over >= self.limits.alone {
            self.worker = Worker::start();
            self.memory = self.memory.take().or_else(Memory::start);
        }
        if let Some(memory) = &self.memory {
            memory.want(Bundle::like(&self.bundle, self.limits));
        }
        let full = mem::replace(&mut self.bundle, next);
        match &mut self.worker {
            Some(worker) => worker.send(full, &mut self.sorted)?,
            None => self.sort(full),
        }
        if self.has_enough() { self.merge() } else { Ok(()) }
    }

    /// Whether so much is sorted that it is worth while to put it in. Segments, and so bundles, may be small and many.
    fn has_enough(&mut self) -> bool {
        let Gathered { counted, bytes, enough } = &mut self.gathered;
        *bytes += self.sorted[*counted..].iter().map(Bundle::memory).sum::<usize>();
        *counted = self.sorted.len();
        *counted >= Self::GATHERED && *bytes >= *enough.get_or_insert_with(|| self.index.bytes() / 2)
    }

    fn sort(&mut self, mut bundle: Bundle) {
        bundle.sort(&mut Scratch::default());
        self.sorted.push(bundle);
    }

    /// Puts in everything gathered so far.
    fn settle(&mut self) -> Result<(), Panicked> {
        if let Some(memory) = self.memory.take() {
            memory.finish();
        }
        if let Some(worker) = self.worker.take() {
            worker.finish(&mut self.sorted)?;
        }
        let last = mem::take(&mut self.bundle);
        let is_forgotten = planted!("load-forgets-the-last-bundle") && self.handed_over > 0;
        if !(last.is_empty() || is_forgotten) {
            self.sort(last);
        }
        self.merge()?;
        self.index.loaded(self.lsn);
        Ok(())
    }

    /// Puts in what is sorted.
    fn merge(&mut self) -> Result<(), Panicked> {
        self.gathered = Gathered::default();
        if self.sorted.is_empty() { Ok(()) } else { merge::merge(&self.trees.list, mem::take(&mut self.sorted)) }
    }

    /// The index with everything in it.
    pub(crate) fn finish(mut self) -> Result<Index, Panicked> {
        self.settle()?;
        Ok(self.index)
    }
}

impl Trees {
    /// Where the keyspace `id` is in the list; `last` is the place of the one before.
    fn place_of(&mut self, id: u32, last: Option<u32>, index: &Index) -> Result<u32, ApplyError> {
        let known = last.filter(|last| self.list[*last as usize].id() == id);
        if let Some(place) = known.or_else(|| self.places.get(&id).copied()) {
            return Ok(place);
        }
        let place = u32::try_from(self.list.len()).expect("an id has 32 bits");
        self.list.push(index.alive(id)?);
        self.places.insert(id, place);
        Ok(place)
    }
}
