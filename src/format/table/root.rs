//! The root of a run: its bounds and its partitions (TABLES.md, section 2.3).

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::super::Refusal;
use super::block::{Block, BlockKind, BlockRef, Indexed, is_padding};
use super::reader::{Reader, put_field, put_shared, put_varint};
use super::{ID_LEN, MAX_NUMBER, ends_within, is_below};

/// The least bytes of a partition in a root, whose separator may be the one before, and of a witness.
const LEAST_PARTITION: usize = 18;
const LEAST_WITNESS: usize = 18;

/// A range of full keys. The end is excluded; an empty one is above every key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Range {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Vec<u8>,
}

impl Range {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Range { low: reader.bound()?.to_vec(), high: reader.bound()?.to_vec() })
    }

    fn put(&self, content: &mut Vec<u8>) {
        put_field(content, &self.low);
        put_field(content, &self.high);
    }

    fn is_possible(&self) -> bool {
        is_below(&self.low, &self.high)
    }

    pub(crate) fn contains(&self, other: &Range) -> bool {
        self.low <= other.low && ends_within(&other.high, &self.high)
    }

    /// The keyspaces of which it may have keys.
    pub(crate) fn ids(&self) -> RangeInclusive<u32> {
        let id = |bound: &[u8]| {
            let mut id = [0; ID_LEN];
            id.iter_mut().zip(bound).for_each(|(to, from)| *to = *from);
            u32::from_be_bytes(id)
        };
        let (low, high) = (id(&self.low), if self.high.is_empty() { u32::MAX } else { id(&self.high) });
        low..=high.max(low)
    }

    /// The part that both have; `None` if there is none.
    pub(crate) fn part_in(&self, other: &Range) -> Option<Range> {
        let low = (&self.low).max(&other.low).clone();
        let high = if ends_within(&self.high, &other.high) { &self.high } else { &other.high }.clone();
        is_below(&low, &high).then_some(Range { low, high })
    }
}

/// A run that a merge took over as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Witness {
    pub(crate) number: u64,
    pub(crate) nonce: u64,
    pub(crate) range: Range,
}

/// The content of the root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Root {
    /// Where entries and range tombstones are.
    pub(crate) range: Range,
    /// For what the run has everything of its interval. Only a salvage asks.
    pub(crate) reach: Range,
    pub(crate) partitions: Vec<Indexed>,
    /// Taken over since the run before.
    pub(crate) witnesses: Vec<Witness>,
}

impl Root {
    /// The kind and count for the block's header, and the content.
    pub(crate) fn to_content(&self) -> ((BlockKind, u32), Vec<u8>) {
        let mut content = Vec::new();
        self.range.put(&mut content);
        self.reach.put(&mut content);
        let mut last = Vec::new();
        for partition in &self.partitions {
            put_shared(&mut content, &mut last, &partition.separator);
            content.extend_from_slice(&partition.block.position.to_le_bytes());
            content.extend_from_slice(&partition.block.length.to_le_bytes());
            content.extend_from_slice(&partition.block.crc.to_le_bytes());
        }
        put_varint(&mut content, self.witnesses.len() as u64);
        for witness in &self.witnesses {
            content.extend_from_slice(&witness.number.to_le_bytes());
            content.extend_from_slice(&witness.nonce.to_le_bytes());
            witness.range.put(&mut content);
        }
        let count = u32::try_from(self.partitions.len()).expect("a run is far below 4 GiB");
        ((BlockKind::Root, count), content)
    }

    /// Reads the root of a run whose blocks before the range tombstones end at `end`.
    pub(crate) fn read(block: Block<'_>, begin: u64, end: u64) -> Result<Self, Refusal> {
        let mut reader = Reader::new(block.content);
        let root = read_root(&mut reader, block.count as usize, begin, end);
        match root {
            Some(root) if root.is_consistent() && is_padding(reader.rest()) => Ok(root),
            _ => Err(Refusal::Impossible),
        }
    }

    fn is_consistent(&self) -> bool {
        self.range.is_possible() && self.reach.is_possible() && self.reach.contains(&self.range)
    }
}

/// The blocks before the range tombstones lie from `begin` to `end`.
fn read_root(reader: &mut Reader<'_>, count: usize, begin: u64, end: u64) -> Option<Root> {
    let (range, reach) = (Range::read(reader)?, Range::read(reader)?);
    let mut separator = Vec::new();
    if count.checked_mul(LEAST_PARTITION)? > reader.rest().len() {
        return None;
    }
    let mut partitions = Vec::with_capacity(count);
    let mut position = begin;
    for number in 0..count {
        let order = reader.shared(&mut separator)?;
        if number > 0 && order == Ordering::Greater {
            return None;
        }
        let block = BlockRef { position: reader.u64()?, length: reader.u32()?, crc: reader.u32()? };
        // Its data blocks stand in front of it, and have its separator. Looked at before that is copied: a root of a few
        // bytes a partition must not ask for more than there is of the file.
        let has_it = block.position.checked_sub(position).is_some_and(|blocks| separator.len() as u64 <= blocks);
        let lies = block.lies_in(position.checked_add(1)?, end);
        if !has_it || !lies || separator < range.low || !is_below(&separator, &range.high) {
            return None;
        }
        position = block.end()?;
        partitions.push(Indexed { separator: separator.clone(), block });
    }
    if position != end {
        return None;
    }
    let witnesses = reader.length()?;
    if witnesses.checked_mul(LEAST_WITNESS)? > reader.rest().len() {
        return None;
    }
    let mut witness = || {
        let (number, nonce) = (reader.u64()?, reader.u64()?);
        let range = Range::read(reader)?;
        let is_possible = (1..=MAX_NUMBER).contains(&number) && nonce != 0 && range.is_possible();
        is_possible.then_some(Witness { number, nonce, range })
    };
    let witnesses = (0..witnesses).map(|_| witness()).collect::<Option<_>>()?;
    Some(Root { range, reach, partitions, witnesses })
}
