//! Writing a layer: what a merge gives out, cut into runs (`format/TABLES.md`, sections 1 and 2.3).

use std::collections::VecDeque;

use super::merge::{Merge, Source};
use super::run::write::RunWriter;
use crate::base::error::Result;
use crate::format::table::data::Found;
use crate::format::table::manifest::NamedRun;
use crate::format::table::range_tombstones::RangeTombstone;
use crate::format::table::root::Range;

#[cfg(test)]
mod tests;

/// The runs of one layer, one after the other.
pub(crate) struct LayerWriter<'a> {
    /// Makes the file of the next run.
    create: &'a mut dyn FnMut() -> Result<RunWriter>,
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

impl<'a> LayerWriter<'a> {
    /// `ranges` are the range tombstones that the layer has.
    pub(crate) fn new(
        run_bytes: u64,
        ranges: Vec<RangeTombstone>,
        create: &'a mut dyn FnMut() -> Result<RunWriter>,
    ) -> Self {
        LayerWriter { create, run_bytes, ranges: ranges.into(), present: None, reached: Vec::new(), runs: Vec::new() }
    }

    /// Writes all that `merge` gives out. Each file is durable then, and no name of one is.
    ///
    /// # Errors
    /// Those of the sources and of the files. The layer has failed then.
    pub(crate) fn write<S: Source>(mut self, mut merge: Merge<S>) -> Result<Vec<NamedRun>> {
        while merge.next_key(&mut |key, version| self.push(key, version))? {}
        self.end_run(true)?;
        Ok(self.runs)
    }

    fn push(&mut self, key: &[u8], version: Found<'_>) -> Result<()> {
        // Only between keys: the versions of one stay together.
        let is_full = |present: &Present| present.writer.bytes() >= self.run_bytes && present.last != key;
        if self.present.as_ref().is_some_and(is_full) {
            self.end_run(false)?;
        }
        let present = match &mut self.present {
            Some(present) => present,
            None => {
                let writer = (self.create)()?;
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
            None => ((self.create)()?, None),
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
