//! Reading the installed layers while the database is open: what memory asks where it cannot answer alone (`RULES.md`, 6).
//!
//! | file | what |
//! |---|---|
//! | `installed`, `layers` | the layers that a reader holds, and what it may ask of them |
//! | `get` | one key, layer by layer |
//! | `scan`, `layer_scan`, `run_scan`, `blocks` | a range: the merge, one layer, one run, its blocks |
//! | `over`, `ranges` | range tombstones over one key, and those that a scan passes |
//! | `open_runs`, `partitions`, `hash` | what stays open and in memory between reads |
//! | `wanted`, `bell` | keys that are read again and again; who is told when memory is to be looked after |

mod bell;
mod blocks;
mod get;
mod hash;
mod installed;
mod layer_scan;
mod layers;
mod open_runs;
mod over;
mod partitions;
mod ranges;
mod run_scan;
mod scan;
mod wanted;

use std::sync::Arc;

use bell::Bell;
use installed::{Caches, Installed};
use layers::Nothing;
use open_runs::OpenRuns;
use partitions::Partitions;
use wanted::Wanted;

use super::held::HeldStack;
use super::store::{Follower, Stack, Store};
use crate::disk::share_of_files;
use crate::index::{Beyond, Layers};
use crate::rt::sync::{OnceLock, ShortRwLock as RwLock};

/// What readers may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Runs that stay open between reads, and the bytes of memory that they take. Those that scans are in come on top.
    pub(crate) open_runs: usize,
    pub(crate) open_run_bytes: u64,
    /// Bytes of partitions in memory.
    pub(crate) partition_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { open_runs: share_of_files(4, 1024), open_run_bytes: 8 << 20, partition_bytes: 32 << 20 }
    }
}

/// The layers of a database, for those who read it: one for each open, and for each that reads without.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Empty before there are tables.
    store: Arc<OnceLock<Store>>,
    newest: Arc<Newest>,
    wanted: Wanted,
    bell: Arc<Bell>,
}

/// The layers that readers get.
#[derive(Debug)]
struct Newest {
    caches: Arc<Caches>,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// That of the newest stack that the store has told of. An older one must not come after it: memory may have forgotten what
    /// only the newer one has.
    generation: u64,
    installed: Option<Arc<Installed>>,
}

impl Reading {
    pub(crate) fn new(store: Arc<OnceLock<Store>>, limits: Limits) -> Self {
        let (runs, bell) = (OpenRuns::new(limits.open_runs, limits.open_run_bytes), Arc::new(Bell::default()));
        let partitions = Partitions::new(limits.partition_bytes, Arc::clone(&bell));
        let newest = Newest { caches: Arc::new(Caches { runs, partitions }), known: RwLock::default() };
        Reading { store, newest: Arc::new(newest), wanted: Wanted::new(Arc::clone(&bell)), bell }
    }

    /// The bytes that partitions in memory take.
    pub(crate) fn partition_bytes(&self) -> u64 {
        self.newest.caches.partitions.bytes()
    }

    /// The bytes that runs take which stay open.
    pub(crate) fn open_run_bytes(&self) -> u64 {
        self.newest.caches.runs.bytes()
    }

    /// Rings when there is a key that memory wants back, or when partitions have grown.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The keys that memory wants back.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The runs that stay open.
    #[cfg(test)]
    pub(super) fn open_runs(&self) -> usize {
        self.newest.caches.runs.len()
    }
}

impl Beyond for Reading {
    fn note_read(&self, keyspace: u32, key: &[u8]) {
        self.wanted.note(keyspace, key);
    }

    fn installed(&self) -> Arc<dyn Layers> {
        if let Some(installed) = self.newest.get() {
            return installed;
        }
        let Some(store) = self.store.get() else { return Arc::new(Nothing) };
        // First: so none that is installed from now on is missed.
        store.follow(Arc::clone(&self.newest) as Arc<dyn Follower>);
        while let Some(held) = HeldStack::of(store) {
            self.newest.begin(held);
            if let Some(installed) = self.newest.get() {
                return installed;
            }
        }
        Arc::new(Nothing)
    }
}

impl Newest {
    fn get(&self) -> Option<Arc<Installed>> {
        self.known.read().installed.clone()
    }

    /// Takes the first stack, unless a newer one was told of meanwhile.
    fn begin(&self, held: HeldStack) {
        let installed = Arc::new(Installed::new(held, &self.caches));
        let mut known = self.known.write();
        if known.installed.is_none() && known.generation <= installed.generation() {
            known.generation = installed.generation();
            known.installed = Some(installed);
        }
    }
}

impl Follower for Newest {
    fn installed(&self, stack: &Arc<Stack>) {
        let generation = stack.manifest.generation;
        let next = self.get().map(|before| Arc::new(Installed::new(before.held.with(Arc::clone(stack)), &self.caches)));
        // Let go of without the lock: with them their files may be closed. If the first ones have come since the look above, the
        // next reader begins again.
        let _before = {
            let mut known = self.known.write();
            known.generation = generation;
            std::mem::replace(&mut known.installed, next)
        };
        let numbers = stack.manifest.numbers().collect();
        self.caches.runs.follow(generation, &numbers);
        self.caches.partitions.retain(|file| numbers.contains(&file));
    }
}
