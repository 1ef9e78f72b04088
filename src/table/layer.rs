//! Writing a layer: what a merge gives out, cut into runs (`format/TABLES.md`, sections 1 and 2.3).

use std::collections::VecDeque;

use super::merge::{Merge, Source};
use super::run::write::RunWriter;
use super::store::Attempt;
use crate::base::error::Result;
use crate::base::types::Incarnation;
use crate::format::table::FileKind;
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::{Layer, NamedRun, Role};
use crate::format::table::range_tombstones::RangeTombstone;
use crate::format::table::root::Range;
use crate::format::table::run::RunHeader;

#[cfg(test)]
mod tests;

impl Attempt<'_> {
    /// Writes a layer of what `merge` gives out and of `ranges`, the range tombstones that it has, fragmented and in order
    /// (step 5). A run that is `run_bytes` long ends. Each file is durable then, and no name of one is.
    ///
    /// # Errors
    /// Those of the sources and of new files. The layer has failed then.
    pub(crate) fn write_layer<S: Source>(
        &mut self,
        interval: Interval,
        branch: Incarnation,
        mut merge: Merge<S>,
        ranges: Vec<RangeTombstone>,
        run_bytes: u64,
    ) -> Result<Layer> {
        let (present, reached, runs) = Default::default();
        let ranges = ranges.into();
        let mut layer = LayerWriter { attempt: self, interval, branch, run_bytes, ranges, present, reached, runs };
        while merge.next_key(&mut |key, version| layer.push(key, version))? {}
        layer.end_run(true)?;
        Ok(Layer { interval, role: Role::Whole, runs: layer.runs })
    }

    /// Begins a run of a layer with this interval, which ends in the incarnation `branch`.
    ///
    /// # Errors
    /// Those of [`Attempt::create`].
    pub(crate) fn create_run(&mut self, interval: Interval, branch: Incarnation) -> Result<RunWriter> {
        let (identity, file) = self.create(FileKind::Run)?;
        Ok(RunWriter::new(file, RunHeader { identity, interval, branch }))
    }
}

/// The runs of one layer, one after the other.
struct LayerWriter<'a, 's> {
    attempt: &'a mut Attempt<'s>,
    interval: Interval,
    branch: Incarnation,
    /// A run that is this long ends.
    run_bytes: u64,
    /// Those that no run has yet, fragmented and in order.
    ranges: VecDeque<RangeTombstone>,
    present: Option<Present>,
    /// Up to where the runs before reach.
    reached: Vec<u8>,
    runs: Vec<NamedRun>,
}

/// The run that is being written.
struct Present {
    writer: RunWriter,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl LayerWriter<'_, '_> {
    fn push(&mut self, key: &[u8], version: Found<'_>) -> Result<()> {
        // Only between keys: the versions of one stay together.
        let is_full = |present: &Present| present.writer.bytes() >= self.run_bytes && present.last != key;
        if self.present.as_ref().is_some_and(is_full) {
            self.end_run(false)?;
        }
        let present = match &mut self.present {
            Some(present) => present,
            None => {
                let writer = self.attempt.create_run(self.interval, self.branch)?;
                self.present.insert(Present { writer, first: key.to_vec(), last: Vec::new() })
            }
        };
        present.last.clear();
        present.last.extend_from_slice(key);
        present.writer.push(key, version)
    }

    /// Ends the present run behind its last key, or as the last one of the layer, which reaches to the end of the key
    /// space. There is a last one even if nothing was written: without it nobody would know that nothing was there.
    fn end_run(&mut self, is_last: bool) -> Result<()> {
        let (mut writer, keys) = match self.present.take() {
            Some(Present { writer, first, last }) => (writer, Some((first, behind(last)))),
            None => (self.attempt.create_run(self.interval, self.branch)?, None),
        };
        let (first, end) = keys.unzip();
        let ranges = self.take_ranges(end.as_deref().filter(|_| !is_last));
        let low = first.iter().chain(ranges.first().map(|range| &range.start)).min();
        let high = end.iter().chain(ranges.last().map(|range| &range.end)).max();
        let range = Range { low: low.cloned().unwrap_or_default(), high: high.cloned().unwrap_or_default() };
        writer.push_ranges(ranges);
        let reach_end = if is_last { Vec::new() } else { range.high.clone() };
        let reach = Range { low: std::mem::replace(&mut self.reached, reach_end.clone()), high: reach_end };
        self.runs.push(writer.finish(range, reach, Vec::new())?);
        Ok(())
    }

    /// The next range tombstones, up to `end` if there is one. What goes on behind it is cut there, and stays.
    fn take_ranges(&mut self, end: Option<&[u8]>) -> Vec<RangeTombstone> {
        let Some(end) = end else { return self.ranges.drain(..).collect() };
        let count = self.ranges.iter().take_while(|next| next.start.as_slice() < end).count();
        let mut taken: Vec<_> = self.ranges.drain(..count).collect();
        for tombstone in taken.iter_mut().rev().filter(|tombstone| tombstone.end.as_slice() > end) {
            self.ranges.push_front(RangeTombstone { start: end.to_vec(), ..tombstone.clone() });
            tombstone.end = end.to_vec();
        }
        taken
    }
}

/// The lowest bound above a full key.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
