//! What the operations of a batch leave behind, if one of them deletes a range: what it covers of those before goes.

use std::collections::BTreeMap;

use super::{Batch, Op, Ops};
use crate::base::range_set::RangeSet;

/// The operations of a batch that have an effect (`table/RULES.md`, 11).
#[derive(Clone, Debug)]
pub(crate) struct Effective<'a> {
    ops: Ops<'a>,
    next: usize,
    /// For each of the first operations, whether a later one leaves nothing of it. Empty in all batches but a few.
    hidden: Vec<bool>,
}

impl<'a> Effective<'a> {
    pub(super) fn new(batch: &Batch<'a>) -> Self {
        Effective { ops: batch.iter(), next: 0, hidden: if batch.has_ranges() { hidden(batch) } else { Vec::new() } }
    }
}

impl<'a> Iterator for Effective<'a> {
    type Item = Op<'a>;

    #[inline]
    fn next(&mut self) -> Option<Op<'a>> {
        loop {
            let op = self.ops.next()?;
            self.next += 1;
            if !self.hidden.get(self.next - 1).is_some_and(|is_hidden| *is_hidden) {
                return Some(op);
            }
        }
    }
}

/// From the last operation to the first, since each is covered by those behind it.
fn hidden(batch: &Batch<'_>) -> Vec<bool> {
    let is_range = |op: &Op<'_>| matches!(op, Op::DeleteRange { .. });
    let count = batch.iter().enumerate().filter(|(_, op)| is_range(op)).last().map_or(0, |(last, _)| last + 1);
    // A transaction has its ranges first: nothing of it is hidden, and nothing is gathered.
    if !batch.iter().take(count).any(|op| op.key().is_some()) {
        return Vec::new();
    }
    let ops: Vec<_> = batch.iter().take(count).collect();
    let mut covered = BTreeMap::<u32, RangeSet<&[u8]>>::new();
    let mut hidden = vec![false; count];
    for (op, hidden) in ops.iter().zip(&mut hidden).rev() {
        match *op {
            Op::DeleteRange { keyspace, from, to } => {
                covered.entry(keyspace).or_default().insert(from, to, |_, _| ());
            }
            _ => *hidden = op.key().is_some_and(|key| covered.get(&op.keyspace()).is_some_and(|set| set.has(key))),
        }
    }
    hidden
}
