//! The index: every key of every keyspace with its versions, in memory and in order. It knows keys, never files.
//!
//! Each write carries the LSN of its transaction, and becomes readable when that LSN is published: applying and
//! publishing are two steps. A reader holds an LSN ([`SnapshotGuard`]) and sees the newest version at or below it, for as long
//! as it holds it. A version is pruned once no reader can read it (`garbage`). Until then it is retained
//! - for each held snapshot that sees it;
//! - for every LSN from `prune_to` on, so that a snapshot at the durable LSN can still be taken, and in any case from
//!   the visible LSN on.
//!
//! Commits come through [`Index::apply`], the log's records at open through [`Loader`]. A lock here is held for one
//! key's change or for one piece of a scan, and never across a wait. (The loader, which is alone, holds one for any
//! number of changes.) Lock order: writer, catalogue, tree, then the registry of snapshots.

mod above;
mod bell;
mod beyond;
mod cursor;
#[cfg(test)]
pub(crate) mod fault;
mod fill;
mod filler;
mod garbage;
mod key;
mod keyspace;
mod load;
mod map;
mod meter;
mod range_tombstones;
mod residency;
mod retained;
mod scan;
mod snapshot;
mod state;
mod sweep;
mod through;
mod tree;
mod undo;
mod value;
mod version;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use crate::rt::sync::{ShortMutex as Mutex, ShortRwLock as RwLock};

use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::batch::{Batch, Op, Ops};

use garbage::Garbage;
use keyspace::Catalogue;
use snapshot::{Horizon, Purpose, Snapshots};

pub(crate) use above::{Above, Readers};
pub(crate) use bell::{Bell, Woken};
pub(crate) use beyond::{AwayKeyspace, Beyond, Layers, LayersScan};
pub(crate) use cursor::{Cursor, Entry};
pub(crate) use fill::Fill;
pub(crate) use filler::Filler;
pub(crate) use garbage::Left;
pub use key::Key;
#[cfg(shuttle)]
pub use load::fault::load_dies_after;
pub(crate) use load::{Limits, Loader, Panicked};
use map::AT_ONCE;
pub(crate) use map::{KeyRange, between, is_empty};
pub(crate) use meter::Bytes;
pub(crate) use snapshot::SnapshotGuard;
pub(crate) use tree::Tree;
pub use value::Value;
pub(crate) use version::Direction;

/// Why a batch was refused. Nothing of it was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ApplyError {
    /// The LSN is not above the last one.
    LsnNotRising {
        /// The LSN given.
        lsn: Lsn,
        /// The last one applied.
        applied: Lsn,
    },
    /// It writes to, or drops, a keyspace that is not there.
    NoSuchKeyspace(u32),
    /// It creates a keyspace under an id that was or may have been used.
    IdNotRising {
        /// The id given.
        id: u32,
        /// The lowest id that was never used.
        next: u32,
    },
    /// It creates a keyspace under a name that is taken.
    NameTaken(Box<str>),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::LsnNotRising { lsn, applied } => write!(f, "LSN {lsn} does not come after LSN {applied}"),
            ApplyError::NoSuchKeyspace(id) => write!(f, "there is no keyspace with id {id}"),
            ApplyError::IdNotRising { id, next } => write!(f, "keyspace id {id} cannot be new: the next one is {next}"),
            ApplyError::NameTaken(name) => write!(f, "there is a keyspace called '{name}' already"),
        }
    }
}

impl std::error::Error for ApplyError {}

#[derive(Debug)]
pub(crate) struct Index {
    snapshots: Snapshots,
    catalogue: RwLock<Catalogue>,
    writer: Mutex<Writer>,
}

/// State that only an apply or a pruning uses.
#[derive(Debug, Default)]
struct Writer {
    applied: Lsn,
    garbage: Garbage,
    /// The keyspace written to last, which the next write mostly uses too. Cleared when a keyspace is dropped.
    last: Option<Arc<Tree>>,
    /// Brought up to date before each use.
    horizon: Horizon,
}

/// What an operation does to a keyspace.
enum Write<'a> {
    Key(&'a [u8], Option<&'a [u8]>),
    /// Deletes the keys from one on, up to another one.
    Range(&'a [u8], Option<&'a [u8]>),
}

/// A commit among several that are applied together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) lsn: Lsn,
    /// The number of its operations in the batch.
    pub(crate) ops: usize,
}

impl Writer {
    /// Prefetches the leaves and records that the next writes will touch, for all of them at once: one after the other,
    /// each write would spend most of its time waiting for memory. Returns for how many operations it did.
    fn fetch(&self, ops: Ops<'_>) -> usize {
        if let Some(tree) = &self.last {
            let mut keys = [&[][..]; AT_ONCE];
            let mut count = 0;
            for op in ops.take(AT_ONCE).filter(|op| op.keyspace() == tree.id()) {
                if let Some(key) = op.key() {
                    keys[count] = key;
                    count += 1;
                }
            }
            tree.fetch(&keys[..count]);
        }
        AT_ONCE
    }
}

