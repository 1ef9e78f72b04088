//! Partitions in memory, decoded and checked once: those that reads ask for most.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::bell::Bell;
use super::hash::Mixed;
use crate::base::error::Result;
use crate::format::table::block_index::BlockIndex;
use crate::format::table::filter;
use crate::table::run::read::Run;

/// The number of a file, and that of a partition in it.
type Place = (u64, u32);

/// Parts of the cache that have locks of their own. A fixed number: what is displaced must not depend on the machine.
const SHARDS: usize = 16;
/// About what a partition takes, for a first guess of how many there will be.
const USUAL: u64 = 8 << 10;
/// They ring so often until they take all that they may.
const STEPS: u64 = 32;

/// A partition that was checked against its parent.
#[derive(Debug)]
pub(super) struct Partition {
    filter: Box<[u8]>,
    /// The data blocks, in the order of their keys.
    pub(super) blocks: BlockIndex,
}

impl Partition {
    fn read(run: &Run, number: usize) -> Result<Self> {
        let bytes = run.read_block(run.root.partitions[number].block)?;
        let (partition, blocks) = run.partition(number, &bytes)?;
        Ok(Partition { filter: partition.filter().into(), blocks: BlockIndex::of(&blocks) })
    }

    /// Whether it may have versions of the full key with this hash. `false` is certain.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        filter::may_contain(&self.filter, hash)
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.filter.len() + self.blocks.memory()
    }
}

#[derive(Clone, Copy, Debug)]
struct Bytes;

impl Weighter<Place, Arc<Partition>> for Bytes {
    fn weight(&self, _: &Place, partition: &Arc<Partition>) -> u64 {
        partition.memory() as u64
    }
}

/// The partitions that are in memory.
pub(super) struct Partitions {
    cache: Cache<Place, Arc<Partition>, Bytes, Mixed>,
    /// Rings when they have grown, for the one who makes room for them among records.
    bell: Arc<Bell>,
    /// It rings next when they take so many bytes.
    next: AtomicU64,
    step: u64,
}

impl Partitions {
    /// They take at most so many bytes.
    pub(super) fn new(bytes: u64, bell: Arc<Bell>) -> Self {
        let items = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX).clamp(1, 1 << 20);
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(items)
            .weight_capacity(bytes)
            .build()
            .expect("shards, items and bytes are given");
        let cache = Cache::with_options(options, Bytes, Mixed::default(), DefaultLifecycle::default());
        let step = bytes / STEPS;
        Partitions { cache, bell, next: AtomicU64::new(step), step }
    }

    /// The partition with this number of the run in the file with number `file`. It is kept in memory if `keep` says so: a long
    /// scan asks for each one once.
    ///
    /// # Errors
    /// It cannot be read or is damaged. Then it is read again when it is next asked for.
    pub(super) fn get(&self, file: u64, run: &Run, number: usize, keep: bool) -> Result<Arc<Partition>> {
        let place = (file, u32::try_from(number).expect("a root counts them in 32 bits"));
        if let Some(partition) = self.cache.get(&place) {
            return Ok(partition);
        }
        let partition = Arc::new(Partition::read(run, number)?);
        if keep {
            self.cache.insert(place, Arc::clone(&partition));
            self.look();
        }
        Ok(partition)
    }

    /// Rings if they have grown.
    fn look(&self) {
        let bytes = self.bytes();
        if bytes >= self.next.load(Ordering::Relaxed) {
            self.next.store(bytes + self.step, Ordering::Relaxed);
            self.bell.ring();
        }
    }

    /// Lets go of those of files for which `is_needed` says no.
    pub(super) fn retain(&self, is_needed: impl Fn(u64) -> bool) {
        self.cache.retain(|(file, _), _| is_needed(*file));
    }

    /// The bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
