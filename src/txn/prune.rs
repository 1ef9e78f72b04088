//! The pruner: a thread that removes what no reader can reach any more, when no commit does.
//!
//! Commits prune along the way. The pruner is for what the last of them leave behind: superseded versions that become
//! durable later, a keyspace that was dropped, what a snapshot kept that is gone, and leaves that are mostly empty. It
//! also applies the last small commits, which wait for others otherwise. It gives each lock back after a few steps, and
//! while commits come it rests between two of these. With nothing to do it sleeps without a timeout.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::index::{Index, Left, Woken};
use crate::log::LogInner;
use crate::rt::background::Task;
use crate::rt::sync::{AtomicBool, yield_now};

/// From the commit that wakes the pruner until it looks: so a burst of commits wakes it once.
const GATHER: Duration = Duration::from_millis(50);
/// Between two looks while commits come.
const REST: Duration = Duration::from_millis(1);
/// The longest wait for something to become durable. Each wait is twice as long as the one before.
const LONGEST: Duration = Duration::from_secs(60);
/// Versions, or leaves of dropped keyspaces, that are looked at under one lock.
const VERSIONS: usize = 64;
/// Leaves that are moved under one lock.
const LEAVES: usize = 8;

/// Whether the pruner was started. The first commit starts it: a database that is only read has no garbage.
#[derive(Debug, Default)]
pub(super) struct Pruner {
    is_started: AtomicBool,
}

/// What the pruner works on: the commit pipeline.
pub(crate) trait Prunable: Send + Sync + 'static {
    /// The index as far as it was applied.
    fn index(&self) -> &Index;

    fn log(&self) -> &LogInner;

    /// Applies the commits that wait to be applied with others.
    fn catch_up(&self);
}

impl Pruner {
    /// A commit has taken its place in `pipeline`: has the pruner look at what it leaves behind, in a moment.
    pub(super) fn wake(&self, pipeline: &Arc<impl Prunable>) {
        if !self.is_started.load(Ordering::Acquire) {
            self.start(pipeline);
        }
        pipeline.index().bell().ring_for_commit();
    }

    #[cold]
    fn start(&self, pipeline: &Arc<impl Prunable>) {
        // The models have few threads to spare. The unit tests ask which thread applies a commit, and the pruner may.
        if cfg!(any(loom, shuttle, test)) {
            return;
        }
        start(pipeline);
        self.is_started.store(true, Ordering::Release);
    }
}

/// Starts the pruner of `pipeline`, unless it runs. If the operating system has no thread to give, commits prune alone;
/// after a close nothing is pruned.
pub(crate) fn start<P: Prunable>(pipeline: &Arc<P>) {
    let task = Arc::new(Pruning(Arc::downgrade(pipeline)));
    let works_on = Arc::clone(pipeline);
    let _ = pipeline.log().start_once("forelog-prune", task, move |_| run(&*works_on));
}

/// It does not keep the pipeline, which keeps the log, which keeps this.
struct Pruning<P>(Weak<P>);

impl<P> fmt::Debug for Pruning<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pruning")
    }
}

impl<P: Prunable> Task for Pruning<P> {
    fn end(&self) {
        if let Some(pipeline) = self.0.upgrade() {
            pipeline.index().bell().stop();
        }
    }
}

fn run(pipeline: &impl Prunable) {
    let bell = pipeline.index().bell();
    let mut wait = GATHER;
    while bell.pause(GATHER) {
        bell.listen();
        let Some(left) = prune_all(pipeline) else { return };
        let timeout = match left {
            // What is not durable by then will never be.
            Left::Unsettled if pipeline.log().poisoned().is_none() => Some(wait),
            Left::Unsettled | Left::ForSnapshots => None,
            Left::Nothing => {
                bell.ignore_snapshots();
                None
            }
        };
        match bell.sleep(timeout) {
            Woken::Rung => wait = GATHER,
            Woken::TimedOut => wait = (wait * 2).min(LONGEST),
            Woken::Stopped => return,
        }
    }
}

/// Prunes all that is due; returns what garbage is left, or `None` if the pruner is to end.
fn prune_all(pipeline: &impl Prunable) -> Option<Left> {
    pipeline.catch_up();
    let index = pipeline.index();
    while index.prune(pipeline.log().durable(), VERSIONS) >= VERSIONS {
        rest(pipeline)?;
    }
    let left = index.left();
    while index.tidy(LEAVES) == LEAVES {
        rest(pipeline)?;
    }
    Some(left)
}

/// Lets commits go first.
fn rest(pipeline: &impl Prunable) -> Option<()> {
    let seen = pipeline.log().positions().appended();
    yield_now();
    let time = if pipeline.log().positions().appended() == seen { Duration::ZERO } else { REST };
    pipeline.index().bell().pause(time).then_some(())
}
