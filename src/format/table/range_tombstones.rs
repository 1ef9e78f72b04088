//! Range tombstones of a run, fragmented: two ranges are equal or disjoint (TABLES.md, section 2.3).

use std::cmp::Reverse;

use super::super::{Refusal, WORD};
use super::block::{Block, BlockKind, is_padding};
use super::data::Interval;
use super::reader::{Reader, put_field, put_varint};
use super::{ID_LEN, ends_within};
use crate::base::types::Lsn;

const DELETED: u8 = 0;
const LOST: u8 = 1;
/// The least bytes of one: two lengths, the id of a keyspace twice, age, form.
const LEAST: usize = 12;

/// What a range tombstone says of the full keys in its range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Says {
    /// Versions with a lower LSN are deleted.
    Deleted,
    /// What they had above this LSN, up to the tombstone's own, could not be read.
    LostAbove(Lsn),
}

/// One range tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RangeTombstone {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
    pub(crate) lsn: Lsn,
    pub(crate) says: Says,
}

impl RangeTombstone {
    /// The order in the file: by range, the newest first, a deletion before a loss.
    pub(crate) fn order(&self) -> impl Ord + '_ {
        (&self.start, &self.end, Reverse(self.lsn), self.says)
    }
}

/// The kind and count for the block's header, and the content. They are in order and fragmented.
pub(crate) fn build(tombstones: &[RangeTombstone], interval: Interval) -> ((BlockKind, u32), Vec<u8>) {
    debug_assert!(tombstones.is_sorted_by(|a, b| a.order() < b.order()));
    let mut content = Vec::new();
    for tombstone in tombstones {
        put_field(&mut content, &tombstone.start);
        put_field(&mut content, &tombstone.end);
        put_varint(&mut content, interval.age(tombstone.lsn));
        match tombstone.says {
            Says::Deleted => content.push(DELETED),
            Says::LostAbove(above) => {
                content.push(LOST);
                put_varint(&mut content, (tombstone.lsn.get() - above.get()) / WORD);
            }
        }
    }
    let count = u32::try_from(tombstones.len()).expect("a block is far below 4 GiB");
    ((BlockKind::RangeTombstones, count), content)
}

/// Reads the block of a run with this interval and the range `[low, high)`.
pub(crate) fn read(
    block: Block<'_>,
    interval: Interval,
    (low, high): (&[u8], &[u8]),
) -> Result<Vec<RangeTombstone>, Refusal> {
    let count = block.count as usize;
    let mut reader = Reader::new(block.content);
    let fits = count > 0 && count.checked_mul(LEAST).is_some_and(|least| least <= block.content.len());
    let all: Option<Vec<_>> = (0..if fits { count } else { 0 }).map(|_| read_one(&mut reader, interval)).collect();
    let are_in_range = |all: &[RangeTombstone]| {
        all.iter().all(|one| one.start.as_slice() >= low && ends_within(&one.end, high))
            && all.windows(2).all(|pair| may_follow(&pair[0], &pair[1]))
    };
    match all {
        Some(all) if fits && are_in_range(&all) && is_padding(reader.rest()) => Ok(all),
        _ => Err(Refusal::Impossible),
    }
}

fn read_one(reader: &mut Reader<'_>, interval: Interval) -> Option<RangeTombstone> {
    let (start, end) = (reader.bound()?.to_vec(), reader.bound()?.to_vec());
    let lsn = interval.lsn(reader.varint()?)?;
    let says = match reader.u8()? {
        DELETED => Says::Deleted,
        LOST => {
            let depth = reader.varint()?.checked_mul(WORD).filter(|depth| *depth > 0)?;
            let above = Lsn::new(lsn.get().checked_sub(depth)?);
            (above >= interval.from).then_some(Says::LostAbove(above))?
        }
        _ => return None,
    };
    (start < end && are_of_one_keyspace(&start, &end)).then_some(RangeTombstone { start, end, lsn, says })
}

/// Whether `start` and every full key below `end` are of one keyspace.
fn are_of_one_keyspace(start: &[u8], end: &[u8]) -> bool {
    // A bound, which may be one byte longer than a full key.
    let Some(id) = start.first_chunk::<ID_LEN>() else { return false };
    let next = u32::from_be_bytes(*id).checked_add(1);
    next.is_some_and(|next| end.starts_with(id) || end == next.to_be_bytes())
}

fn may_follow(first: &RangeTombstone, second: &RangeTombstone) -> bool {
    let are_equal = (&first.start, &first.end) == (&second.start, &second.end);
    first.order() < second.order() && (are_equal || first.end <= second.start)
}