impl Default for Index {
    fn default() -> Self {
        Index::new()
    }
}

impl Index {
    /// The versions that an apply looks at for pruning: this number for each commit and two for each operation, so that
    /// pruning is faster than the making of garbage.
    const MIN_PRUNED: usize = 16;

    /// The held LSNs that a horizon tells apart.
    const TOLD_APART: usize = 64;

    /// For fewer operations a prefetch costs more than it saves.
    const FEW: usize = 4;

    pub(crate) fn new() -> Self {
        Index {
            snapshots: Snapshots::default(),
            catalogue: RwLock::new(Catalogue::new()),
            writer: Mutex::new(Writer::default()),
        }
    }

    /// An index of what layers have, whose effect goes up to `to`: nothing of it is in memory. Ids of keyspaces from `next_id` on
    /// were never used.
    pub(crate) fn over(
        beyond: &Arc<dyn Beyond>,
        keyspaces: impl IntoIterator<Item = AwayKeyspace>,
        to: Lsn,
        next_id: u32,
    ) -> Self {
        let index = Index::new();
        *index.catalogue.write() = Catalogue::of_layers(beyond, keyspaces, to, next_id);
        index.note_installed(to);
        index.loaded(to);
        index
    }

    /// Layers that are installed have the effect of the log up to `to`.
    pub(crate) fn note_installed(&self, to: Lsn) {
        self.snapshots.note_installed(to);
        // Tombstones wait for it.
        self.bell().ring_for_commit();
    }

    /// Raises the floor, below which no snapshot begins from now on, to `to`, or to the visible LSN. Returns what readers can
    /// still ask for: every LSN from the first one on, and those listed, which are held below. It stays right.
    pub(crate) fn horizon(&self, to: Lsn) -> (Lsn, Vec<Lsn>) {
        let (mut floor, mut held) = self.snapshots.raise(to);
        if let Some(first_untold) = held.get(Self::TOLD_APART) {
            floor = *first_untold;
            held.truncate(Self::TOLD_APART);
        }
        (floor, held)
    }

    /// The LSNs below `to` that are held, without an end to how many are told apart, and raises the floor to `to`.
    pub(crate) fn held_below(&self, to: Lsn) -> Vec<Lsn> {
        let (_, mut held) = self.snapshots.raise(to);
        held.retain(|held| *held < to);
        held
    }

    /// Lets a fill land in the keyspace that it was read for: its range is complete from then on. Returns `false`, and has
    /// changed nothing, if newer things have left memory since the layers were held.
    pub(crate) fn land(&self, tree: &Tree, fill: &Fill) -> bool {
        tree.land(fill, self.snapshots.settled())
    }

    /// Whether nobody asks layers: all that anybody can read is in memory.
    pub(crate) fn is_whole(&self) -> bool {
        self.unsettled().iter().all(|tree| self.settle(tree))
    }

    /// The keyspaces of which somebody may ask layers.
    pub(crate) fn unsettled(&self) -> Vec<Arc<Tree>> {
        self.catalogue.read().trees().filter(|tree| !tree.is_whole()).cloned().collect()
    }

    /// Looks whether nobody can ask layers for a keyspace any more.
    pub(crate) fn settle(&self, tree: &Tree) -> bool {
        tree.settle(self.snapshots.settled());
        tree.is_whole()
    }

    /// What the newest versions of all keyspaces take of memory, unused room of leaves included. Those that were dropped count until
    /// they are freed.
    pub(crate) fn bytes(&self) -> Bytes {
        self.catalogue.read().meter.read()
    }

    /// The keyspaces, by id, from an id on.
    pub(crate) fn trees_from(&self, id: u32) -> Vec<Arc<Tree>> {
        self.catalogue.read().trees().filter(|tree| tree.id() >= id).cloned().collect()
    }

    /// Whether a range was deleted that is not swept.
    pub(crate) fn has_ranges(&self) -> bool {
        self.catalogue.read().trees().any(|tree| tree.has_ranges())
    }

    /// The keyspace with this id, dropped or not, as long as a reader may see it.
    pub(crate) fn known_by_id(&self, id: u32) -> Option<Arc<Tree>> {
        self.catalogue.read().by_id(id).cloned()
    }

    /// The keyspace with this id, unless it was dropped.
    pub(crate) fn keyspace_by_id(&self, id: u32) -> Option<Arc<Tree>> {
        self.catalogue.read().alive(id).cloned()
    }

