//! Wakes the pruner when there is work that no commit will do.

use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) use crate::rt::sleeper::Woken;

use crate::rt::sleeper::Sleeper;
use crate::rt::sync::AtomicBool;

/// The pruner arms the bell, then looks for work, then sleeps without a timeout. Work that comes about before the look
/// is found by the look. Work that comes about later rings, because the pruner looks at each kind of work under the
/// lock that also guards its creation.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Whether a commit rings.
    for_commits: AtomicBool,
    /// Whether the end of a snapshot rings: only while garbage is retained for a snapshot.
    for_snapshots: AtomicBool,
    sleeper: Sleeper,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (for_commits, for_snapshots) = (AtomicBool::new(false), AtomicBool::new(false));
        Bell { for_commits, for_snapshots, sleeper: Sleeper::new() }
    }

    /// Tells the pruner that there may be garbage, or commits to apply.
    pub(crate) fn ring_for_commit(&self) {
        if self.for_commits.load(Ordering::Acquire) {
            self.ring();
        }
    }

    /// Tells the pruner that a snapshot has ended.
    pub(super) fn ring_for_snapshot(&self) {
        if self.for_snapshots.load(Ordering::Acquire) {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        // In this order, and the other way round in `listen`: so no ring is forgotten that has disarmed the bell.
        self.arm(false);
        self.sleeper.ring();
    }

    fn arm(&self, rings: bool) {
        self.for_commits.store(rings, Ordering::Release);
        self.for_snapshots.store(rings, Ordering::Release);
    }

    /// Arms the bell for commits and for the ends of snapshots.
    pub(crate) fn listen(&self) {
        self.sleeper.forget();
        self.arm(true);
    }

    /// Disarms the bell for the ends of snapshots: no garbage is retained for one.
    pub(crate) fn ignore_snapshots(&self) {
        self.for_snapshots.store(false, Ordering::Release);
    }

    /// Sleeps until the bell has rung since [`Bell::listen`], at most for `time` if it is given.
    pub(crate) fn sleep(&self, time: Option<Duration>) -> Woken {
        self.sleeper.sleep(time)
    }

    /// Sleeps for `time` whether or not the bell rings. Returns false if the bell was stopped.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        self.sleeper.pause(time)
    }

    /// Ends the sleep under way and every later one.
    pub(crate) fn stop(&self) {
        self.arm(false);
        self.sleeper.stop();
    }
}
