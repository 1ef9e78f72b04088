//! Which range tombstones must stay (RULES.md, 1 and 9).

use super::merge::{Gone, Retain};
use crate::base::range_set::RangeSet;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::split_full_key;

#[cfg(test)]
mod tests;

impl Retain {
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
        let has_lost = of_range.iter().any(|one| one.says != Says::Deleted);
        let mut newer = None;
        let mut stays = |one: &&RangeTombstone| {
            if one.says != Says::Deleted {
                return true;
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
fn goes_on(first: &[RangeTombstone], second: &[RangeTombstone]) -> bool {
    let id = |bound: &[u8]| split_full_key(bound).map(|(id, _)| id);
    let says = |one: &RangeTombstone| (one.lsn, one.says);
    match (first, second) {
        ([a, ..], [b, ..]) => {
            a.end == b.start && id(&a.start) == id(&b.start) && first.iter().map(says).eq(second.iter().map(says))
        }
        _ => false,
    }
}
