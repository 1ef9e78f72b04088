//! The registry of held snapshots, and the versions that readers can still read because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::types::Lsn;
use crate::rt::process;
use crate::rt::sync::ShortMutex as Mutex;

use super::bell::Bell;

/// What a snapshot is held for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Purpose {
    /// A transaction reads at the LSN, and asks at its commit what has changed since: deletions are noted for it.
    Validate,
    /// A reader reads at the LSN, and never asks what has changed since. The last in the order: it is held for longer, so
    /// of the two it is the one that keeps what both read.
    Read,
}

/// An LSN that is held, by any number of guards, for one purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Holder {
    lsn: Lsn,
    purpose: Purpose,
}

impl Holder {
    pub(super) fn validates(self) -> bool {
        self.purpose == Purpose::Validate
    }

    /// Comes before all holders of `lsn` and above, and behind all those below.
    pub(super) fn first(lsn: Lsn) -> Self {
        Holder { lsn, purpose: Purpose::Validate }
    }
}

/// The visible LSN and the LSNs that readers hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    visible: AtomicU64,
    /// Up to here installed layers have the effect of the log.
    installed: AtomicU64,
    held: Mutex<Held>,
    bell: Bell,
    /// The process that made it. In a forked child a thread that was not copied may hold the lock for ever.
    generation: u64,
}

impl Default for Registry {
    fn default() -> Self {
        let generation = process::generation();
        let (visible, installed, held) = Default::default();
        Registry { visible, installed, held, bell: Bell::new(), generation }
    }
}

#[derive(Debug, Default)]
struct Held {
    /// The number of guards of each holder.
    counts: BTreeMap<Holder, usize>,
    /// Versions superseded at or below this may be gone, unless a held snapshot needed them.
    pruned_to: Lsn,
    /// The holders below `pruned_to` that have begun or ended since the last look.
    changed: BTreeSet<Holder>,
}

impl Held {
    fn begin(&mut self, holder: Holder) {
        let count = self.counts.entry(holder).or_default();
        *count += 1;
        if *count == 1 && holder.lsn < self.pruned_to {
            self.changed.insert(holder);
        }
    }

    /// Returns whether it was the last guard of the holder.
    fn end(&mut self, holder: Holder) -> bool {
        let Some(count) = self.counts.get_mut(&holder) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.counts.remove(&holder);
            if holder.lsn < self.pruned_to {
                self.changed.insert(holder);
            }
        }
        is_last
    }
}

impl Snapshots {
    /// Rings when a holder ends.
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
    pub(super) fn hold_at(&self, purpose: Purpose, choose: impl FnOnce(Lsn) -> Lsn) -> SnapshotGuard {
        let mut held = self.0.held.lock();
        let visible = self.visible();
        let lsn = choose(visible).max(held.pruned_to).min(visible);
        let holder = Holder { lsn, purpose };
        held.begin(holder);
        drop(held);
        SnapshotGuard { holder, snapshots: self.clone() }
    }

    /// Brings `horizon` up to what may be pruned now, if readers may still ask for any LSN from `prune_to` on. There is
    /// one horizon: what it was told, no other is told.
    ///
    /// The cost follows the number of holders that have changed, or that the floor has passed, since the last call: an
    /// apply calls this, and any number of snapshots may be held.
    pub(super) fn observe(&self, prune_to: Lsn, horizon: &mut Horizon) {
        let mut held = self.0.held.lock();
        let Held { counts, pruned_to, changed } = &mut *held;
        // The floor never falls, even if the caller read `prune_to` before another pruning went further: below the
        // floor of that pruning, versions are retained for held snapshots, which must not seem to have ended.
        let floor = prune_to.min(self.visible()).max(*pruned_to);
        while let Some(holder) = changed.pop_first() {
            if counts.contains_key(&holder) { horizon.begin(holder) } else { horizon.end(holder) }
        }
        let passed = Holder::first(*pruned_to)..Holder::first(floor);
        counts.range(passed).for_each(|(holder, _)| horizon.begin(*holder));
        *pruned_to = floor;
        horizon.floor = floor;
        horizon.installed = self.installed();
    }

    /// Layers that are installed have the effect of the log up to `to`.
    pub(super) fn note_installed(&self, to: Lsn) {
        self.0.installed.fetch_max(to.get(), Ordering::Release);
    }

    pub(super) fn installed(&self) -> Lsn {
        Lsn::new(self.0.installed.load(Ordering::Acquire))
    }

