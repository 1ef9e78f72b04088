//! Partitions: the index of up to 64 data blocks, with their filter (TABLES.md, section 2.3).

use std::cmp::Ordering;

use super::super::Refusal;
use super::block::{Block, BlockKind, BlockRef, Indexed, is_padding};
use super::data::Interval;
use super::filter::{self, LINE};
use super::reader::{Reader, put_shared, put_varint};

/// A partition has at most so many data blocks.
pub(crate) const MOST_BLOCKS: usize = 64;
/// The least bytes of a data block in a partition: shared, rest, length, CRC. A separator may be the one before.
const LEAST: usize = 7;

/// Builds the content of a partition.
#[derive(Debug)]
pub(crate) struct PartitionBuilder {
    bits_per_key: usize,
    first: u64,
    blocks: Vec<u8>,
    count: u32,
    last: Vec<u8>,
    hashes: Vec<u64>,
}

impl PartitionBuilder {
    /// Of a partition of a run with this interval.
    pub(crate) fn new(interval: Interval) -> Self {
        PartitionBuilder::with(filter::bits_per_key(interval))
    }

    fn with(bits_per_key: usize) -> Self {
        let (first, blocks, count, last, hashes) = Default::default();
        PartitionBuilder { bits_per_key, first, blocks, count, last, hashes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count as usize == MOST_BLOCKS
    }

    /// Notes a full key of the next data block, once for all its versions.
    pub(crate) fn add_key(&mut self, full_key: &[u8]) {
        self.hashes.push(filter::hash(full_key));
    }

    /// Adds the data block that ends with the full key `separator`.
    pub(crate) fn add_block(&mut self, separator: &[u8], block: BlockRef) {
        if self.is_empty() {
            self.first = block.position;
        }
        put_shared(&mut self.blocks, &mut self.last, separator);
        put_varint(&mut self.blocks, u64::from(block.length));
        self.blocks.extend_from_slice(&block.crc.to_le_bytes());
        self.count += 1;
    }

    /// The last full key in it.
    pub(crate) fn last_separator(&self) -> &[u8] {
        &self.last
    }

    /// The kind and count for the block's header, and its content. The builder is empty then.
    pub(crate) fn finish(&mut self) -> ((BlockKind, u32), Vec<u8>) {
        let next = PartitionBuilder::with(self.bits_per_key);
        let PartitionBuilder { bits_per_key, first, blocks, count, hashes, .. } = std::mem::replace(self, next);
        let filter = filter::build(&hashes, bits_per_key);
        let lines = u32::try_from(filter.len() / LINE).expect("64 blocks have few keys");
        let head = first.to_le_bytes().into_iter().chain(lines.to_le_bytes()).chain([0; 4]);
        ((BlockKind::Partition, count), head.chain(filter).chain(blocks).collect())
    }
}

/// A partition that was checked against its parent. The filter is asked before the separators are decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition<'a> {
    filter: &'a [u8],
    count: usize,
    first: u64,
    end: u64,
    blocks: Reader<'a>,
}

impl<'a> Partition<'a> {
    /// `position` is where the partition itself begins, and its data blocks end.
    pub(crate) fn new(block: Block<'a>, position: u64) -> Result<Self, Refusal> {
        let read = || {
            let mut reader = Reader::new(block.content);
            let (first, lines) = (reader.u64()?, reader.u32()? as usize);
            reader.zeros(4)?;
            let filter = reader.bytes(lines.checked_mul(LINE)?).filter(|filter| !filter.is_empty())?;
            let count = block.count as usize;
            let fits = (1..=MOST_BLOCKS).contains(&count) && reader.rest().len() >= count * LEAST;
            fits.then_some(Partition { filter, count, first, end: position, blocks: reader })
        };
        read().ok_or(Refusal::Impossible)
    }

    /// Whether the partition may have versions of the full key with this hash. `false` is certain.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        filter::may_contain(self.filter, hash)
    }

    /// The filter, for one who keeps it: whole lines, at least one.
    pub(crate) fn filter(&self) -> &'a [u8] {
        self.filter
    }

    /// The data blocks, in the order of their keys.
    pub(crate) fn blocks(&self) -> Result<Vec<Indexed>, Refusal> {
        self.read().ok_or(Refusal::Impossible)
    }

    fn read(&self) -> Option<Vec<Indexed>> {
        let (mut reader, mut separator, mut position) = (self.blocks, Vec::new(), self.first);
        let mut blocks = Vec::with_capacity(self.count);
        for number in 0..self.count {
            let order = reader.shared(&mut separator)?;
            let length = u32::try_from(reader.varint()?).ok()?;
            let block = BlockRef { position, length, crc: reader.u32()? };
            // Its separator stands in it.
            let has_it = separator.len() <= block.length as usize;
            if !has_it || !block.lies_in(position, self.end) || (number > 0 && order == Ordering::Greater) {
                return None;
            }
            position = block.end()?;
            blocks.push(Indexed { separator: separator.clone(), block });
        }
        (position == self.end && is_padding(reader.rest())).then_some(blocks)
    }
}
