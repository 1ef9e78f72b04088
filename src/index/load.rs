//! Loading: the loader builds an index from the log while no reader exists.
//!
//! The log has keys in the order of the commits, which is no order of keys: applied one by one, each key would wait for
//! its own page of memory. So the loader gathers writes into a bundle (`bundle`), sorts each bundle, and builds
//! keyspaces from sorted bundles and the keyspaces' old leaves, leaf after leaf, without a search (`merge`). Of several
//! writes to one key only the last counts, because no snapshot is older than the load.
//!
//! From [`Limits::alone`] bytes on, one thread sorts a bundle while the loader gathers the next (`worker`), and all
//! cores build: a keyspace is cut into parts by key. A sorted bundle consists of pieces in key order. A piece is freed
//! when the parts that need it are built. So is an old leaf of a rebuilt keyspace, if the old leaves lie in memory in
//! key order. (Leaves that were written one by one, see [`Loader::add`], are freed at the end.)
//!
//! **Memory.** Beside the index, a load takes a share of the live data and a constant, however long the log is. Three
//! bundles are under way, each of at most a sixteenth of the live data (at least 1, at most 42 MiB, and at most one
//! write more): a large transaction is cut. Sorted writes have each key at most once a bundle. They are merged when they
//! take 8 MiB, and three times as much as what is live among them takes in leaves, which a sample of the keys estimates
//! (`sample`). Once there is an index to speak of, they are merged when they take half of it; or as much as all of it, if
//! most of the writes merged last were new keys. Each part under construction takes a sixteenth of the total, at most
//! 24 MiB. Old leaves go back to the operating system part by part, and so do the last pieces. Earlier pieces stay with
//! the allocator for the next ones, and take less than the live data.

mod bundle;
mod merge;
mod sample;
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
use crate::format::batch::Op;

use bundle::{Bundle, Scratch};
use merge::Pieces;
use sample::Sample;
use worker::Worker;

/// How much the loader gathers before it sorts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) writes: usize,
    /// Bytes of keys and values.
    pub(crate) bytes: usize,
    /// With fewer bytes in all, no second thread is started.
    pub(crate) alone: usize,
}

impl Limits {
    const WRITES: usize = 1 << 18;
    const BYTES: usize = 32 << 20;
    const ALONE: usize = 16 << 10;

    /// Limits for a log with segments of `segment_bytes`: a bundle is at most as large as a segment.
    pub(crate) fn of(segment_bytes: u64) -> Self {
        let bytes = usize::try_from(segment_bytes).map_or(Self::BYTES, |bytes| bytes.min(Self::BYTES));
        Limits { writes: Self::WRITES, bytes, alone: Self::ALONE.min(bytes) }
    }
}

/// A thread of the load panicked. The panic hook has reported it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Panicked;

/// Builds an index from transactions in LSN order.
#[derive(Debug)]
pub(crate) struct Loader {
    index: Index,
    limits: Limits,
    trees: Trees,
    bundle: Bundle,
    /// The memory that the bundle may take, in bytes.
    room: usize,
    sorted: Sorted,
    gathered: Gathered,
    /// Total bytes of the bundles that were handed over.
    handed_over: usize,
    worker: Option<Worker>,
    /// The LSN of the last transaction.
    lsn: Lsn,
}

/// The memory of the sorted bundles and of the index, in bytes.
#[derive(Debug, Default)]
struct Gathered {
    /// How many pieces are counted so far.
    counted: usize,
    bytes: usize,
    index_bytes: usize,
    /// The bytes at which a merge is worth its cost, given the present index.
    enough: usize,
    /// Of their keys.
    sample: Sample,
}

/// The results of sorting.
#[derive(Debug, Default)]
struct Sorted {
    /// In the order of the log; within a bundle, in key order.
    pieces: Vec<Bundle>,
    /// Empty bundles, whose memory is reused.
    spare: Vec<Bundle>,
}

impl Sorted {
    fn append(&mut self, mut behind: Sorted) {
        self.pieces.append(&mut behind.pieces);
        self.spare.append(&mut behind.spare);
    }
}

/// The keyspaces that the loader writes to.
#[derive(Debug, Default)]
struct Trees {
    list: Vec<Arc<Tree>>,
    /// The index of each keyspace in the list, by id.
    places: BTreeMap<u32, u32>,
}

impl Loader {
    /// Fewer bytes are merged only at the end.
    const LEAST_PUT_IN: usize = if cfg!(test) { 4 << 10 } else { 8 << 20 };
    /// Each merge builds the keyspaces anew, so few merges are better. But superseded writes take memory until the next one.
    const SPREAD: usize = 3;
    /// A bundle is smaller only if the limits say so.
    const LEAST_BUNDLE: usize = 1 << 20;
    /// At least this number of bundles, and less than twice as many, take as much as all live data.
    const SHARES: usize = 16;

    #[cfg(test)]
    pub(crate) fn new(limits: Limits) -> Self {
        Loader::into_index(Index::new(), Lsn::ZERO, limits)
    }

    /// Loads what comes behind `lsn` into an index that layers have filled up to there.
    pub(crate) fn into_index(index: Index, lsn: Lsn, limits: Limits) -> Self {
        Loader {
            index,
            limits,
            trees: Trees::default(),
            bundle: Bundle::default(),
            room: Self::LEAST_BUNDLE,
            sorted: Sorted::default(),
            gathered: Gathered::default(),
            handed_over: 0,
            worker: None,
            lsn,
        }
    }

