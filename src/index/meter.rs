//! What the records of all keyspaces take in memory, known without asking each: there may be a hundred thousand, and those who keep
//! memory look often.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bytes {
    /// Of leaves, of long keys and large values that lie outside, and of range tombstones.
    pub(crate) all: usize,
    /// What of these would be left if the memory of leaves without records were given back.
    pub(crate) in_use: usize,
    /// Of versions that were superseded, on top of the others.
    pub(crate) superseded: usize,
}

/// What takes memory.
pub(super) trait Measured {
    fn bytes(&self) -> Bytes;
}

/// The sums over all keyspaces. A sum is never read together with what it is about, so nothing orders the accesses.
#[derive(Debug, Default)]
pub(super) struct Meter {
    all: AtomicUsize,
    in_use: AtomicUsize,
    superseded: AtomicUsize,
}

impl Meter {
    pub(super) fn read(&self) -> Bytes {
        let [all, in_use, superseded] =
            [&self.all, &self.in_use, &self.superseded].map(|sum| sum.load(Ordering::Relaxed));
        Bytes { all, in_use, superseded }
    }

    /// A keyspace takes other memory than before. The line is shared by all writers: it is written only where that changes.
    pub(super) fn change(&self, before: Bytes, now: Bytes) {
        for (sum, before, now) in [
            (&self.all, before.all, now.all),
            (&self.in_use, before.in_use, now.in_use),
            (&self.superseded, before.superseded, now.superseded),
        ] {
            if before != now {
                // What wraps here wraps back in the sum.
                sum.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            }
        }
    }
}

/// The state of a keyspace, to change it. What that takes of memory is counted when this goes.
pub(super) struct Changing<'a, G: Deref<Target: Measured>> {
    guard: G,
    meter: &'a Meter,
    before: Bytes,
}

impl<'a, G: Deref<Target: Measured>> Changing<'a, G> {
    #[inline]
    pub(super) fn new(guard: G, meter: &'a Meter) -> Self {
        Changing { before: guard.bytes(), guard, meter }
    }
}

impl<G: Deref<Target: Measured>> Deref for Changing<'_, G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut<Target: Measured>> DerefMut for Changing<'_, G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl<G: Deref<Target: Measured>> Drop for Changing<'_, G> {
    #[inline]
    fn drop(&mut self) {
        self.meter.change(self.before, self.guard.bytes());
    }
}
