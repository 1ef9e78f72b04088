//! The keeper of memory: has ranges forgotten which layers have, once there is too much in memory (`table/RULES.md`, 2 and 8).
//! Only a checkpoint makes more of it forgettable, so it follows each checkpoint, on the same thread. While it works, the log
//! behind the layers grows, and commits wait for that once it is too long: so they cannot fill memory faster than it is kept.
//!
//! It goes round all keyspaces like the hand of a clock. What somebody has read since the hand came by is spared once.

use super::memory::{Hand, Shares};
use super::tables::Tables;
use crate::base::types::Lsn;
use crate::index::{Index, Tree};
use crate::rt::sync::yield_now;
use crate::txn::pipeline::Pipeline;

/// Ranges that are forgotten under one lock.
const RANGES: usize = 8;
/// Between two looks at how much there is.
const STEPS: usize = 64;
/// The hand goes round no more often at a time: what it has spared is not spared twice, and what is left then cannot be
/// forgotten yet.
const ROUNDS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// The keyspace is over.
    Tree,
    /// There is as little as there should be, or the engine is being closed.
    All,
}

/// Has memory forgotten if there is too much.
pub(super) fn keep(pipeline: &Pipeline, tables: &Tables) {
    if bytes(pipeline.index()) > tables.shares.records {
        forget(&mut tables.hand.lock(), pipeline, tables);
    }
}

fn forget(hand: &mut Hand, pipeline: &Pipeline, tables: &Tables) {
    for _ in 0..ROUNDS {
        for tree in pipeline.index().trees_from(hand.id) {
            if hand.id != tree.id() {
                *hand = Hand::at(tree.id());
            }
            if forget_tree(hand, pipeline.index(), tables, &tree) == Ended::All {
                return;
            }
            *hand = Hand::at(tree.id().saturating_add(1));
        }
        *hand = Hand::default();
    }
}

fn forget_tree(hand: &mut Hand, index: &Index, tables: &Tables, tree: &Tree) -> Ended {
    let mut to = forgettable(index, tables.shares);
    for step in 1_usize.. {
        let Some(next) = tree.forget(&hand.low, RANGES, to) else { break };
        hand.low = next;
        if step.is_multiple_of(STEPS) {
            tree.give_back();
            if bytes(index) <= tables.shares.goal || tables.check_open().is_err() {
                return Ended::All;
            }
            to = forgettable(index, tables.shares);
        }
        yield_now();
    }
    tree.give_back();
    if bytes(index) <= tables.shares.goal { Ended::All } else { Ended::Tree }
}

fn bytes(index: &Index) -> u64 {
    index.bytes_of_records() as u64
}

/// Up to where memory may be forgotten: what transactions ask for at their commit stays, unless there is no room for it.
fn forgettable(index: &Index, shares: Shares) -> Lsn {
    let to = index.installed();
    let lowest = index.lowest_validating().filter(|_| bytes(index) < shares.records / 4 * 5);
    lowest.map_or(to, |lowest| to.min(lowest))
}
