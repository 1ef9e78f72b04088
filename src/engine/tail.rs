//! A layer from memory, in place of a piece of the log that a checkpoint cannot read (`table/RULES.md`, 1; `table/FAULTS.md`,
//! section 3, step 4). It is the next layer, and has what memory has above the installed ones, whatever else only these have.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::tables::Tables;
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::data::Interval;
use crate::index::{Above, Key, Readers, Tree};
use crate::table::checkpoint::{NewLayer, Tail};
use crate::table::keyspaces::KeyspaceList;
use crate::table::merge::Retain;
use crate::table::store::Store;
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// Writes it. Returns it, and how much of the log had been counted before it began.
///
/// # Errors
/// As those of a checkpoint.
pub(super) fn write<'s>(
    pipeline: &Pipeline,
    tables: &Tables,
    store: &'s Store,
    run_bytes: u64,
) -> Result<(NewLayer<'s>, Amount)> {
    let (index, durable) = (pipeline.index(), pipeline.log.durable());
    // Held until all is written: nothing that its readers find leaves memory meanwhile.
    let hold = index.hold_at(|visible| visible.min(durable));
    // Behind the snapshot, as for a layer of all data.
    let counted = pipeline.due.counted();
    let log_bytes = counted.above(tables.health.done()).bytes;
    let to = hold.lsn();
    // From here on no snapshot begins below. Those that are held there read on: there may be any number.
    let held = index.held_below(to);
    let from = store.stack().map_or(Lsn::ZERO, |stack| stack.manifest.to);
    let readers: Vec<_> = held.iter().copied().filter(|at| *at > from).chain([to]).collect();
    let horizon = Retain { floor: to, held, is_last: from == Lsn::ZERO };
    let trees = index.trees_from(0);
    let keyspaces = keyspaces_of(&trees, (to, index.next_keyspace_id_at(to)), &horizon);
    let of_readers = |tree: Arc<Tree>| {
        let begin = readers.partition_point(|at| *at < tree.created());
        let end = tree.dropped().map_or(readers.len(), |dropped| readers.partition_point(|at| *at < dropped));
        (begin < end).then_some((tree, begin..end))
    };
    let trees = trees.into_iter().filter_map(of_readers).collect();
    let pieces = Pieces { trees, low: Key::from(&[]), from, readers };
    let (interval, branch) = (Interval { from, to }, pipeline.log.token(to).incarnation);
    let layer = store.write_tail(Tail { interval, branch, keyspaces, horizon, pieces, log_bytes }, run_bytes)?;
    drop(hold);
    Ok((layer, counted))
}

/// The list of these keyspaces as of `to`, when the first id that was not used was `next`.
pub(super) fn keyspaces_of(trees: &[Arc<Tree>], (to, next): (Lsn, u32), horizon: &Retain) -> KeyspaceList {
    let mut keyspaces = KeyspaceList::from_id(next);
    for tree in trees.iter().filter(|tree| tree.created() <= to) {
        keyspaces.insert(tree.id(), tree.name(), tree.created());
        if let Some(dropped) = tree.dropped().filter(|dropped| *dropped <= to) {
            keyspaces.drop_at(tree.id(), dropped);
        }
    }
    keyspaces.prune(horizon);
    keyspaces
}

/// What memory has of all keyspaces, by their ids. No more than a piece is taken from it at a time.
struct Pieces {
    /// Each with the numbers of the readers that see it.
    trees: VecDeque<(Arc<Tree>, Range<usize>)>,
    /// Where the next piece of the first one begins.
    low: Key,
    from: Lsn,
    /// All of them, ascending: keyspaces and snapshots may both be many.
    readers: Vec<Lsn>,
}

impl Iterator for Pieces {
    type Item = (u32, Above);

    fn next(&mut self) -> Option<Self::Item> {
        let (tree, seen_by) = self.trees.front()?;
        let at = &self.readers[seen_by.clone()];
        let (id, above) = (tree.id(), tree.above(&self.low, Readers { from: self.from, at }));
        self.low = above.next.clone().unwrap_or_else(|| {
            self.trees.pop_front();
            Key::from(&[])
        });
        Some((id, above))
    }
}
