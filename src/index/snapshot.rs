//! The registry of held snapshots, and what follows from it: which versions somebody can still read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::types::Lsn;
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
}

impl Default for Registry {
    fn default() -> Self {
        Registry { visible: AtomicU64::default(), held: Mutex::default(), bell: Bell::new() }
    }
}

#[derive(Debug, Default)]
struct Held {
    /// How many snapshots hold each LSN.
    counts: BTreeMap<Lsn, usize>,
    /// Versions superseded at or below this may be gone, where no snapshot held them.
    pruned_to: Lsn,
}

impl Snapshots {
    /// Rings when nobody holds a snapshot any more that somebody held.
    pub(super) fn bell(&self) -> &Bell {
        &self.0.bell
    }

    /// Everything at or below is visible.
    pub(super) fn visible(&self) -> Lsn {
        Lsn::new(self.0.visible.load(Ordering::Acquire))
    }

    /// Makes everything up to `lsn` visible. Never moves back.
    pub(super) fn publish(&self, lsn: Lsn) {
        let before = self.0.visible.fetch_max(lsn.get(), Ordering::Release);
        debug_assert!(before <= lsn.get(), "visible went back from {before:#x} to {lsn}");
    }

    /// Holds a snapshot at the LSN that `choose` picks, given the visible one.
    ///
    /// Visible is read under the registry's lock: a pruning either sees the snapshot, or ran before it and spared
    /// everything that can be read at the visible LSN of that time or later.
    pub(super) fn hold_at(&self, choose: impl FnOnce(Lsn) -> Lsn) -> Hold {
        let mut held = self.0.held.lock();
        let visible = self.visible();
        let lsn = choose(visible).max(held.pruned_to).min(visible);
        *held.counts.entry(lsn).or_default() += 1;
        drop(held);
        Hold { lsn, snapshots: self.clone() }
    }

    /// Sets `horizon` to what may be pruned now, if readers may still ask for any LSN from `prune_to` on.
    pub(super) fn observe(&self, prune_to: Lsn, horizon: &mut Horizon) {
        let mut held = self.0.held.lock();
        // Never back, also when `prune_to` was asked for before another pruned further: below the floor of that one,
        // versions are kept for the snapshots that are held, and these must not seem to be gone.
        let floor = prune_to.min(self.visible()).max(held.pruned_to);
        held.pruned_to = floor;
        horizon.set(floor, held.counts.range(..floor).map(|(&lsn, _)| lsn));
    }

    fn hold_again(&self, lsn: Lsn) {
        *self.0.held.lock().counts.entry(lsn).or_default() += 1;
    }

    fn release(&self, lsn: Lsn) {
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

/// Keeps everything readable that is visible at its LSN, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    lsn: Lsn,
    snapshots: Snapshots,
}

impl Hold {
    /// The LSN held.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.snapshots.hold_again(self.lsn);
        Hold { lsn: self.lsn, snapshots: self.snapshots.clone() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.snapshots.release(self.lsn);
    }
}

/// Who can still read what, as seen once. Stays right while snapshots come (they come above `floor`) and go.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// Everything up to here is visible and durable.
    reached: Lsn,
    /// Any LSN from here on may be read.
    floor: Lsn,
    /// The LSNs below `floor` that are held, rising.
    held: Vec<Lsn>,
}

impl Horizon {
    /// More held snapshots than this are not told apart: pruning then stops below the next one. It bounds what a
    /// write to a key costs.
    const MAX_HELD: usize = 64;

    fn set(&mut self, floor: Lsn, mut held: impl Iterator<Item = Lsn>) {
        self.held.clear();
        self.held.extend(held.by_ref().take(Self::MAX_HELD));
        self.floor = held.next().unwrap_or(floor);
        self.reached = floor;
    }

    /// Whether only held snapshots can keep something that ended at `lsn` from being settled.
    pub(super) fn is_reached(&self, lsn: Lsn) -> bool {
        lsn <= self.reached
    }

    /// Whether something that ended at `lsn` can only be read by snapshots that are told apart.
    pub(super) fn is_settled(&self, lsn: Lsn) -> bool {
        lsn <= self.floor
    }

    /// The newest held snapshot in `[from, until)`: one that reads a settled version written at `from` and
    /// superseded at `until`.
    pub(super) fn newest_held(&self, from: Lsn, until: Lsn) -> Option<Lsn> {
        let below = self.held.partition_point(|&lsn| lsn < until);
        self.held[..below].last().copied().filter(|&lsn| lsn >= from)
    }

    /// Whether nobody can be at an LSN below `lsn`.
    pub(super) fn is_past(&self, lsn: Lsn) -> bool {
        self.is_settled(lsn) && self.newest_held(Lsn::ZERO, lsn).is_none()
    }

    /// Whether `lsn` is among the held snapshots that are told apart.
    pub(super) fn is_held(&self, lsn: Lsn) -> bool {
        self.held.binary_search(&lsn).is_ok()
    }
}