    /// Up to here installed layers have the effect of the log.
    pub(crate) fn installed(&self) -> Lsn {
        self.snapshots.installed()
    }

    /// The lowest LSN from which a transaction will ask what has changed.
    pub(crate) fn lowest_validating(&self) -> Option<Lsn> {
        self.snapshots.lowest_validating()
    }

    /// Wakes the pruner: at the end of a snapshot, and after a commit.
    pub(crate) fn bell(&self) -> &Bell {
        self.snapshots.bell()
    }

    /// The LSN at or below which every commit can be read.
    pub(crate) fn visible(&self) -> Lsn {
        self.snapshots.visible()
    }

    /// Gives every operation of `batch` the LSN `lsn`. Readers see none of it before [`Index::publish`].
    ///
    /// Calls come one at a time, with rising LSNs. `prune_to` is the LSN (the durable one) below which no new snapshot
    /// will be taken. An error leaves the index unchanged.
    pub(crate) fn apply(&self, lsn: Lsn, batch: &Batch<'_>, prune_to: Lsn) -> std::result::Result<(), ApplyError> {
        self.apply_all(&[Commit { lsn, ops: batch.len() }], batch, prune_to)
    }

    /// [`Index::apply`] for several commits at once. Their operations follow one another in `batch`.
    pub(crate) fn apply_all(
        &self,
        commits: &[Commit],
        batch: &Batch<'_>,
        prune_to: Lsn,
    ) -> std::result::Result<(), ApplyError> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        debug_assert!(!batch.has_ranges() || commits.len() == 1, "what a range covers is told within one commit");
        let mut applied = writer.applied;
        for &Commit { lsn, .. } in commits {
            if lsn <= applied {
                return Err(ApplyError::LsnNotRising { lsn, applied });
            }
            applied = lsn;
        }
        let known = writer.last.as_ref().map(|tree| tree.id());
        if batch.iter().any(|op| !op.is_write() || Some(op.keyspace()) != known) {
            self.catalogue.read().check(batch)?;
        }
        writer.applied = applied;
        self.snapshots.observe(prune_to, &mut writer.horizon);
        if batch.has_ranges() {
            batch.effective().try_for_each(|op| self.apply_op(writer, applied, &op))?;
        } else {
            self.apply_keys(writer, commits, batch)?;
        }
        self.collect(writer, batch.len().saturating_mul(2) + commits.len() * Self::MIN_PRUNED);
        Ok(())
    }

    fn apply_keys(
        &self,
        writer: &mut Writer,
        commits: &[Commit],
        batch: &Batch<'_>,
    ) -> std::result::Result<(), ApplyError> {
        let (mut ops, mut fetched) = (batch.iter(), 0);
        for commit in commits {
            for _ in 0..commit.ops {
                if fetched == 0 && batch.len() >= Self::FEW {
                    fetched = writer.fetch(ops.clone());
                }
                fetched = fetched.saturating_sub(1);
                if let Some(op) = ops.next() {
                    self.apply_op(writer, commit.lsn, &op)?;
                }
            }
        }
        Ok(())
    }

    fn apply_op(&self, writer: &mut Writer, lsn: Lsn, op: &Op<'_>) -> std::result::Result<(), ApplyError> {
        let write = match *op {
            Op::Put { key, value, .. } => Write::Key(key, Some(value)),
            Op::Delete { key, .. } => Write::Key(key, None),
            Op::DeleteRange { from, to, .. } => Write::Range(from, to),
            Op::CreateKeyspace { keyspace, name } => {
                self.catalogue.write().create(keyspace, name, lsn);
                return Ok(());
            }
            Op::DropKeyspace { keyspace } => {
                let tree = self.alive(keyspace)?;
                tree.drop_at(lsn);
                writer.garbage.drop_keyspace(tree);
                writer.last = None;
                return Ok(());
            }
        };
        let tree = match &mut writer.last {
            Some(tree) if tree.id() == op.keyspace() => tree,
            last => last.insert(self.alive(op.keyspace())?),
        };
        match write {
            Write::Key(key, value) if tree.write(key, value, lsn) => writer.garbage.wait(lsn, tree),
            Write::Key(..) => {}
            Write::Range(from, to) if tree.delete_range((from, to), lsn, &writer.horizon) => {
                writer.garbage.sweep_later(lsn, tree);
            }
            Write::Range(..) => {}
        }
        Ok(())
    }

    /// Makes everything up to `lsn`, the LSN of the last apply, visible.
    pub(crate) fn publish(&self, lsn: Lsn) {
        self.snapshots.publish(lsn);
    }

    /// Looks at up to `budget` versions that are due and prunes them. Returns how many it looked at; fewer than
    /// `budget` means that nothing more is due.
    ///
    /// Applies prune as they go; the pruner calls this when no commits come.
    pub(crate) fn prune(&self, prune_to: Lsn, budget: usize) -> usize {
        let mut writer = self.writer.lock();
        self.snapshots.observe(prune_to, &mut writer.horizon);
        let used = self.collect(&mut writer, budget);
        let Writer { garbage, horizon, .. } = &mut *writer;
        used + garbage.sweep(budget - used.min(budget), horizon)
    }

    /// The garbage that is left after an [`Index::prune`] that found nothing more due.
    pub(crate) fn left(&self) -> Left {
        let writer = self.writer.lock();
        writer.garbage.left()
    }

    /// Moves up to `budget` leaves out of memory that is mostly unused, which frees that memory. Returns how many it
    /// moved; fewer than `budget` means that there is no more to do. Applies never do this.
    pub(crate) fn tidy(&self, budget: usize) -> usize {
        self.writer.lock().garbage.tidy(budget)
    }

    fn collect(&self, writer: &mut Writer, budget: usize) -> usize {
        writer.horizon.take_ended().into_iter().for_each(|holder| writer.garbage.end(holder));
        while let Some(tree) = writer.garbage.next_unseen(&writer.horizon) {
            self.catalogue.write().forget(&tree);
        }
        writer.garbage.prune(budget, &writer.horizon)
    }

    /// Queues the keyspaces in which a load has left tombstones, of keys or of ranges.
    fn queue_stuck(&self) {
        let trees: Vec<_> = self.catalogue.read().trees().cloned().collect();
        let mut writer = self.writer.lock();
        trees.iter().filter(|tree| tree.sort_stuck()).for_each(|tree| writer.garbage.wait(Lsn::ZERO, tree));
        trees.iter().filter(|tree| tree.queue_sweep()).for_each(|tree| writer.garbage.sweep_later(Lsn::ZERO, tree));
    }

    /// Publishes everything up to `lsn`, which was loaded: versions before are not in memory, so nobody may ask for them.
    fn loaded(&self, lsn: Lsn) {
        self.writer.lock().applied = lsn;
        self.publish(lsn);
        self.horizon(lsn);
    }

    fn alive(&self, keyspace: u32) -> std::result::Result<Arc<Tree>, ApplyError> {
        self.keyspace_by_id(keyspace).ok_or(ApplyError::NoSuchKeyspace(keyspace))
    }

    /// Holds a snapshot at the visible LSN, for reading alone.
    pub(crate) fn hold(&self) -> SnapshotGuard {
        self.hold_at(|visible| visible)
    }

    /// Holds a snapshot at the visible LSN for a transaction. Until it ends, deletions are noted, so that the transaction
    /// can ask what has changed since ([`Tree::changed_since`]).
    pub(crate) fn hold_to_validate(&self) -> SnapshotGuard {
        self.snapshots.hold_at(Purpose::Validate, |visible| visible)
    }

    /// Holds a snapshot, for reading alone, at the LSN that `choose` picks, given the visible one. For a durable snapshot
    /// `choose` reads the durable LSN. An LSN above the visible one, or below what was pruned, is moved into that range.
    /// `choose` runs under the registry's lock: it must not wait, and must not call this index.
    pub(crate) fn hold_at(&self, choose: impl FnOnce(Lsn) -> Lsn) -> SnapshotGuard {
        self.snapshots.hold_at(Purpose::Read, choose)
    }

    /// The keyspace called `name` at `at`. At the largest LSN: as the last apply left it, visible or not.
    pub(crate) fn keyspace_by_name(&self, name: &str, at: Lsn) -> Result<Option<Arc<Tree>>> {
        #[cfg(test)]
        fault::strike()?;
        Ok(self.catalogue.read().by_name(name, at))
    }

    /// The keyspaces at `at`, in the order of their names.
    pub(crate) fn keyspaces(&self, at: Lsn) -> Result<Vec<Arc<Tree>>> {
        #[cfg(test)]
        fault::strike()?;
        Ok(self.catalogue.read().all(at))
    }

    /// The id for the next keyspace: above every id applied so far.
    pub(crate) fn next_keyspace_id(&self) -> u32 {
        self.catalogue.read().next_id()
    }

    /// The id for the first keyspace that was made behind `at`, or will be.
    pub(crate) fn next_keyspace_id_at(&self, at: Lsn) -> u32 {
        self.catalogue.read().next_id_at(at)
    }

    /// How many versions are in memory, tombstones included, in all keyspaces that a reader may still see.
    pub(crate) fn version_count(&self) -> usize {
        self.catalogue.read().trees().map(|tree| tree.version_count()).sum()
    }
}
