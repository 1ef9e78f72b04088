//! Loading: what the log says goes into an index that nobody reads yet.
//!
//! The log has keys in the order in which they were written, which is none: applied one by one, each waits for its own
//! pages of memory. So writes are gathered, sorted, and applied in the order of their keys, a bundle at a time; of
//! several to one key only the last counts, since no snapshot is older than the load. Unless there is little, a thread
//! applies one bundle while the next is gathered.

#[cfg(any(test, shuttle))]
pub(crate) mod fault;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::map::head;
use super::tree::Tree;
use super::{ApplyError, Index};
use crate::format::batch::{Batch, Op};
use crate::words::plant::planted;
use crate::words::sync::{self, Receiver, Sender, Thread};
use crate::words::types::Lsn;

/// How much is gathered before it is applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) writes: usize,
    /// Of keys and values.
    pub(crate) bytes: usize,
    /// Bytes until which no second thread is worth its while.
    pub(crate) alone: usize,
}

impl Limits {
    /// The more at once, the more of them meet in a leaf; and a few times this much memory is taken for a while.
    const WRITES: usize = 1 << 18;
    const BYTES: usize = 32 << 20;
    const ALONE: usize = 16 << 10;

    /// For a log whose segments are that large: no bundle is larger than one, and a full one is not little.
    pub(crate) fn of(segment_bytes: u64) -> Self {
        let bytes = usize::try_from(segment_bytes).map_or(Self::BYTES, |bytes| bytes.min(Self::BYTES));
        Limits { writes: Self::WRITES, bytes, alone: Self::ALONE.min(bytes) }
    }
}

/// One write, as it was gathered.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// In the bundle's list of keyspaces.
    tree: u32,
    /// Its place in the log order.
    number: u32,
    /// See [`head`]: mostly it tells which of two keys comes first.
    head: u64,
    lsn: Lsn,
    /// Where its key begins in the bundle's bytes, and where the key, and the value behind it, end.
    at: usize,
    key_end: usize,
    end: usize,
    is_delete: bool,
}

/// Writes of consecutive transactions.
#[derive(Debug, Default)]
struct Bundle {
    trees: Vec<Arc<Tree>>,
    /// Where each is in the list, by its id.
    places: BTreeMap<u32, u32>,
    writes: Vec<Write>,
    bytes: Vec<u8>,
    /// Of the last transaction.
    lsn: Lsn,
}

/// The panic was reported by the panic hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Panicked;

/// Builds an index from transactions in LSN order.
#[derive(Debug)]
pub(crate) struct Loader {
    index: Arc<Index>,
    limits: Limits,
    bundle: Bundle,
    /// Bytes of the bundles that were handed over.
    handed_over: usize,
    worker: Option<Worker>,
}

impl Loader {
    pub(crate) fn new(limits: Limits) -> Self {
        Loader { index: Arc::new(Index::new()), limits, bundle: Bundle::default(), handed_over: 0, worker: None }
    }

    /// Takes in the transaction `batch` of LSN `lsn`. After an error the loader is good for nothing.
    pub(crate) fn add(&mut self, lsn: Lsn, batch: &Batch<'_>) -> Result<Result<(), ApplyError>, Panicked> {
        if lsn <= self.bundle.lsn {
            return Ok(Err(ApplyError::LsnNotRising { lsn, applied: self.bundle.lsn }));
        }
        if batch.iter().any(|op| !op.is_write()) {
            self.settle()?;
            return Ok(self.apply(lsn, batch));
        }
        for op in batch {
            let tree = match self.bundle.place_of(op.keyspace(), &self.index) {
                Ok(tree) => tree,
                Err(error) => return Ok(Err(error)),
            };
            self.bundle.push(tree, lsn, &op);
        }
        self.bundle.lsn = lsn;
        if self.bundle.writes.len() >= self.limits.writes || self.bundle.bytes.len() >= self.limits.bytes {
            self.hand_over()?;
        }
        Ok(Ok(()))
    }

    /// Keyspaces come and go: everything before must be there.
    fn apply(&mut self, lsn: Lsn, batch: &Batch<'_>) -> Result<(), ApplyError> {
        self.index.apply(lsn, batch, lsn)?;
        self.index.publish(lsn);
        // So that no key waits to be pruned when a bundle replaces what it has.
        self.index.prune(lsn, usize::MAX);
        self.bundle.lsn = lsn;
        Ok(())
    }

    /// Gives the bundle to the worker. While there is little, and where no thread is to be had, it is applied here.
    fn hand_over(&mut self) -> Result<(), Panicked> {
        self.handed_over += self.bundle.bytes.len();
        if self.worker.is_none() && self.handed_over >= self.limits.alone {
            self.worker = Worker::start(&self.index);
        }
        let empty = match &mut self.worker {
            Some(worker) => worker.empty()?,
            None => Bundle::default(),
        };
        let full = self.begin(empty);
        match &mut self.worker {
            Some(worker) => worker.send(full),
            None => self.bundle = full.apply(&self.index).after(self.bundle.lsn),
        }
        Ok(())
    }

    /// Applies everything gathered so far.
    fn settle(&mut self) -> Result<(), Panicked> {
        if let Some(worker) = self.worker.take() {
            worker.finish()?;
        }
        if planted!("load-forgets-the-last-bundle") && self.handed_over > 0 {
            self.bundle = mem::take(&mut self.bundle).empty();
        }
        let last = self.begin(Bundle::default());
        self.bundle = last.apply(&self.index).after(self.bundle.lsn);
        Ok(())
    }

    /// Goes on in the memory of `empty`; returns the bundle so far, sorted: the reading thread has the time.
    fn begin(&mut self, empty: Bundle) -> Bundle {
        let lsn = self.bundle.lsn;
        self.bundle.sort();
        mem::replace(&mut self.bundle, empty.after(lsn))
    }