    /// Raises the floor, below which no snapshot begins from now on, to `to`. Returns it, and the held LSNs below.
    ///
    /// `to` must be visible. The pruning follows with the next [`Snapshots::observe`].
    pub(super) fn raise(&self, to: Lsn) -> (Lsn, Vec<Lsn>) {
        let mut held = self.0.held.lock();
        // What `observe` is told of begins at its own floor: a holder that this one has passed is told of as a change.
        let before = held.pruned_to;
        let floor = to.min(self.visible()).max(before);
        let Held { counts, changed, .. } = &mut *held;
        changed.extend(counts.range(Holder::first(before)..Holder::first(floor)).map(|(holder, _)| *holder));
        held.pruned_to = floor;
        let mut below: Vec<_> = held.counts.range(..Holder::first(floor)).map(|(holder, _)| holder.lsn).collect();
        below.dedup();
        (floor, below)
    }

    /// No reader asks below this: the floor, or the lowest LSN that is held.
    pub(super) fn settled(&self) -> Lsn {
        let held = self.0.held.lock();
        held.counts.first_key_value().map_or(held.pruned_to, |(lowest, _)| lowest.lsn.min(held.pruned_to))
    }

    /// The lowest LSN that is held to validate.
    pub(super) fn lowest_validating(&self) -> Option<Lsn> {
        let held = self.0.held.lock();
        held.counts.keys().find(|holder| holder.purpose == Purpose::Validate).map(|holder| holder.lsn)
    }

    /// Holds the LSN of `holder`, at which there is a guard. In a forked child it holds nothing.
    fn hold_again(&self, holder: Holder) -> SnapshotGuard {
        if process::is_current(self.0.generation) {
            self.0.held.lock().begin(holder);
        }
        SnapshotGuard { holder, snapshots: self.clone() }
    }

    fn release(&self, holder: Holder) {
        if !process::is_current(self.0.generation) {
            return;
        }
        let is_last = self.0.held.lock().end(holder);
        if is_last {
            self.0.bell.ring_for_snapshot();
        }
    }
}

/// Holds a snapshot: everything visible at its LSN stays readable until the guard is dropped.
#[derive(Debug)]
pub(crate) struct SnapshotGuard {
    holder: Holder,
    snapshots: Snapshots,
}

impl SnapshotGuard {
    /// The LSN held.
    pub(crate) fn lsn(&self) -> Lsn {
        self.holder.lsn
    }

    /// Holds the same snapshot for reading alone.
    pub(crate) fn to_read(&self) -> SnapshotGuard {
        self.snapshots.hold_again(Holder { purpose: Purpose::Read, ..self.holder })
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        self.snapshots.hold_again(self.holder)
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        self.snapshots.release(self.holder);
    }
}

/// Which versions readers can still read, as observed at one moment. It stays right while snapshots begin (they begin
/// at or above `floor`, or beside one that is held) and end.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// Everything up to here is visible and durable: a reader may read at any LSN from here on.
    floor: Lsn,
    /// The holders below `floor`.
    held: BTreeSet<Holder>,
    /// The LSNs of those that validate.
    validating: BTreeSet<Lsn>,
    /// Up to here installed layers have the effect of the log.
    installed: Lsn,
    /// Those that have ended, until the garbage is told.
    ended: Vec<Holder>,
}

impl Horizon {
    fn begin(&mut self, holder: Holder) {
        self.held.insert(holder);
        if holder.purpose == Purpose::Validate {
            self.validating.insert(holder.lsn);
        }
    }

    fn end(&mut self, holder: Holder) {
        if self.held.remove(&holder) {
            self.ended.push(holder);
        }
        if holder.purpose == Purpose::Validate {
            self.validating.remove(&holder.lsn);
        }
    }

    /// Takes the holders that have ended since the last call. Some may have begun again.
    pub(super) fn take_ended(&mut self) -> Vec<Holder> {
        std::mem::take(&mut self.ended)
    }

    pub(super) fn installed(&self) -> Lsn {
        self.installed
    }

    /// Whether a version superseded at `lsn` can be read only by holders.
    pub(super) fn is_settled(&self, lsn: Lsn) -> bool {
        lsn <= self.floor
    }

    /// The newest holder in `[from, until)`: it reads a settled version that was written at `from` and superseded at
    /// `until`.
    pub(super) fn newest_held(&self, from: Lsn, until: Lsn) -> Option<Holder> {
        self.held.range(Holder::first(from)..Holder::first(until.max(from))).next_back().copied()
    }

    /// The newest holder below `until` that validates.
    pub(super) fn newest_validating(&self, until: Lsn) -> Option<Holder> {
        self.validating.range(..until).next_back().map(|lsn| Holder::first(*lsn))
    }

    pub(super) fn is_held(&self, holder: Holder) -> bool {
        self.held.contains(&holder)
    }
}
