//! Which merge is due (`MERGING.md`, 1).

use std::ops::Range;

use crate::base::types::Lsn;
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
        return Some(job_at(layers, first));
    }
    let (upper, last) = layers.split_at(last);
    let entry = entry_bytes(&last[0]);
    let weight = upper.iter().fold(0_u64, |sum, layer| sum.saturating_add(weight(layer, entry)));
    (!upper.is_empty() && weight >= last[0].bytes() / 2).then_some(0..layers.len())
}

/// Of the layers of a stack, those of the step by which all become one (`MERGING.md`, 7): of the job that has begun for it and
/// ends at `begun`, else of one that stands in its way, else all. Nothing is left to do once the job is over.
pub(crate) fn due_to_compact(layers: &[Layer], begun: Option<Lsn>) -> Option<Range<usize>> {
    match begun {
        Some(to) => {
            let output = layers.last().filter(|last| last.role != Role::Whole && last.interval.to == to)?;
            layers.iter().position(|layer| layer.interval.to == output.interval.to).map(|first| job_at(layers, first))
        }
        None => match layers.iter().position(|layer| layer.role == Role::Input) {
            Some(first) => Some(job_at(layers, first)),
            None => (!layers.is_empty()).then_some(0..layers.len()),
        },
    }
}

/// The bytes that are to be read until then.
pub(crate) fn left_to_compact(layers: &[Layer], begun: Option<Lsn>) -> u64 {
    match begun {
        None => bytes_of(layers),
        Some(_) => due_to_compact(layers, begun).map_or(0, |job| bytes_of(&layers[job.start..job.end - 1])),
    }
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

/// The layers of a job, whose first input is there.
fn job_at(layers: &[Layer], first: usize) -> Range<usize> {
    let inputs = layers[first..].iter().take_while(|layer| layer.role == Role::Input).count();
    first..first + inputs + 1
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
