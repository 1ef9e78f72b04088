//! Writing a layer: what a merge gives out, cut into runs (`format/TABLES.md`, sections 1 and 2.3).

mod pending;

use super::merge::{Gone, Merge, Retain, Source};
use super::run::write::RunWriter;
use super::store::Attempt;
use crate::base::error::Result;
use crate::base::types::Incarnation;
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::{Layer, NamedRun, Role};
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::root::Range;
use crate::format::table::run::RunHeader;
use crate::format::table::{FileKind, behind, full_range, split_full_key, write_full_key};
use crate::index::Above;
use pending::Pending;

#[cfg(test)]
mod tests;

/// Of which commits a layer holds the effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) interval: Interval,
    /// The incarnation in which it ends.
    pub(crate) branch: Incarnation,
}

/// How much is written at a time, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A run that is this long ends.
    pub(crate) run: u64,
    /// With a run that ends when so much was written, a part ends.
    pub(crate) part: u64,
}

impl Sizes {
    /// All in one part.
    pub(crate) fn whole(run: u64) -> Self {
        Sizes { run, part: u64::MAX }
    }
}

/// A run may end with its keyspace when it has this part of its length.
pub(super) const SHORTEST: u64 = 4;
/// A part that has nothing to write ends when so many times its length was read.
const READ: u64 = 8;
/// A run of what memory has ends when its range tombstones are so many bytes: whoever opens it has all of them in memory.
const MOST_RANGES: u64 = 4 << 20;
/// Between two looks whether a close has come.
const KEYS: usize = 1024;

/// A piece of the key space of a layer.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) runs: Vec<NamedRun>,
    /// Where the next one begins; `None` if nothing is left.
    pub(crate) end: Option<Vec<u8>>,
}

impl Attempt<'_> {
    /// Writes a layer of what `merge` gives out and of `ranges`, the range tombstones that it has, fragmented and in order
    /// (step 5). A run that is `run_bytes` long ends. Each file is durable then, and no name of one is.
    ///
    /// # Errors
    /// Those of the sources and of new files. The layer has failed then.
    pub(crate) fn write_layer<S: Source>(
        &mut self,
        stretch: Stretch,
        mut merge: Merge<S>,
        ranges: Vec<RangeTombstone>,
        run_bytes: u64,
    ) -> Result<Layer> {
        let part = self.write_part((stretch, Vec::new()), &mut merge, ranges, Sizes::whole(run_bytes))?;
        Ok(Layer { interval: stretch.interval, role: Role::Whole, runs: part.runs })
    }

    /// Writes the part of a layer that begins at `from`, below which `merge` and `ranges` have nothing.
    ///
    /// # Errors
    /// As [`Attempt::write_layer`].
    pub(crate) fn write_part<S: Source>(
        &mut self,
        (stretch, from): (Stretch, Vec<u8>),
        merge: &mut Merge<S>,
        ranges: Vec<RangeTombstone>,
        sizes: Sizes,
    ) -> Result<Part> {
        let (present, runs, written) = Default::default();
        let ranges = Pending::new(ranges);
        let mut layer = LayerWriter { attempt: self, stretch, sizes, ranges, present, reached: from, runs, written };
        for number in 1_usize.. {
            if number.is_multiple_of(KEYS) {
                layer.attempt.check_open()?;
            }
            if layer.is_part(merge.bytes_read()) && merge.has_more() {
                layer.end_run(behind(merge.key().to_vec()))?;
                return Ok(Part { runs: layer.runs, end: Some(layer.reached) });
            }
            if !merge.next_key(&mut |key, version| layer.push(key, version))? {
                break;
            }
        }
        layer.end_run(Vec::new())?;
        Ok(Part { runs: layer.runs, end: None })
    }

    /// Writes a layer of pieces, which come in the order of full keys, each with the id of its keyspace. Of the deletions of ranges
    /// stay those that somebody needs.
    ///
    /// # Errors
    /// Those of new files. The layer has failed then.
    pub(crate) fn write_pieces(
        &mut self,
        stretch: Stretch,
        pieces: impl Iterator<Item = (u32, Above)>,
        retain: &(Retain, Gone),
        run_bytes: u64,
    ) -> Result<Layer> {
        let (ranges, present, reached, runs, written) = Default::default();
        let sizes = Sizes::whole(run_bytes);
        let mut layer = LayerWriter { attempt: self, stretch, sizes, ranges, present, reached, runs, written };
        let mut end = Vec::new();
        for (id, above) in pieces {
            layer.attempt.check_open()?;
            layer.push_piece((id, &mut end), above, retain)?;
        }
        layer.end_run(Vec::new())?;
        Ok(Layer { interval: stretch.interval, role: Role::Whole, runs: layer.runs })
    }

    /// Begins a run of a layer.
    ///
    /// # Errors
    /// Those of [`Attempt::create`].
    pub(crate) fn create_run(&mut self, Stretch { interval, branch }: Stretch) -> Result<RunWriter> {
        let (identity, file) = self.create(FileKind::Run)?;
        Ok(RunWriter::new(file, self.pacer(), RunHeader { identity, interval, branch }))
    }
}

