//! Range tombstones of several sources as a run has them: two ranges are equal or disjoint.

use crate::format::table::range_tombstones::RangeTombstone;

#[cfg(test)]
mod tests;

/// Cuts the ranges at each other's bounds, and puts the pieces in order. What two sources both say is said once.
pub(crate) fn fragment(mut tombstones: Vec<RangeTombstone>) -> Vec<RangeTombstone> {
    let mut bounds: Vec<Vec<u8>> = tombstones.iter().flat_map(|one| [one.start.clone(), one.end.clone()]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    tombstones.sort_by(|a, b| a.start.cmp(&b.start));
    let (mut pieces, mut open, mut next) =
        (Vec::new(), Vec::<RangeTombstone>::new(), tombstones.into_iter().peekable());
    for pair in bounds.windows(2) {
        let (start, end) = (&pair[0], &pair[1]);
        open.retain(|one| one.end > *start);
        while let Some(one) = next.next_if(|one| one.start <= *start) {
            open.push(one);
        }
        pieces.extend(open.iter().map(|one| RangeTombstone { start: start.clone(), end: end.clone(), ..*one }));
    }
    pieces.sort_by(|a, b| a.order().cmp(&b.order()));
    pieces.dedup();
    pieces
}
