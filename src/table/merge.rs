//! Merging versions of several sources into one order, and leaving out those that no reader can ask for (RULES.md, 1 and 9).

use std::collections::BTreeSet;

use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::data::Found;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::root::Range;
use crate::format::table::split_full_key;

#[cfg(test)]
mod tests;

/// Versions in the order of a run: by full key, those of one key from the newest on. It begins before the first one.
pub(crate) trait Source {
    /// Goes to the next version; `false` if there is none, and then it is not asked again.
    ///
    /// # Errors
    /// If it cannot be read. Then the merge has failed.
    fn advance(&mut self) -> Result<bool>;

    /// The full key of the present version. There must be one.
    fn key(&self) -> &[u8];

    /// The present version. There must be one.
    fn version(&self) -> Found<'_>;
}

/// Which versions must stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retain {
    /// No reader asks below this, unless it is held.
    pub(crate) floor: Lsn,
    /// The LSNs of held snapshots below the floor, ascending.
    pub(crate) held: Vec<Lsn>,
    /// Nothing lies below the sources: a tombstone hides nothing but what they have.
    pub(crate) is_last: bool,
}

impl Retain {
    /// Whether a reader can ask for the version at `lsn`, which `successor` superseded.
    pub(super) fn needs(&self, lsn: Lsn, successor: Option<Lsn>) -> bool {
        let Some(successor) = successor else { return true };
        let next_held = self.held.partition_point(|held| *held < lsn);
        successor > self.floor || self.held.get(next_held).is_some_and(|held| *held < successor)
    }
}

/// The keyspaces that were dropped, and that no reader can ask for: their versions need not stay, whatever their LSNs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gone {
    /// Ids from here on are of keyspaces that came later.
    pub(crate) next_id: u32,
    /// Those that did not go.
    pub(crate) listed: BTreeSet<u32>,
}

impl Gone {
    pub(super) fn has(&self, id: u32) -> bool {
        id < self.next_id && !self.listed.contains(&id)
    }

    /// Whether every full key in the range is of one of them, or of none that there ever was.
    pub(crate) fn have_all(&self, range: &Range) -> bool {
        let Some((high, rest)) = split_full_key(&range.high) else { return false };
        let low = split_full_key(&range.low).map_or(0, |(low, _)| low);
        let last = if rest.is_empty() { high.checked_sub(1) } else { Some(high) };
        last.is_some_and(|last| low <= last && last < self.next_id && self.listed.range(low..=last).next().is_none())
    }

    /// The same for all keys from this one on, of those that there may be so far.
    pub(crate) fn have_all_from(&self, low: &[u8]) -> bool {
        let low = split_full_key(low).map_or(0, |(low, _)| low);
        self.listed.range(low..).next().is_none()
    }
}

/// A merge, key by key.
pub(crate) struct Merge<S> {
    sources: Vec<S>,
    /// Whether each source stands on a version.
    on_version: Vec<bool>,
    retain: Retain,
    /// Those of all sources, fragmented and in order.
    ranges: Vec<RangeTombstone>,
    gone: Gone,
    key: Vec<u8>,
    bytes_read: u64,
    has_failed: bool,
    /// Tombstones of the key that stay only if something older of it does.
    pending: Vec<Lsn>,
}

impl<S: Source> Merge<S> {
    /// # Errors
    /// Those of the sources.
    pub(crate) fn new(mut sources: Vec<S>, retain: Retain, ranges: Vec<RangeTombstone>, gone: Gone) -> Result<Self> {
        let on_version = sources.iter_mut().map(Source::advance).collect::<Result<_>>()?;
        let (key, bytes_read, has_failed, pending) = Default::default();
        Ok(Merge { sources, on_version, retain, ranges, gone, key, bytes_read, has_failed, pending })
    }

    /// The last key that was taken.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Bytes of the keys and values that were taken.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Whether a source could not be read.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether there is another key.
    pub(crate) fn has_more(&self) -> bool {
        self.on_version.contains(&true)
    }

    /// Takes all versions of the next key, and gives out those that stay, which may be none. `false` if there is no key.
    ///
    /// # Errors
    /// Those of the sources and of `out`. Then the merge has failed.
    pub(crate) fn next_key(&mut self, out: &mut dyn FnMut(&[u8], Found<'_>) -> Result<()>) -> Result<bool> {
        let Some(first) = self.first(|_| true) else { return Ok(false) };
        self.key.clear();
        self.key.extend_from_slice(self.sources[first].key());
        self.pending.clear();
        let is_gone = split_full_key(&self.key).is_some_and(|(id, _)| self.gone.has(id));
        let (mut newer, mut next) = (None, Some(first));
        while let Some(number) = next {
            let version = self.sources[number].version();
            let lsn = version.lsn;
            self.bytes_read += (self.key.len() + version.value.map_or(0, <[u8]>::len)) as u64;
            let successor = [newer, self.deleted_above(lsn)].into_iter().flatten().min();
            if !is_gone && self.retain.needs(lsn, successor) {
                if self.retain.is_last && version.value.is_none() && !self.is_lost_below(lsn) {
                    self.pending.push(lsn);
                } else {
                    for lsn in self.pending.drain(..) {
                        out(&self.key, Found { lsn, value: None })?;
                    }
                    out(&self.key, version)?;
                }
            }
            newer = Some(lsn);
            let advanced = self.sources[number].advance();
            self.has_failed = advanced.is_err();
            self.on_version[number] = advanced?;
            next = self.first(|source| source.key() == self.key);
        }
        Ok(true)
    }

    /// The source with the first version, among those that may have it.
    fn first(&self, may: impl Fn(&S) -> bool) -> Option<usize> {
        let there = (0..self.sources.len()).filter(|number| self.on_version[*number] && may(&self.sources[*number]));
        there.min_by(|a, b| {
            let (a, b) = (&self.sources[*a], &self.sources[*b]);
            a.key().cmp(b.key()).then_with(|| b.version().lsn.cmp(&a.version().lsn))
        })
    }

    /// The range tombstones that the key is in, the newest first.
    fn over_key(&self) -> &[RangeTombstone] {
        let ranges = &self.ranges[..self.ranges.partition_point(|range| range.start <= self.key)];
        match ranges.last() {
            Some(last) if self.key < last.end => &ranges[ranges.partition_point(|range| range.start < last.start)..],
            _ => &[],
        }
    }

    /// The oldest deletion of a range that the key is in, above `lsn`. (One with the same LSN is older than the version.)
    fn deleted_above(&self, lsn: Lsn) -> Option<Lsn> {
        let over = self.over_key();
        let above = over[..over.partition_point(|range| range.lsn > lsn)].iter().rev();
        above.filter(|range| range.says == Says::Deleted).map(|range| range.lsn).next()
    }

    /// Whether something older of the key may be in what could not be read, and stays: a tombstone above it is the answer.
    fn is_lost_below(&self, lsn: Lsn) -> bool {
        self.over_key().iter().any(|range| matches!(range.says, Says::LostAbove(above) if above < lsn))
    }
}
