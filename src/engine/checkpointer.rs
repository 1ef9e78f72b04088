//! The checkpointer: a thread that makes checkpoints of its own accord, so that neither the log nor the time to open grows
//! for ever.
//!
//! It does not run before a commit has left enough behind to be worth a checkpoint: an open writes nothing by itself, unless its log
//! is more than memory (`replay`). From then on it waits until a whole checkpoint is there, or until nothing was committed for a second. A checkpoint that fails
//! is tried again after 1, 2, 4 .. 60 s (`table/FAULTS.md`, section 4).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::checkpoint::{Then, checkpoint};
use super::merging::{self, Leaves};
use super::tables::Tables;
use super::turn::{Wait, retries};
use super::{keep_up, merger};
use crate::base::error::{Error, Result};
use crate::base::options::Checkpoints;
use crate::base::range_set::RangeSet;
use crate::base::types::Lsn;
use crate::format::table::full_range;
use crate::log::LetGo;
use crate::rt::background::Task;
use crate::rt::clock;
use crate::rt::sleeper::{Backoff, Sleeper, Woken};
use crate::table::checkpoint::has_runs_in;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// The log rests when nothing was committed for this long.
const REST: Duration = Duration::from_secs(1);
/// From the first checkpoint in a row that has found nothing durable to the next try. Each wait is twice as long as the one
/// before.
const MOMENT: Duration = Duration::from_millis(10);
/// This part of a checkpoint is worth one when the log rests, or at a close.
const WORTH: u64 = 16;
/// One is worth it, too, if so many incarnations have log behind the layers: each has a segment of its own, however little it holds
/// (`format/DECISIONS.md`, section 7).
const INCARNATIONS: usize = 64;
/// A close makes no checkpoint of more than this part.
const CHEAP: u64 = 4;

/// What the thread, the commits that wake it and a close share.
pub(super) struct Checkpointer {
    /// Not kept: its log keeps this.
    pipeline: Weak<Pipeline>,
    tables: Arc<Tables>,
    sleeper: Sleeper,
    /// What a checkpoint takes in.
    full: Amount,
    /// The LSN of the last drop of a keyspace in this open.
    dropped: AtomicU64,
    /// The log has ended for lack of room, and waits for a checkpoint.
    is_room_wanted: AtomicBool,
}

impl Checkpointer {
    /// Has commits wake it, if the engine is to make checkpoints of its own accord.
    pub(super) fn begin(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>) -> Option<Arc<Self>> {
        let settings = &pipeline.settings;
        // The models have no thread to spare.
        if settings.checkpoints != Checkpoints::Automatic || cfg!(any(loom, shuttle)) {
            return None;
        }
        let full = Amount::of_a_checkpoint(settings);
        let (pipeline_of, tables, sleeper) = (Arc::downgrade(pipeline), Arc::clone(tables), Sleeper::new());
        let (dropped, is_room_wanted) = Default::default();
        let checkpointer = Checkpointer { pipeline: pipeline_of, tables, sleeper, full, dropped, is_room_wanted };
        let checkpointer = Arc::new(checkpointer);
        keep_up::pace(pipeline, &checkpointer.tables);
        keep_up::settle(pipeline, &checkpointer.tables);
        let told = Arc::clone(&checkpointer);
        pipeline.due.set_told(move || _ = told.wake());
        let is_one_worth_it = has_many_incarnations(pipeline, &checkpointer.tables);
        // Not before the first commit.
        pipeline.due.set_mark(if is_one_worth_it { Amount { bytes: 1, ops: 1 } } else { full.part(WORTH) });
        Some(checkpointer)
    }

    /// On the thread of a commit, or on the one that prepares segments. Whether the thread runs.
    pub(super) fn wake(self: &Arc<Self>) -> bool {
        let Some(pipeline) = self.pipeline.upgrade() else { return false };
        let (task, works) = (Arc::clone(self), Arc::clone(self));
        let started = pipeline.log.start_once("forelog-checkpoint", task, move |_| works.run());
        let is_there = matches!(started, Some(Ok(())));
        if let Some(Err(refused)) = started {
            // The operating system has no thread to give. A later commit asks again, and nobody waits for it.
            let why = Error::io("start the thread for checkpoints of", pipeline.log.dir(), refused);
            self.tables.health.thread_refused(why);
            self.tables.debt.checkpointed(&Ok(0), true);
            keep_up::settle(&pipeline, &self.tables);
            pipeline.due.set_mark(pipeline.due.counted().plus(self.full.part(WORTH)));
        }
        // An open may have found one that is due. Before the first commit of a life nothing is written.
        merger::start(&pipeline, &self.tables);
        self.sleeper.ring();
        is_there
    }

