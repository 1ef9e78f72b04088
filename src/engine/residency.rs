//! The index that an open begins with: what layers have is not in memory (`table/RULES.md`, 10).

use std::sync::Arc;

use super::tables::Tables;
use crate::base::types::Lsn;
use crate::format::table::keyspaces::Keyspace;
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
    let alive: Vec<&Keyspace> = stack.keyspaces.iter().filter(|keyspace| keyspace.dropped.is_none()).collect();
    let ids: Vec<u32> = alive.iter().map(|keyspace| keyspace.id).collect();
    // A snapshot at `to` is the oldest that anybody can take.
    let keyspaces = alive.iter().zip(keys_of(&stack, &ids)).map(|(keyspace, keys)| AwayKeyspace {
        id: keyspace.id,
        name: keyspace.name.as_str().into(),
        created: keyspace.created,
        keys,
    });
    (Index::over(&beyond, keyspaces, to, stack.keyspaces.next_id()), to)
}

/// About how many keys the layers have of each of these keyspaces: what several layers have counts as often, and a run of several
/// keyspaces is shared out evenly. `None` if they have nothing of it, neither keys nor what deletes them. Nothing is read for it.
fn keys_of(stack: &Stack, ids: &[u32]) -> Vec<Option<u64>> {
    let mut keys: Vec<Option<u64>> = vec![None; ids.len()];
    let runs = stack.manifest.layers.iter().flat_map(|layer| &layer.runs);
    for run in runs.filter(|run| run.entries > 0 || run.range_tombstones > 0) {
        let (low, high) = ids_of(run);
        let first = ids.partition_point(|id| *id < low);
        let its_own = &mut keys[first..ids.partition_point(|id| *id <= high)];
        // A tombstone stands for a key that is gone, and hides an entry below.
        let all = run.entries.saturating_sub(run.tombstones.saturating_mul(2));
        let each = all.div_ceil(its_own.len().max(1) as u64);
        for keys in its_own {
            *keys = Some(keys.unwrap_or(0).saturating_add(each));
        }
    }
    keys
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
