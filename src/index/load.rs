//! Loading: what the log says goes into an index that nobody reads yet.
//!
//! The log has keys in the order in which they were written, which is none: applied one by one, each waits for its own
//! pages of memory. So writes are gathered, a bundle at a time (`bundle`), each bundle is sorted, and keyspaces are built
//! from sorted bundles and what they had before, leaf after leaf and with no search (`merge`). Of several writes to one key
//! only the last counts, since no snapshot is older than the load.
//!
//! Unless there is little, one thread sorts a bundle while the next is gathered (`worker`), and all cores build: a keyspace
//! is cut into parts by its keys. A sorted bundle is pieces in the order of their keys, and each goes when the parts that
//! need it are built; so do the old leaves of a keyspace that is built anew, if they lie in the order of their keys. (Those
//! that were written one by one, see [`Loader::add`], go at the end.)
//!
//! **Memory.** A load takes the index and, beside it, a share of what is live and a constant, however long the log is.
//! Three bundles are under way, each of a sixteenth of what is live (and of 1 to 42 MiB; one transaction more). What is
//! sorted holds each key once a bundle, and is put in when it takes 8 MiB and half of the index; or as much as the whole
//! index, if most of what was put in last were new keys: then it is no more than will be live. The parts that are being built
//! take a sixteenth of all each, at most 24 MiB. Old leaves go back to the operating system part by part, and so do the
//! last pieces; those before stay with the allocator for the next pieces, and are fewer than what is live. (A transaction of more than 2^18 writes takes 40 bytes more for each, and 16 while they are sorted.)

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
use crate::base::types::Lsn;
use crate::format::batch::Batch;

use bundle::{Bundle, Scratch};
use merge::Pieces;
use worker::Worker;

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
    sorted: Sorted,
    gathered: Gathered,
    /// Bytes of the bundles that were handed over.
    handed_over: usize,
    worker: Option<Worker>,
    /// Of the last transaction.
    lsn: Lsn,
}

/// What the sorted bundles take, and the index.
#[derive(Debug, Default)]
struct Gathered {
    /// How many pieces are counted.
    counted: usize,
    bytes: usize,
    index_bytes: usize,
    /// The bytes that are put in at once, while the index is as it is.
    enough: usize,
}

/// What came back from sorting.
#[derive(Debug, Default)]
struct Sorted {
    /// In the order of the log, and within a bundle of the keys.
    pieces: Vec<Bundle>,
    /// Empty bundles, whose memory is used again.
    spare: Vec<Bundle>,
}

impl Sorted {
    fn append(&mut self, mut behind: Sorted) {
        self.pieces.append(&mut behind.pieces);
        self.spare.append(&mut behind.spare);
    }
}

/// The keyspaces that are written to.
#[derive(Debug, Default)]
struct Trees {
    list: Vec<Arc<Tree>>,
    /// Where each is in the list, by its id.
    places: BTreeMap<u32, u32>,
}

impl Loader {
    /// Less is not put in before the end.
    const LEAST_PUT_IN: usize = if cfg!(test) { 4 << 10 } else { 8 << 20 };
    /// No bundle is smaller but by the limits.
    const LEAST_BUNDLE: usize = 1 << 20;
    /// Bundles that take as much as all that is live.
    const SHARES: usize = 16;

    pub(crate) fn new(limits: Limits) -> Self {
        Loader {
            index: Index::new(),
            limits,
            trees: Trees::default(),
            bundle: Bundle::default(),
            sorted: Sorted::default(),
            gathered: Gathered::default(),
            handed_over: 0,
            worker: None,
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
        let Limits { writes, bytes, .. } = self.limits;
        let is_full = self.bundle.writes().len() >= writes || self.bundle.bytes() >= bytes;
        if is_full || self.bundle.memory() >= self.room() {
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

    /// The memory that a bundle may take.
    fn room(&self) -> usize {
        let live = self.gathered.index_bytes + self.gathered.bytes;
        Self::LEAST_BUNDLE.max(live / Self::SHARES)
    }

    /// Gives the bundle to the worker. While there is little, and where no thread is to be had, it is sorted here.
    fn hand_over(&mut self) -> Result<(), Panicked> {
        self.handed_over += self.bundle.bytes();
        if self.worker.is_none() && self.handed_over >= self.limits.alone {
            self.worker = Worker::start();
        }
        let full = mem::take(&mut self.bundle);
        match &mut self.worker {
            Some(worker) => worker.send(full, &mut self.sorted)?,
            None => full.sort(&mut Scratch::default(), &mut self.sorted),
        }
        self.bundle = self.sorted.spare.pop().unwrap_or_default().with_room(self.room(), self.limits);
        if self.has_enough() { self.merge(Pieces::Reused) } else { Ok(()) }
    }

    /// Whether so much is sorted that it is worth while to put it in.
    fn has_enough(&mut self) -> bool {
        let Gathered { counted, bytes, enough, .. } = &mut self.gathered;
        let pieces = &self.sorted.pieces;
        *bytes += pieces[*counted..].iter().map(Bundle::memory).sum::<usize>();
        *counted = pieces.len();
        *bytes >= Self::LEAST_PUT_IN.max(*enough)
    }

    /// Puts in everything gathered so far.
    fn settle(&mut self) -> Result<(), Panicked> {
        if let Some(worker) = self.worker.take() {
            worker.finish(&mut self.sorted)?;
        }
        let last = mem::take(&mut self.bundle);
        if !last.is_empty() {
            last.sort(&mut Scratch::default(), &mut self.sorted);
        }
        self.sorted.spare.drain(..).for_each(Bundle::give_back);
        self.merge(Pieces::GivenBack)?;
        self.index.loaded(self.lsn);
        Ok(())
    }

    /// Puts in what is sorted.
    fn merge(&mut self, after: Pieces) -> Result<(), Panicked> {
        let pieces = mem::take(&mut self.sorted.pieces);
        if pieces.is_empty() {
            return Ok(());
        }
        let put_in: usize = pieces.iter().map(Bundle::memory).sum();
        merge::merge(&self.trees.list, pieces, after)?;
        let index_bytes = self.index.bytes();
        let are_new = index_bytes.saturating_sub(self.gathered.index_bytes) >= put_in / 2;
        let enough = if are_new { index_bytes } else { index_bytes / 2 };
        self.gathered = Gathered { index_bytes, enough, ..Gathered::default() };
        Ok(())
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
