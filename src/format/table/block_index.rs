//! The data blocks of a partition as they are kept in memory: many partitions are, and each byte of them leads to a hundred of data.

use std::ops::Range;

use super::block::{BlockRef, Indexed};
use crate::base::search::first_not;

/// The data blocks of a partition, in the order of their keys. They follow one another in the file.
#[derive(Debug)]
pub(crate) struct BlockIndex {
    /// Where the first block is.
    begin: u64,
    /// The separators, one after the other.
    separators: Box<[u8]>,
    blocks: Box<[Short]>,
}

#[derive(Debug)]
struct Short {
    /// Where its separator ends among them.
    end: u32,
    length: u32,
    crc: u32,
}

impl BlockIndex {
    /// Of blocks that follow one another, as those of a partition do.
    pub(crate) fn of(blocks: &[Indexed]) -> Self {
        let separators: Box<[u8]> = blocks.iter().flat_map(|block| &block.separator).copied().collect();
        let mut end = 0;
        let short = blocks.iter().map(|Indexed { separator, block }| {
            end += separator.len();
            Short { end: u32::try_from(end).expect("64 keys"), length: block.length, crc: block.crc }
        });
        let begin = blocks.first().map_or(0, |first| first.block.position);
        BlockIndex { begin, blocks: short.collect(), separators }
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The last full key in the block with this number.
    pub(crate) fn separator(&self, number: usize) -> &[u8] {
        let begin = number.checked_sub(1).map_or(0, |before| self.blocks[before].end);
        &self.separators[begin as usize..self.blocks[number].end as usize]
    }

    pub(crate) fn block(&self, number: usize) -> BlockRef {
        let before: u64 = self.blocks[..number].iter().map(|block| u64::from(block.length)).sum();
        let Short { length, crc, .. } = self.blocks[number];
        BlockRef { position: self.begin + before, length, crc }
    }

    /// The first block whose separator is at or above `bound`; their number if there is none.
    pub(crate) fn first_at(&self, bound: &[u8]) -> usize {
        first_not(0..self.len(), |number| self.separator(number) < bound)
    }

    /// The data blocks that may have versions of `full_key`: the first whose separator is at or above it, and those behind while
    /// the separator equals it.
    pub(crate) fn candidates(&self, full_key: &[u8]) -> Range<usize> {
        let first = self.first_at(full_key);
        let equal = (first..self.len()).take_while(|number| self.separator(*number) == full_key).count();
        first..self.len().min(first + equal + 1)
    }

    /// The bytes that it takes beside itself.
    pub(crate) fn memory(&self) -> usize {
        self.separators.len() + size_of_val(&*self.blocks)
    }
}