/// The runs of one layer, one after the other.
struct LayerWriter<'a, 's> {
    attempt: &'a mut Attempt<'s>,
    stretch: Stretch,
    sizes: Sizes,
    /// Those that no run has yet.
    ranges: Pending,
    present: Option<Present>,
    /// Up to where the runs before reach.
    reached: Vec<u8>,
    runs: Vec<NamedRun>,
    /// The length of these.
    written: u64,
}

/// The run that is being written.
struct Present {
    writer: RunWriter,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Present {
    /// Where it ends, if it does before `key`. With the end of a keyspace it ends early, so that few files have keys of a
    /// large keyspace and of another one: the others go with the keyspace, unread. It then speaks for all of that
    /// keyspace, and the next run for nothing of it.
    fn end_before(&self, key: &[u8], sizes: Sizes) -> Option<Vec<u8>> {
        let bytes = self.writer.bytes();
        match (split_full_key(&self.last), split_full_key(key)) {
            (Some((last, _)), Some((next, _))) if last < next => {
                (bytes >= sizes.run / SHORTEST).then(|| (last + 1).to_be_bytes().to_vec())
            }
            // Only between keys: the versions of one stay together.
            _ => (bytes >= sizes.run && self.last != key).then(|| behind(self.last.clone())),
        }
    }
}

impl LayerWriter<'_, '_> {
    /// Whether a part ends behind the present key, given what was read for it.
    fn is_part(&self, read: u64) -> bool {
        // As long as the shortest run that ends with its keyspace: else a part of many small keyspaces would not end.
        let is_full =
            |bytes: u64| bytes >= self.sizes.run / SHORTEST && self.written.saturating_add(bytes) >= self.sizes.part;
        read >= self.sizes.part.saturating_mul(READ)
            || self.present.as_ref().is_some_and(|present| is_full(present.writer.bytes()))
    }

    fn push(&mut self, key: &[u8], version: Found<'_>) -> Result<()> {
        if let Some(end) = self.present.as_ref().and_then(|present| present.end_before(key, self.sizes)) {
            self.end_run(end)?;
        }
        let present = match &mut self.present {
            Some(present) => present,
            None => {
                let writer = self.attempt.create_run(self.stretch)?;
                self.present.insert(Present { writer, first: key.to_vec(), last: Vec::new() })
            }
        };
        present.last.clear();
        present.last.extend_from_slice(key);
        present.writer.push(key, version)
    }

    /// The pieces before it go up to `end`, which becomes its own end.
    fn push_piece(
        &mut self,
        (id, end): (u32, &mut Vec<u8>),
        above: Above,
        (retain, gone): &(Retain, Gone),
    ) -> Result<()> {
        let deleted = above.deleted.into_iter().map(|(from, to, lsn)| {
            let (start, end) = full_range(id, &from, to.as_deref());
            RangeTombstone { start, end, lsn, says: Says::Deleted }
        });
        let ranges = retain.ranges(&retain.newest(deleted.collect()), gone);
        // Deletions alone may be many, too: none is written before its run ends.
        let most = (self.sizes.run / 4).min(MOST_RANGES);
        if !self.ranges.is_empty() && self.ranges.bytes() + pending::bytes_of(&ranges) > most {
            self.end_run(end.clone())?;
        }
        *end = full_range(id, &[], above.next.as_deref()).1;
        self.ranges.add(ranges);
        let mut full = Vec::new();
        for (key, versions) in &above.keys {
            write_full_key(&mut full, id, key);
            for (lsn, value) in versions {
                self.push(&full, Found { lsn: *lsn, value: value.as_deref() })?;
            }
        }
        if self.ranges.bytes() >= most { self.end_run(end.clone()) } else { Ok(()) }
    }

    /// Ends the present run at a bound behind its last key: at the empty one as the last of the layer, which has all to the
    /// end of the key space, so that a job names it to its end. There is a last one even if nothing was written: without
    /// it nobody would know that nothing was there.
    fn end_run(&mut self, end: Vec<u8>) -> Result<()> {
        let (mut writer, first) = match self.present.take() {
            Some(Present { writer, first, .. }) => (writer, Some(first)),
            None => (self.attempt.create_run(self.stretch)?, None),
        };
        let ranges = self.ranges.take(&end);
        let reach = Range { low: std::mem::replace(&mut self.reached, end.clone()), high: end };
        let low = first.iter().chain(ranges.first().map(|range| &range.start)).min();
        let range = Range { low: low.unwrap_or(&reach.low).clone(), high: reach.high.clone() };
        writer.push_ranges(ranges);
        let run = writer.finish(range, reach, Vec::new())?;
        self.written += run.file.length;
        self.runs.push(run);
        Ok(())
    }
}
