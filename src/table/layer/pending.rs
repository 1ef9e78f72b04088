//! The range tombstones of a layer that no run has yet.

use std::collections::VecDeque;

use crate::format::table::range_tombstones::RangeTombstone;
use crate::format::table::{ends_within, is_below};
use crate::table::retain::goes_on;

/// Fragmented, and in order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ranges: VecDeque<RangeTombstone>,
    /// What they take in memory.
    bytes: u64,
}

/// What range tombstones take in memory.
pub(super) fn bytes_of<'a>(ranges: impl IntoIterator<Item = &'a RangeTombstone>) -> u64 {
    ranges.into_iter().map(|one| (one.start.len() + one.end.len() + size_of_val(one)) as u64).sum()
}

impl Pending {
    pub(super) fn new(ranges: Vec<RangeTombstone>) -> Self {
        Pending { bytes: bytes_of(&ranges), ranges: ranges.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds some behind those that are there, fragmented and in order. What goes on is not cut where a piece ends.
    pub(super) fn add(&mut self, ranges: Vec<RangeTombstone>) {
        if ranges.is_empty() {
            return;
        }
        let last = self.ranges.back().map(|last| last.start.clone());
        let begin =
            self.ranges.iter().rposition(|one| Some(&one.start) != last.as_ref()).map_or(0, |before| before + 1);
        let last = &mut self.ranges.make_contiguous()[begin..];
        let count = ranges.iter().take_while(|one| one.start == ranges[0].start).count();
        let joined = if goes_on(last, &ranges[..count]) { count } else { 0 };
        self.bytes -= bytes_of(&*last);
        for (before, behind) in last.iter_mut().zip(&ranges[..joined]) {
            before.end.clone_from(&behind.end);
        }
        self.bytes += bytes_of(&*last) + bytes_of(&ranges[joined..]);
        self.ranges.extend(ranges.into_iter().skip(joined));
    }

    /// Takes the first ones, up to `end`. What goes on behind it is cut there, and stays.
    pub(super) fn take(&mut self, end: &[u8]) -> Vec<RangeTombstone> {
        let count = self.ranges.iter().take_while(|next| is_below(&next.start, end)).count();
        let mut taken: Vec<_> = self.ranges.drain(..count).collect();
        self.bytes -= bytes_of(&taken);
        for tombstone in taken.iter_mut().rev().filter(|tombstone| !ends_within(&tombstone.end, end)) {
            let rest = RangeTombstone { start: end.to_vec(), ..tombstone.clone() };
            self.bytes += bytes_of([&rest]);
            self.ranges.push_front(rest);
            tombstone.end = end.to_vec();
        }
        taken
    }
}