    /// Adds the transaction `batch` of LSN `lsn`, which must be in the log as a whole: an index under construction has no
    /// readers, so its writes go in piece by piece. A transaction that creates or drops keyspaces is applied as a commit
    /// is, after everything before it. After an error the loader must not be used.
    pub(crate) fn add(&mut self, lsn: Lsn, batch: &Batch<'_>) -> Result<Result<(), ApplyError>, Panicked> {
        if lsn <= self.lsn {
            return Ok(Err(ApplyError::LsnNotRising { lsn, applied: self.lsn }));
        }
        if !batch.only_writes() {
            self.sort_and_merge()?;
            return Ok(self.apply(lsn, batch));
        }
        for op in batch.effective() {
            let last = self.bundle.last_tree();
            let tree = match self.trees.place_of(op.keyspace(), last, &self.index) {
                Ok(tree) => tree,
                Err(error) => return Ok(Err(error)),
            };
            if let Op::DeleteRange { from, to, .. } = op {
                // Whether it covers a version, their LSNs say: those that are gathered may go in later.
                self.trees.list[tree as usize].load_range((from, to), lsn);
                continue;
            }
            self.bundle.push(tree, lsn, &op);
            // Also within a transaction, which may be far larger than a bundle.
            if self.is_full() {
                self.hand_over()?;
            }
        }
        self.lsn = lsn;
        Ok(Ok(()))
    }

    /// Whether the index takes no more than `room`, in bytes, with what the sorted writes will take of it by estimate. They go in
    /// before they take half of that themselves.
    pub(crate) fn fits_in(&mut self, room: usize) -> Result<bool, Panicked> {
        let Gathered { bytes, sample, .. } = &self.gathered;
        if self.index.bytes().all + sample.live_part_of(*bytes) > room {
            return Ok(false);
        }
        if *bytes > room / 2 {
            self.merge(Pieces::Reused)?;
        }
        Ok(self.index.bytes().all <= room)
    }

    fn is_full(&self) -> bool {
        let Limits { writes, bytes, .. } = self.limits;
        self.bundle.writes().len() >= writes || self.bundle.bytes() >= bytes || self.bundle.memory() >= self.room
    }

    /// Applies a batch that creates or drops keyspaces. Everything before it must be in the index first.
    fn apply(&mut self, lsn: Lsn, batch: &Batch<'_>) -> Result<(), ApplyError> {
        for op in batch {
            if let Op::DropKeyspace { keyspace } = op {
                let dropped = self.index.alive(keyspace).map_or(0, |tree| tree.bytes());
                self.gathered.index_bytes = self.gathered.index_bytes.saturating_sub(dropped);
            }
        }
        self.index.apply(lsn, batch, lsn)?;
        self.index.publish(lsn);
        // So that no superseded version waits in `undo` when a merge replaces the map.
        self.index.prune(lsn, usize::MAX);
        self.trees = Trees::default();
        self.lsn = lsn;
        Ok(())
    }

    /// The memory that the next bundle may take, in bytes. A power of two: if it grew with each bundle, no bundle's memory
    /// could be reused for a later one.
    fn room(&self) -> usize {
        let live = self.gathered.index_bytes + self.gathered.bytes;
        1 << Self::LEAST_BUNDLE.max(live / Self::SHARES).ilog2()
    }

    /// Gives the bundle to the worker. The loader sorts it itself while the log is small, and if no thread can be
    /// started.
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
        self.room = self.room();
        self.bundle = self.sorted.spare.pop().unwrap_or_default().with_room(self.room, self.limits);
        if self.has_enough() { self.merge(Pieces::Reused) } else { Ok(()) }
    }

    /// Whether the sorted writes take so much more memory than the live data among them that a merge is worth its cost.
    fn has_enough(&mut self) -> bool {
        let Gathered { counted, bytes, sample, index_bytes, enough } = &mut self.gathered;
        for piece in &self.sorted.pieces[*counted..] {
            *bytes += piece.memory();
            sample.add(piece.writes());
        }
        *counted = self.sorted.pieces.len();
        let live = sample.live_bytes();
        let is_small = *index_bytes < live / 2;
        *bytes >= Self::LEAST_PUT_IN && *bytes >= if is_small { Self::SPREAD * live } else { *enough }
    }

    /// Sorts and merges everything gathered so far.
    fn sort_and_merge(&mut self) -> Result<(), Panicked> {
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

    /// Merges the sorted pieces.
    fn merge(&mut self, after: Pieces) -> Result<(), Panicked> {
        let pieces = mem::take(&mut self.sorted.pieces);
        if pieces.is_empty() {
            return Ok(());
        }
        let put_in: usize = pieces.iter().map(Bundle::memory).sum();
        let before = self.trees.bytes();
        merge::merge(&self.trees.list, pieces, after)?;
        // Never the sum over all keyspaces: there is a merge for each record that creates or drops one.
        let index_bytes = (self.gathered.index_bytes + self.trees.bytes()).saturating_sub(before);
        let are_new = index_bytes.saturating_sub(self.gathered.index_bytes) >= put_in / 2;
        let enough = if are_new { index_bytes } else { index_bytes / 2 };
        self.gathered = Gathered { index_bytes, enough, ..Gathered::default() };
        Ok(())
    }

    /// Merges everything gathered and returns the index.
    pub(crate) fn finish(mut self) -> Result<Index, Panicked> {
        self.sort_and_merge()?;
        self.index.queue_stuck();
        Ok(self.index)
    }
}

impl Trees {
    /// The bytes of their leaves.
    fn bytes(&self) -> usize {
        #[cfg(test)]
        fault::looked_at(self.list.len());
        self.list.iter().map(|tree| tree.bytes()).sum()
    }

    /// The index of the keyspace `id` in the list; `last` is the one of the write before.
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