    /// Has a checkpoint made because the log has ended for lack of room, and the log told; false if none could help.
    pub(super) fn make_room(self: &Arc<Self>) -> bool {
        let is_some_pending =
            self.pipeline.upgrade().is_some_and(|pipeline| self.tables.pending(&pipeline.due) != Amount::default());
        let is_some_retained = self.pipeline.upgrade().is_some_and(|pipeline| pipeline.log.retained_bytes() > 0);
        if !is_some_retained && (!is_some_pending || self.tables.health.has_failed()) {
            return false;
        }
        self.is_room_wanted.store(true, Ordering::Release);
        let is_heard = self.wake();
        if !is_heard {
            self.is_room_wanted.store(false, Ordering::Release);
        }
        is_heard
    }

    /// Makes a checkpoint, of all that is appended if room is wanted. Then the log is told, after a merge as well: it would
    /// take the room that the merge needs, and no merge would ever come. What a merge finds room for was in the log just
    /// now, so it is short.
    fn work(&self, pipeline: &Arc<Pipeline>) -> Result<()> {
        // Cleared first: if it is asked for meanwhile, another one comes.
        let is_room_wanted = self.is_room_wanted.swap(false, Ordering::AcqRel);
        let appended = pipeline.log.positions().appended();
        if !is_room_wanted {
            return checkpoint(pipeline, &self.tables, Wait::ForItsTurn, Then::Merge);
        }
        // Before a checkpoint, which may need the room; nothing needs what is retained.
        let gave_way = pipeline.log.let_go(LetGo::All, || self.tables.check_place(pipeline.log.handle()));
        self.tables.health.not_removed(gave_way.as_ref().err());
        let _unpaced = self.tables.pacers.checkpoints.hurry();
        let flushed = pipeline.log.flush_to(appended);
        let made = flushed.and_then(|()| checkpoint(pipeline, &self.tables, Wait::ForItsTurn, Then::Nothing));
        merging::merge_many(pipeline, &self.tables, Wait::ForItsTurn, Leaves::Nothing);
        pipeline.log.try_again_for_room();
        merger::start(pipeline, &self.tables);
        made
    }

    /// What a dropped keyspace has in tables goes with the next checkpoint. One is worth it once the log rests.
    pub(super) fn keyspace_dropped(self: &Arc<Self>, lsn: Lsn) {
        if self.tables.store().is_some() {
            self.dropped.fetch_max(lsn.get(), Ordering::Relaxed);
            self.wake();
        }
    }

    /// Whether a checkpoint gives files back: of a keyspace that was dropped, or of a range of keys that was deleted.
    fn has_drop(&self, pipeline: &Pipeline) -> bool {
        let Some(stack) = self.tables.stack() else { return false };
        let to = stack.manifest.to;
        to.get() < self.dropped.load(Ordering::Relaxed)
            || (pipeline.due.has_deleted_behind(to) && has_runs_in(&stack, &deleted(pipeline, to)))
    }

    /// Whether a checkpoint is worth it once the log rests.
    fn is_worth_it(&self, pipeline: &Pipeline, pending: Amount) -> bool {
        pending.reaches(self.full.part(WORTH))
            || self.has_drop(pipeline)
            || has_many_incarnations(pipeline, &self.tables)
    }

