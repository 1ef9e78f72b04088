//! Which merge is due (`MERGING.md`, 1).

use std::ops::Range;

use crate::format::table::manifest::{Layer, Role, bytes_of};

#[cfg(test)]
mod tests;

/// So many layers of a class are merged into one.
const TIER: usize = 4;
/// Layers below this are of one class with the smallest above it.
const SMALLEST: u64 = 1 << 20;

/// Of the layers of a stack, those of the merge that is due: those of a job, or whole ones with which one begins. All others have less to do.
pub(crate) fn due(layers: &[Layer]) -> Option<Range<usize>> {
    let last = layers.len().checked_sub(1)?;
    let job = layers.iter().position(|layer| layer.role == Role::Input);
    if let Some(tier) = tier(&layers[..job.unwrap_or(last)]) {
        return Some(0..tier);
    }
    if let Some(first) = job {
        let inputs = layers[first..].iter().take_while(|layer| layer.role == Role::Input).count();
        return Some(first..first + inputs + 1);
    }
    let (upper, last) = layers.split_at(last);
    let entry = entry_bytes(&last[0]);
    let weight = upper.iter().fold(0_u64, |sum, layer| sum.saturating_add(weight(layer, entry)));
    (!upper.is_empty() && weight >= last[0].bytes() / 2).then_some(0..layers.len())
}

/// What merges owe: the bytes of layers that are above the last one, where they have not been merged. With those of the last.
pub(crate) fn owed(layers: &[Layer]) -> (u64, u64) {
    let Some((last, upper)) = layers.split_last() else { return (0, 0) };
    match (&last.role, upper.split_last()) {
        // Of a job of all layers the output is a part of the last one.
        (Role::Output { .. }, Some((input, upper))) => (bytes_of(upper), input.bytes().saturating_add(last.bytes())),
        _ => (bytes_of(upper), last.bytes()),
    }
}

/// The average length of an entry.
fn entry_bytes(layer: &Layer) -> u64 {
    let entries = layer.runs.iter().fold(0_u64, |sum, run| sum.saturating_add(run.entries));
    layer.bytes().checked_div(entries).unwrap_or(0)
}

/// The bytes of a layer, in which a tombstone counts as the entry that it may hide.
fn weight(layer: &Layer, entry: u64) -> u64 {
    let tombstones = layer.runs.iter().fold(0_u64, |sum, run| sum.saturating_add(run.tombstones));
    layer.bytes().saturating_add(tombstones.saturating_mul(entry))
}

/// How many of these layers, which are whole and above all others, become one.
fn tier(layers: &[Layer]) -> Option<usize> {
    let mut highest = 0;
    // A layer below a larger one waits for that.
    let classes: Vec<u32> = layers
        .iter()
        .map(|layer| {
            highest = class(layer.bytes()).max(highest);
            highest
        })
        .collect();
    classes
        .chunk_by(|a, b| a == b)
        .scan(0, |end, same| {
            *end += same.len();
            Some((*end, same.len()))
        })
        .find(|(_, count)| *count >= TIER)
        .map(|(end, _)| end)
}

fn class(bytes: u64) -> u32 {
    (bytes / SMALLEST).max(1).ilog(4)
}