    /// The index with everything in it.
    pub(crate) fn finish(mut self) -> Result<Index, Panicked> {
        self.settle()?;
        Arc::into_inner(self.index).ok_or(Panicked)
    }
}

impl Bundle {
    /// Where the keyspace `id` is in the list.
    fn place_of(&mut self, id: u32, index: &Index) -> Result<u32, ApplyError> {
        // The last one is mostly the next one too.
        let known = self.writes.last().map(|last| last.tree).filter(|last| self.trees[*last as usize].id() == id);
        if let Some(place) = known.or_else(|| self.places.get(&id).copied()) {
            return Ok(place);
        }
        let place = u32::try_from(self.trees.len()).expect("an id has 32 bits");
        self.trees.push(index.alive(id)?);
        self.places.insert(id, place);
        Ok(place)
    }

    fn push(&mut self, tree: u32, lsn: Lsn, op: &Op<'_>) {
        let (key, value) = match *op {
            Op::Put { key, value, .. } => (key, Some(value)),
            Op::Delete { key, .. } => (key, None),
            Op::CreateKeyspace { .. } | Op::DropKeyspace { .. } => return,
        };
        let number = u32::try_from(self.writes.len()).expect("a batch of 2^32 writes is over every limit");
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let end = self.bytes.len();
        self.writes.push(Write { tree, number, head: head(key), lsn, at, key_end, end, is_delete: value.is_none() });
    }

    /// Brings the writes into the order of their keys, and those to one key into that of the log.
    fn sort(&mut self) {
        let Bundle { writes, bytes, .. } = self;
        let key = |write: &Write| &bytes[write.at..write.key_end];
        writes.sort_unstable_by(|a, b| {
            let by_head = (a.tree, a.head).cmp(&(b.tree, b.head));
            by_head.then_with(|| key(a).cmp(key(b))).then(a.number.cmp(&b.number))
        });
    }

    /// Puts the writes, which are sorted, where they belong; returns the memory that they were in.
    fn apply(self, index: &Index) -> Bundle {
        let Bundle { trees, writes, bytes, lsn, .. } = &self;
        let key = |write: &Write| &bytes[write.at..write.key_end];
        for of_tree in writes.chunk_by(|a, b| a.tree == b.tree) {
            let same_key = |a: &Write, b: &Write| a.head == b.head && key(a) == key(b);
            let mut ahead = of_tree.iter().skip(Self::AHEAD);
            let which = if planted!("load-keeps-the-first-write") { <[Write]>::first } else { <[Write]>::last };
            let last_of_each = of_tree.chunk_by(same_key).filter_map(which).map(|write| {
                ahead.next().inspect(|write| fetch(bytes, write));
                let value = (!write.is_delete).then(|| &bytes[write.key_end..write.end]);
                (key(write), write.lsn, value)
            });
            trees[of_tree[0].tree as usize].load(last_of_each);
        }
        index.loaded(*lsn);
        self.empty()
    }

    /// In the order of their keys the writes lie anywhere in the bytes: so many before its turn each is fetched.
    const AHEAD: usize = 16;

    /// Only its memory.
    fn empty(mut self) -> Bundle {
        self.trees.clear();
        self.places.clear();
        self.writes.clear();
        self.bytes.clear();
        self
    }

    /// A bundle that begins behind `lsn`.
    fn after(self, lsn: Lsn) -> Bundle {
        Bundle { lsn, ..self }
    }
}

/// Has what was written come from memory, and waits for none of it.
fn fetch(bytes: &[u8], write: &Write) {
    for line in bytes[write.at..write.end].chunks(64) {
        std::hint::black_box(line[0]);
    }
}

/// The thread that applies bundles.
#[derive(Debug)]
struct Worker {
    bundles: Sender<Bundle>,
    /// Those that were applied: their memory.
    applied: Receiver<Bundle>,
    /// Not come back yet.
    away: usize,
    thread: Thread,
}

impl Worker {
    /// More would be memory for nothing: the slower of the two sides sets the pace.
    const MOST_AWAY: usize = 2;

    fn start(index: &Arc<Index>) -> Option<Self> {
        let ((bundles, incoming), (outgoing, applied)) = (sync::channel::<Bundle>(), sync::channel());
        let index = Arc::clone(index);
        #[cfg(any(test, shuttle))]
        let mut fault = fault::Fault::take();
        let apply = move || {
            while let Some(bundle) = incoming.recv() {
                #[cfg(any(test, shuttle))]
                if fault.strikes() {
                    return;
                }
                outgoing.send(bundle.apply(&index));
            }
            // Before the queue closes: whoever sees its end may want the index for itself.
            drop(index);
            outgoing.close();
        };
        let thread = sync::spawn("forelog-load", apply).ok()?;
        Some(Worker { bundles, applied, away: 0, thread })
    }

    /// Waits until no more than a few are away; returns memory for another.
    fn empty(&mut self) -> Result<Bundle, Panicked> {
        if self.away < Self::MOST_AWAY {
            return Ok(Bundle::default());
        }
        self.away -= 1;
        self.applied.recv().ok_or(Panicked)
    }

    fn send(&mut self, bundle: Bundle) {
        self.bundles.send(bundle);
        self.away += 1;
    }

    fn finish(self) -> Result<(), Panicked> {
        self.bundles.close();
        if planted!("race-load-finish-does-not-wait") {
            return Ok(());
        }
        let back = std::iter::from_fn(|| self.applied.recv()).count();
        self.thread.join();
        if back == self.away || planted!("race-load-misses-a-dead-worker") { Ok(()) } else { Err(Panicked) }
    }
}