    fn run(&self) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        let (mut seen, mut failures, mut idle) = (0, retries(), Backoff::new(MOMENT, REST));
        while self.wait_until_due(&pipeline, &mut seen) {
            let before = self.tables.health.done();
            let pause = match self.work(&pipeline) {
                Ok(()) => {
                    failures.reset();
                    if self.tables.health.done() == before {
                        idle.take()
                    } else {
                        idle.reset();
                        Duration::ZERO
                    }
                }
                Err(_) if pipeline.log.poisoned().is_some() => return,
                Err(_) => failures.take(),
            };
            if !self.pause(pause) {
                return;
            }
        }
    }

    /// Waits, but not while a commit waits for room. Returns false if the thread is to end.
    fn pause(&self, time: Duration) -> bool {
        let end = clock::now().after(time);
        loop {
            self.sleeper.forget();
            let left = end.since(clock::now());
            // Somebody else has made one since: commits count on this thread again.
            let is_settled = !self.tables.debt.checkpoints_fail();
            if left.is_zero() || is_settled || self.is_room_wanted.load(Ordering::Acquire) {
                return self.sleeper.pause(Duration::ZERO);
            }
            if self.sleeper.sleep(Some(left)) == Woken::Stopped {
                return false;
            }
        }
    }

    /// Returns when a checkpoint is due; false if the thread is to end. `seen` is where the log ended at the last look.
    fn wait_until_due(&self, pipeline: &Pipeline, seen: &mut u64) -> bool {
        loop {
            self.sleeper.forget();
            let pending = self.tables.pending(&pipeline.due);
            if pending.reaches(self.full) || self.is_room_wanted.load(Ordering::Acquire) {
                return true;
            }
            let is_worth_it = self.is_worth_it(pipeline, pending);
            let next = if is_worth_it { self.full } else { self.full.part(WORTH) };
            if pipeline.due.set_mark(self.tables.health.done().plus(next)) {
                continue;
            }
            let too_old = pipeline.log.next_too_old().map(|time| time.max(REST));
            match self.sleeper.sleep(is_worth_it.then_some(REST).into_iter().chain(too_old).min()) {
                Woken::Stopped => return false,
                Woken::Rung => {}
                Woken::TimedOut => {
                    if too_old.is_some() {
                        let gone = pipeline.log.let_go(LetGo::Due, || self.tables.check_place(pipeline.log.handle()));
                        self.tables.health.not_removed(gone.as_ref().err());
                    }
                    if !is_worth_it {
                        continue;
                    }
                    let appended = pipeline.log.positions().appended();
                    if std::mem::replace(seen, appended) == appended {
                        return true;
                    }
                }
            }
        }
    }

    /// A close makes a checkpoint if it spares the next open more than it costs. Its failure is no failure of the close:
    /// all data are in the log.
    pub(super) fn at_close(&self) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        let pending = self.tables.pending(&pipeline.due);
        let is_cheap = self.is_worth_it(&pipeline, pending) && !pending.reaches(self.full.part(CHEAP));
        let all = Lsn::new(pipeline.log.positions().appended());
        // A database that was only read is left as it is: it may be one without tables.
        let is_written = self.tables.store().is_some() || pipeline.log.has_begun();
        if is_cheap && is_written && self.tables.health.is_good() && pipeline.log.flush_to(all.get()).is_ok() {
            let _unpaced = self.tables.pacers.checkpoints.hurry();
            let _ = checkpoint(&pipeline, &self.tables, Wait::Never, Then::Nothing);
        }
    }
}

/// Whether many lives of the database have left a segment behind the layers.
fn has_many_incarnations(pipeline: &Pipeline, tables: &Tables) -> bool {
    let to = tables.stack().map_or(Lsn::ZERO, |stack| stack.manifest.to);
    pipeline.log.incarnations().look(|known| known.incarnations_above(to)) > INCARNATIONS
}

/// The full keys that were deleted with their ranges above `to`, as far as memory knows.
fn deleted(pipeline: &Pipeline, to: Lsn) -> RangeSet<Vec<u8>> {
    let mut deleted = RangeSet::default();
    for tree in pipeline.index().trees_from(0) {
        for (from, end) in tree.ranges_deleted_since(to) {
            let (from, end) = full_range(tree.id(), &from, end.as_deref());
            deleted.insert(from, Some(end), |_, _| ());
        }
    }
    deleted
}

/// A checkpoint under way ends at its next change in `table/`, which a close refuses.
impl Task for Checkpointer {
    fn end(&self) {
        self.sleeper.stop();
    }
}

impl fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer").field("full", &self.full).finish_non_exhaustive()
    }
}
