//! The index that an open begins with: what layers have is not in memory (`table/RULES.md`, 10).

use std::sync::Arc;

use super::tables::Tables;
use crate::base::types::Lsn;
use crate::format::table::manifest::NamedRun;
use crate::format::table::split_full_key;
use crate::index::{AwayKeyspace, Beyond, Index};
use crate::table::store::Stack;

/// An index over the layers that were found, and the LSN behind which the log is to be replayed into it.
pub(super) fn over_layers(tables: &Tables) -> (Index, Lsn) {
    let beyond: Arc<dyn Beyond> = Arc::clone(tables.reading()) as _;
    let Some(stack) = tables.stack() else {
        return (Index::over(&beyond, [], Lsn::ZERO, 0), Lsn::ZERO);
    };
    let to = stack.manifest.to;
    // A snapshot at `to` is the oldest that anybody can take.
    let alive = stack.keyspaces.iter().filter(|keyspace| keyspace.dropped.is_none());
    let keyspaces = alive.map(|keyspace| AwayKeyspace {
        id: keyspace.id,
        name: keyspace.name.as_str().into(),
        created: keyspace.created,
        keys: keys_of(&stack, keyspace.id),
    });
    (Index::over(&beyond, keyspaces, to, stack.keyspaces.next_id()), to)
}

/// About how many keys the layers have of a keyspace: what several layers have counts as often, and a run of several keyspaces
/// is shared out evenly. `None` if they have nothing of it, neither keys nor what deletes them. Nothing is read for it.
fn keys_of(stack: &Stack, id: u32) -> Option<u64> {
    let runs = stack.manifest.layers.iter().flat_map(|layer| &layer.runs);
    let has_some = |run: &&NamedRun| run.entries > 0 || run.range_tombstones > 0;
    let keys = runs.filter(has_some).filter_map(|run| {
        let (low, high) = ids_of(run);
        if !(low..=high).contains(&id) {
            return None;
        }
        // A tombstone stands for a key that is gone, and hides an entry below.
        let keys = run.entries.saturating_sub(run.tombstones.saturating_mul(2));
        let alive = stack.keyspaces.iter().filter(|one| (low..=high).contains(&one.id)).count() as u64;
        Some(keys.div_ceil(alive.max(1)))
    });
    keys.reduce(|sum, keys| sum + keys)
}

/// The ids of the first and the last keyspace that a run has keys of.
fn ids_of(run: &NamedRun) -> (u32, u32) {
    let low = split_full_key(&run.range.low).map_or(0, |(id, _)| id);
    let high = match split_full_key(&run.range.high) {
        Some((id, [])) => id.saturating_sub(1),
        Some((id, _)) => id,
        None => u32::MAX,
    };
    (low, high.max(low))
}
