//! Which range tombstones must stay (RULES.md, 1 and 9).

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;

use super::merge::{Gone, Retain};
use crate::base::range_set::RangeSet;
use crate::base::types::Lsn;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::split_full_key;

#[cfg(test)]
mod tests;

impl Retain {
    /// The deletions of ranges in a piece of the log, fragmented and in order, without those that a newer one has made needless. A
    /// queue whose front is deleted up to a key, again and again, has as many of them over its first keys as there were commits:
    /// of each part no more are looked at than stay.
    pub(super) fn newest(&self, mut ranges: Vec<RangeTombstone>) -> Vec<RangeTombstone> {
        let mut bounds: Vec<Vec<u8>> = ranges.iter().flat_map(|one| [one.start.clone(), one.end.clone()]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        let (mut pieces, mut next) = (Vec::new(), ranges.into_iter().peekable());
        // Those over the present part: by LSN, and by their ends.
        let (mut open, mut ends) = (BTreeMap::<Lsn, usize>::new(), BinaryHeap::<Reverse<(Vec<u8>, Lsn)>>::new());
        for pair in bounds.windows(2) {
            let (start, end) = (&pair[0], &pair[1]);
            while let Some(Reverse((_, lsn))) = ends.peek_mut().filter(|one| one.0.0 <= *start).map(PeekMut::pop) {
                match open.get_mut(&lsn) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(open.remove(&lsn)),
                }
            }
            while let Some(one) = next.next_if(|one| one.start <= *start) {
                *open.entry(one.lsn).or_default() += 1;
                ends.push(Reverse((one.end, one.lsn)));
            }
            let says = Says::Deleted;
            let piece = |lsn| RangeTombstone { start: start.clone(), end: end.clone(), lsn, says };
            pieces.extend(self.needed(&open).into_iter().map(piece));
        }
        pieces
    }

    /// Which of these deletions of the same keys stay, the newest first: those above the floor, and for the floor and each held LSN
    /// the newest one that its readers see.
    fn needed(&self, open: &BTreeMap<Lsn, usize>) -> Vec<Lsn> {
        let above = open.range((Bound::Excluded(self.floor), Bound::Unbounded)).map(|(lsn, _)| *lsn);
        let seen_by = |at: &Lsn| open.range(..=*at).next_back().map(|(lsn, _)| *lsn);
        let seen = [self.floor].iter().chain(&self.held).filter_map(seen_by).collect::<Vec<_>>();
        let needed: BTreeSet<Lsn> = above.chain(seen).collect();
        needed.into_iter().rev().collect()
    }

    /// Those that a layer must have, of fragmented ones in order. Neighbours that say the same become one: each merge has cut them
    /// at the ends of its runs.
    pub(super) fn ranges(&self, ranges: &[RangeTombstone], gone: &Gone) -> Vec<RangeTombstone> {
        let mut kept: Vec<Vec<RangeTombstone>> = Vec::new();
        for of_range in ranges.chunk_by(|a, b| a.start == b.start) {
            let mut of_range = self.of_range(of_range, gone);
            if let Some(before) = kept.last_mut().filter(|before| goes_on(before, &of_range)) {
                for (before, behind) in before.iter_mut().zip(&mut of_range) {
                    before.end.clone_from(&behind.end);
                }
            } else if !of_range.is_empty() {
                kept.push(of_range);
            }
        }
        kept.into_iter().flatten().collect()
    }

    /// Of the range tombstones of one range, the newest first, those that stay.
    fn of_range(&self, of_range: &[RangeTombstone], gone: &Gone) -> Vec<RangeTombstone> {
        if of_range.first().and_then(|one| split_full_key(&one.start)).is_some_and(|(id, _)| gone.has(id)) {
            return Vec::new();
        }
        // A put of its own commit may lie behind a deletion.
        let newest =
            of_range.iter().filter(|one| one.says == Says::Deleted && self.is_deleted(one)).map(|one| one.lsn).max();
        let is_missed = |one: &RangeTombstone| one.says != Says::Deleted && newest <= Some(one.lsn);
        let has_lost = of_range.iter().any(is_missed);
        let mut newer = None;
        let mut stays = |one: &&RangeTombstone| {
            if one.says != Says::Deleted {
                return is_missed(one);
            }
            // What it hides is not kept either: of what is older, nobody reads. What was lost may be, and is.
            let hides_nothing = self.is_last && !has_lost && self.is_deleted(one);
            self.needs(one.lsn, newer.replace(one.lsn)) && !hides_nothing
        };
        of_range.iter().filter(|one| stays(one)).cloned().collect()
    }

    /// What these delete for every reader.
    pub(super) fn deleted(&self, ranges: &[RangeTombstone]) -> RangeSet<Vec<u8>> {
        let mut deleted = RangeSet::default();
        for one in ranges.iter().filter(|one| one.says == Says::Deleted && self.is_deleted(one)) {
            deleted.insert(one.start.clone(), Some(one.end.clone()), |_, _| ());
        }
        deleted
    }

    /// Whether no reader can ask for what a range tombstone hides.
    fn is_deleted(&self, one: &RangeTombstone) -> bool {
        one.lsn <= self.floor && self.held.first().is_none_or(|held| *held >= one.lsn)
    }
}

/// Whether the second ones begin where the first ones end, in the same keyspace, and say the same.
pub(super) fn goes_on(first: &[RangeTombstone], second: &[RangeTombstone]) -> bool {
    let id = |bound: &[u8]| split_full_key(bound).map(|(id, _)| id);
    let says = |one: &RangeTombstone| (one.lsn, one.says);
    match (first, second) {
        ([a, ..], [b, ..]) => {
            a.end == b.start && id(&a.start) == id(&b.start) && first.iter().map(says).eq(second.iter().map(says))
        }
        _ => false,
    }
}
