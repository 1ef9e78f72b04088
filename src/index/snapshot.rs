//! The registry of held snapshots, and the versions that readers can still read because of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::types::Lsn;
use crate::rt::process;
use crate::rt::sync::ShortMutex as Mutex;

use super::bell::Bell;

/// The visible LSN and the LSNs that readers hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    visible: AtomicU64,
    held: Mutex<Held>,
    bell: Bell,
    /// The process that made it. In a forked child a thread that was not copied may hold the lock for ever.
    generation: u64,
}

impl Default for Registry {
    fn default() -> Self {
        let generation = process::generation();
        Registry { visible: AtomicU64::default(), held: Mutex::default(), bell: Bell::new(), generation }
    }
}

#[derive(Debug, Default)]
struct Held {
    /// How many snapshots hold each LSN.
    counts: BTreeMap<Lsn, usize>,
    /// Versions superseded at or below this may be gone, unless a held snapshot needed them.
    pruned_to: Lsn,
}

impl Snapshots {
    /// Rings when the last snapshot at an LSN ends.
    pub(super) fn bell(&self) -> &Bell {
        &self.0.bell
    }

    /// Everything at or below this LSN is visible.
    pub(super) fn visible(&self) -> Lsn {
        Lsn::new(self.0.visible.load(Ordering::Acquire))
    }

    /// Makes everything up to `lsn` visible. The visible LSN never falls.
    pub(super) fn publish(&self, lsn: Lsn) {
        let before = self.0.visible.fetch_max(lsn.get(), Ordering::Release);
        debug_assert!(before <= lsn.get(), "visible went back from {before:#x} to {lsn}");
    }

    /// Holds a snapshot at the LSN that `choose` picks, given the visible one.
    ///
    /// The visible LSN is read under the registry's lock. So a pruning either sees the snapshot, or ran before it and
    /// spared everything that can be read at the visible LSN of that time or later.
    pub(super) fn hold_at(&self, choose: impl FnOnce(Lsn) -> Lsn) -> SnapshotGuard {
        let mut held = self.0.held.lock();
        let visible = self.visible();
        let lsn = choose(visible).max(held.pruned_to).min(visible);
        *held.counts.entry(lsn).or_default() += 1;
        drop(held);
        SnapshotGuard { lsn, snapshots: self.clone() }
    }

    /// Sets `horizon` to what may be pruned now, if readers may still ask for any LSN from `prune_to` on.
    pub(super) fn observe(&self, prune_to: Lsn, horizon: &mut Horizon) {
        let mut held = self.0.held.lock();
        // The floor never falls, even if the caller read `prune_to` before another pruning went further: below the
        // floor of that pruning, versions are retained for held snapshots, which must not seem to have ended.
        let floor = prune_to.min(self.visible()).max(held.pruned_to);
        held.pruned_to = floor;
        horizon.set(floor, held.counts.range(..floor).map(|(&lsn, _)| lsn));
    }

    fn hold_again(&self, lsn: Lsn) {
        if !process::is_current(self.0.generation) {
            return;
        }
        *self.0.held.lock().counts.entry(lsn).or_default() += 1;
    }

    fn release(&self, lsn: Lsn) {
        if !process::is_current(self.0.generation) {
            return;
        }
        let mut held = self.0.held.lock();
        if let Some(count) = held.counts.get_mut(&lsn) {
            *count -= 1;
            if *count == 0 {
                held.counts.remove(&lsn);
                drop(held);
                self.0.bell.ring_for_snapshot();
            }
        }
    }
}

/// Holds a snapshot: everything visible at its LSN stays readable until the guard is dropped.
#[derive(Debug)]
pub(crate) struct SnapshotGuard {
    lsn: Lsn,
    snapshots: Snapshots,
}

impl SnapshotGuard {
    /// The LSN held.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        self.snapshots.hold_again(self.lsn);
        SnapshotGuard { lsn: self.lsn, snapshots: self.snapshots.clone() }
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        self.snapshots.release(self.lsn);
    }
}

/// Which versions readers can still read, as observed at one moment. It stays right while snapshots begin (they begin
/// above `floor`) and end.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// Everything up to here is visible and durable.
    reached: Lsn,
    /// A reader may read at any LSN from here on.
    floor: Lsn,
    /// The held LSNs below `floor`, rising.
    held: Vec<Lsn>,
}

impl Horizon {
    /// At most this number of held snapshots are told apart; pruning stops below the next one. This bounds the cost of
    /// a write to a key.
    const MAX_HELD: usize = 64;

    fn set(&mut self, floor: Lsn, mut held: impl Iterator<Item = Lsn>) {
        self.held.clear();
        self.held.extend(held.by_ref().take(Self::MAX_HELD));
        self.floor = held.next().unwrap_or(floor);
        self.reached = floor;
    }

    /// Whether `lsn` is visible and durable.
    pub(super) fn is_reached(&self, lsn: Lsn) -> bool {
        lsn <= self.reached
    }

    /// Whether a version superseded at `lsn` can be read only by snapshots that are told apart.
    pub(super) fn is_settled(&self, lsn: Lsn) -> bool {
        lsn <= self.floor
    }

    /// The newest held snapshot in `[from, until)`: it reads a settled version that was written at `from` and
    /// superseded at `until`.
    pub(super) fn newest_held(&self, from: Lsn, until: Lsn) -> Option<Lsn> {
        let below = self.held.partition_point(|&lsn| lsn < until);
        self.held[..below].last().copied().filter(|&lsn| lsn >= from)
    }

    /// Whether no reader can be at an LSN below `lsn`.
    pub(super) fn is_past(&self, lsn: Lsn) -> bool {
        self.is_settled(lsn) && self.newest_held(Lsn::ZERO, lsn).is_none()
    }

    /// Whether `lsn` is one of the held snapshots that are told apart.
    pub(super) fn is_held(&self, lsn: Lsn) -> bool {
        self.held.binary_search(&lsn).is_ok()
    }
}
