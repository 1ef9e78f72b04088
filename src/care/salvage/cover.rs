//! Which runs answer for which keys, and what no run answers for (`format/TABLES.md`, section 4).

use crate::base::types::Lsn;
use crate::format::WORD;
use crate::format::table::data::Interval;
use crate::format::table::is_below;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::root::Range;
use crate::table::run::rescue::Bad;

#[cfg(test)]
mod tests;

/// One who answers for an interval of the log, on a range of keys.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) interval: Interval,
    pub(super) number: u64,
    pub(super) reach: Range,
    /// For what it does not answer: in order, and none touches the next.
    pub(super) bad: Vec<Bad>,
    /// What of its entries cannot be read.
    pub(super) unreadable: Vec<Bad>,
}

impl Speaker {
    fn speaks_at(&self, key: &[u8]) -> bool {
        self.bad_at(key).is_none()
    }

    fn bad_at(&self, key: &[u8]) -> Option<&Bad> {
        let before = self.bad.partition_point(|bad| bad.range.low.as_slice() <= key).checked_sub(1)?;
        Some(&self.bad[before]).filter(|bad| is_below(key, &bad.range.high))
    }

    fn covers(&self, other: &Speaker) -> bool {
        let holds = self.interval.from <= other.interval.from && other.interval.to <= self.interval.to;
        holds && (self.interval != other.interval || self.number > other.number)
    }
}

/// A range of keys for which the same ones answer.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: Range,
    /// Whose entries count.
    pub(super) used: Vec<usize>,
    /// For what nobody answers.
    pub(super) missing: Vec<Interval>,
}

/// Cuts the key space where the answers change. `begin` is that of the readable log. What lies below one of `deleted`, fragmented
/// range tombstones in order, does not count, whether it is there or not.
pub(super) fn pieces(speakers: &[Speaker], deleted: &[RangeTombstone], begin: Lsn) -> Vec<Piece> {
    let mut bounds: Vec<&[u8]> = vec![&[]];
    bounds.extend(deleted.iter().flat_map(|one| [one.start.as_slice(), one.end.as_slice()]));
    for speaker in speakers {
        let ranges = speaker.bad.iter().map(|bad| &bad.range).chain([&speaker.reach]);
        bounds.extend(ranges.flat_map(|range| [range.low.as_slice(), range.high.as_slice()]));
    }
    bounds.sort_unstable();
    bounds.dedup();
    let mut by_low: Vec<usize> = (0..speakers.len()).collect();
    by_low.sort_by_key(|number| &speakers[*number].reach.low);
    let (mut pieces, mut there, mut next) = (Vec::<Piece>::new(), Vec::new(), by_low.into_iter().peekable());
    for (number, low) in bounds.iter().enumerate() {
        there.retain(|one: &usize| is_below(low, &speakers[*one].reach.high));
        while let Some(one) = next.next_if(|one| speakers[*one].reach.low.as_slice() <= *low) {
            there.push(one);
        }
        let high = bounds.get(number + 1).map_or_else(Vec::new, |high| high.to_vec());
        let (used, missing) = judge(speakers, &there, low, (deleted_up_to(deleted, low), begin));
        match pieces.last_mut() {
            Some(last) if last.used == used && last.missing == missing => last.range.high = high,
            _ => pieces.push(Piece { range: Range { low: low.to_vec(), high }, used, missing }),
        }
    }
    pieces
}

/// Up to where the newest deletion of a range that has `key` has left nothing; zero if there is none.
fn deleted_up_to(deleted: &[RangeTombstone], key: &[u8]) -> Lsn {
    let before = &deleted[..deleted.partition_point(|one| one.start.as_slice() <= key)];
    let same = before.last().map_or(&[][..], |last| &before[before.partition_point(|one| one.start < last.start)..]);
    let over = same.iter().filter(|one| one.says == Says::Deleted && key < one.end.as_slice());
    // Its own commit may have put the key behind it: what has that LSN counts.
    over.map(|one| Lsn::new(one.lsn.get().saturating_sub(WORD))).max().unwrap_or(Lsn::ZERO)
}

/// Whose entries count at `key`, of those that reach it, and which intervals are missing there, between two LSNs.
fn judge(
    speakers: &[Speaker],
    there: &[usize],
    key: &[u8],
    (needed_from, begin): (Lsn, Lsn),
) -> (Vec<usize>, Vec<Interval>) {
    let speaking: Vec<&Speaker> = there.iter().map(|one| &speakers[*one]).filter(|one| one.speaks_at(key)).collect();
    let counts = |one: &Speaker| !speaking.iter().any(|other| other.covers(one));
    // What is whole of one that does not answer is true all the same.
    let mut used: Vec<usize> = there.iter().copied().filter(|one| counts(&speakers[*one])).collect();
    used.sort_unstable();
    let mut answers: Vec<Interval> =
        used.iter().map(|one| &speakers[*one]).filter(|one| one.speaks_at(key)).map(|one| one.interval).collect();
    answers.sort_by_key(|interval| interval.from);
    let (mut end, mut missing) = (needed_from, Vec::new());
    for Interval { from, to } in answers {
        if from > end && end < begin {
            missing.push(Interval { from: end, to: from.min(begin) });
        }
        end = end.max(to);
    }
    if end < begin {
        missing.push(Interval { from: end, to: begin });
    }
    (used, missing)
}

/// Why nobody answers for `missing` on `piece`, as far as a run says it.
pub(super) fn reason<'s>(speakers: &'s [Speaker], piece: &Piece, missing: Interval) -> Option<&'s Bad> {
    let overlaps = |one: &&Speaker| one.interval.from < missing.to && missing.from < one.interval.to;
    let reaches = |one: &&Speaker| one.reach.low <= piece.range.low && is_below(&piece.range.low, &one.reach.high);
    speakers.iter().filter(overlaps).filter(reaches).find_map(|one| one.bad_at(&piece.range.low))
}

/// The speakers put in order, so that each list is read from its begin to its end, one speaker at a time.
pub(super) fn chains(speakers: &[Speaker]) -> Vec<Vec<usize>> {
    let mut by_low: Vec<usize> = (0..speakers.len()).collect();
    by_low.sort_by_key(|number| &speakers[*number].reach.low);
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for one in by_low {
        let ends = |chain: &&mut Vec<usize>| {
            let high = chain.last().map(|last| &speakers[*last].reach.high);
            high.is_some_and(|high| !high.is_empty() && *high <= speakers[one].reach.low)
        };
        match chains.iter_mut().find(ends) {
            Some(chain) => chain.push(one),
            None => chains.push(vec![one]),
        }
    }
    chains
}
