//! The keeper of memory: has ranges forgotten which layers have, once there is too much in memory (`table/RULES.md`, 2 and 8).
//! Only a checkpoint makes more of it forgettable, so it follows each checkpoint, on the same thread. While it works, the log
//! behind the layers grows, and commits wait for that once it is too long: so they cannot fill memory faster than it is kept.
//!
//! It goes round all keyspaces like the hand of a clock. What somebody has read since the hand came by is spared once.

use super::memory::{Hand, Shares};
use super::tables::Tables;
use crate::base::types::Lsn;
use crate::index::Index;
use crate::txn::pipeline::Pipeline;

/// Ranges that are forgotten under one lock.
const RANGES: usize = 8;
/// The most steps between two looks at how much there is.
const STEPS: usize = 64;
/// The steps after which the next key that is wanted has its turn.
const FOR_ONE: usize = 8;
/// The memory of a range.
const RANGE: u64 = 16 << 10;
/// The hand goes round no more often at a time: what it has spared is not spared twice, and what is left then cannot be
/// forgotten yet.
const ROUNDS: usize = 2;

/// Has memory forgotten if there is too much. Returns whether there was.
pub(super) fn keep(pipeline: &Pipeline, tables: &Tables) -> bool {
    let is_too_much = pipeline.index().bytes().all as u64 > tables.shares().start();
    if is_too_much {
        forget(&mut tables.hand.lock(), pipeline, tables);
    }
    is_too_much
}

/// Has as much forgotten as records have given up to what is kept of tables since this was last asked, if there is too much. Not more:
/// what was written since the last checkpoint cannot be forgotten, and nothing else is to suffer for it.
pub(super) fn fit(pipeline: &Pipeline, tables: &Tables) {
    let (index, Shares { records: limit, given_up, .. }) = (pipeline.index(), tables.shares());
    let mut hand = tables.hand.lock();
    let more = given_up.saturating_sub(std::mem::replace(&mut hand.given_up, given_up));
    let goal = limit.max(bytes(index).saturating_sub(more));
    if bytes(index) > goal {
        forget_down_to(&mut hand, pipeline, tables, Bound { goal, steps: usize::MAX });
    }
}

/// Makes room for something that is to be brought in: some ranges that nobody has read lately are forgotten, and not more. Returns
/// whether there is any.
///
/// What was written since the last checkpoint cannot be forgotten. If that alone is too much, nothing else is to suffer for it.
pub(super) fn make_room(pipeline: &Pipeline, tables: &Tables) -> bool {
    let (index, limit) = (pipeline.index(), tables.shares().records);
    let full = limit / 16 * 15;
    if bytes(index) <= full {
        return true;
    }
    let mut hand = tables.hand.lock();
    if hand.full_at != Some(index.installed()) {
        forget_down_to(&mut hand, pipeline, tables, Bound { goal: full, steps: FOR_ONE });
        hand.full_at = (bytes(index) > limit).then(|| index.installed());
    }
    hand.full_at.is_none()
}

/// How much is forgotten.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Down to so many bytes.
    goal: u64,
    /// In so many steps at most.
    steps: usize,
}

fn forget(hand: &mut Hand, pipeline: &Pipeline, tables: &Tables) {
    forget_down_to(hand, pipeline, tables, Bound { goal: tables.shares().goal(), steps: usize::MAX });
}

fn forget_down_to(hand: &mut Hand, pipeline: &Pipeline, tables: &Tables, bound: Bound) {
    let index = pipeline.index();
    let to = forgettable(index, tables.shares());
    let mut look = Look { tables, index, bound, steps: 0, to, is_over: false };
    for _ in 0..ROUNDS {
        for tree in index.trees_from(hand.id) {
            if hand.id != tree.id() {
                hand.go_to(tree.id());
            }
            while look.goes_on() {
                let Some(next) = tree.forget(&hand.low, RANGES, look.to) else { break };
                // Without giving up the processor: beside others who want it, this would take for ever.
                hand.low = next;
            }
            tree.give_back();
            if look.is_over {
                return;
            }
            hand.go_to(tree.id().saturating_add(1));
        }
        hand.go_to(0);
    }
}

/// Looks now and then at how much there is.
struct Look<'a> {
    tables: &'a Tables,
    index: &'a Index,
    bound: Bound,
    steps: usize,
    /// Up to where memory may be forgotten.
    to: Lsn,
    /// There is as little as there should be, or the engine is being closed.
    is_over: bool,
}

impl Look<'_> {
    fn goes_on(&mut self) -> bool {
        self.steps += 1;
        // With little memory no more is forgotten than has to be.
        let steps = usize::try_from(self.bound.goal / 16 / (RANGES as u64 * RANGE));
        if self.steps.is_multiple_of(steps.map_or(STEPS, |steps| steps.clamp(1, STEPS))) {
            self.to = forgettable(self.index, self.tables.shares());
            self.is_over = bytes(self.index) <= self.bound.goal || self.tables.check_open().is_err();
        }
        self.is_over |= self.steps > self.bound.steps;
        !self.is_over
    }
}

/// Leaves are given back once the hand has passed their keyspace. Those that are to be are none that must be forgotten.
fn bytes(index: &Index) -> u64 {
    index.bytes().in_use as u64
}

/// Up to where memory may be forgotten: what transactions ask for at their commit stays, unless there is no room for it.
fn forgettable(index: &Index, shares: Shares) -> Lsn {
    let to = index.installed();
    let lowest = index.lowest_validating().filter(|_| bytes(index) < shares.records.saturating_add(shares.records / 4));
    lowest.map_or(to, |lowest| to.min(lowest))
}
