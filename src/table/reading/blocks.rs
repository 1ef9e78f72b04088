//! The data blocks of a run, one after the other in either direction, each checked against its parent.

use std::sync::Arc;

use super::installed::Caches;
use super::partitions::Partition;
use crate::base::error::Result;
use crate::format::table::block::BlockRef;
use crate::format::table::data::DataBlock;
use crate::index::Direction;
use crate::table::run::read::Run;

/// A walk that has read so many blocks reads its neighbours together from then on.
const ALONE: usize = 4;
/// Read together, at most.
const TOGETHER: u64 = 64 << 10;

/// A place among the blocks of a run, and the bytes there.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) run: Arc<Run>,
    caches: Arc<Caches>,
    /// The number of the run's file.
    file: u64,
    direction: Direction,
    /// The number of the present partition, and that of the present block in it.
    place: (usize, usize),
    partition: Arc<Partition>,
    /// Where the present block is.
    present: BlockRef,
    /// Blocks that were read.
    read: usize,
    /// Bytes of the file from a position on.
    bytes: Vec<u8>,
    begin: u64,
}

impl Blocks {
    /// At the first block that may have something at or above `bound`; `None` if none has.
    pub(super) fn at_or_above(
        (file, run): (u64, &Arc<Run>),
        caches: &Arc<Caches>,
        bound: &[u8],
        direction: Direction,
    ) -> Result<Option<Self>> {
        let number = run.partition_at(bound);
        if number == run.root.partitions.len() {
            return Ok(None);
        }
        let partition = caches.partitions.get(file, run, number, true)?;
        let block = partition.blocks.first_at(bound);
        let place = (number, block.min(partition.blocks.len() - 1));
        Ok(Some(Blocks::new((file, run), caches, direction, place, partition)))
    }

    /// At the last one; `None` if there is none.
    pub(super) fn last(
        (file, run): (u64, &Arc<Run>),
        caches: &Arc<Caches>,
        direction: Direction,
    ) -> Result<Option<Self>> {
        let Some(number) = run.root.partitions.len().checked_sub(1) else { return Ok(None) };
        let partition = caches.partitions.get(file, run, number, true)?;
        let place = (number, partition.blocks.len() - 1);
        Ok(Some(Blocks::new((file, run), caches, direction, place, partition)))
    }

    fn new(
        (file, run): (u64, &Arc<Run>),
        caches: &Arc<Caches>,
        direction: Direction,
        place: (usize, usize),
        partition: Arc<Partition>,
    ) -> Self {
        let (run, caches, present) = (Arc::clone(run), Arc::clone(caches), partition.blocks.block(place.1));
        Blocks { run, caches, file, direction, place, partition, present, read: 0, bytes: Vec::new(), begin: 0 }
    }

    /// Goes to the next block in its direction; `false` if there is none.
    pub(super) fn step(&mut self) -> Result<bool> {
        let (number, block) = self.place;
        let next = match self.direction {
            Direction::Forward if block + 1 < self.partition.blocks.len() => Some(block + 1),
            Direction::Backward if block > 0 => Some(block - 1),
            _ => None,
        };
        if let Some(block) = next {
            self.place.1 = block;
            self.present = self.partition.blocks.block(block);
            return Ok(true);
        }
        let number = match self.direction {
            Direction::Forward => Some(number + 1).filter(|next| *next < self.run.root.partitions.len()),
            Direction::Backward => number.checked_sub(1),
        };
        let Some(number) = number else { return Ok(false) };
        // The walk is a long one, and asks for each once.
        self.partition = self.caches.partitions.get(self.file, &self.run, number, false)?;
        let last = self.partition.blocks.len() - 1;
        self.place = (number, if self.direction == Direction::Forward { 0 } else { last });
        self.present = self.partition.blocks.block(self.place.1);
        Ok(true)
    }

    /// The last full key of the present block.
    pub(super) fn separator(&self) -> &[u8] {
        self.partition.blocks.separator(self.place.1)
    }

    /// The last full key before the present block.
    pub(super) fn separator_before(&self) -> Option<&[u8]> {
        let (number, block) = self.place;
        match (block.checked_sub(1), number.checked_sub(1)) {
            (Some(block), _) => Some(self.partition.blocks.separator(block)),
            (None, Some(number)) => Some(&self.run.root.partitions[number].separator),
            (None, None) => None,
        }
    }

    /// Where in the file the present block is.
    pub(super) fn position(&self) -> u64 {
        self.present.position
    }

    /// Reads the bytes of the present block.
    pub(super) fn read(&mut self) -> Result<()> {
        let BlockRef { position, length, .. } = self.present;
        self.read += 1;
        let end = self.begin + self.bytes.len() as u64;
        if self.begin <= position && position + u64::from(length) <= end && !self.bytes.is_empty() {
            return Ok(());
        }
        let (begin, end) = self.neighbours();
        // A read that fails leaves nothing that could be taken for the bytes of a block.
        self.begin = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(usize::try_from(end - begin).expect("a block, or a few"), 0);
        self.run.read_into(&mut bytes, begin)?;
        (self.bytes, self.begin) = (bytes, begin);
        Ok(())
    }

    /// From where to where to read: the present block, and once the walk goes on for long those of its partition behind it.
    fn neighbours(&self) -> (u64, u64) {
        let blocks = &self.partition.blocks;
        let BlockRef { position, length, .. } = self.present;
        let (mut begin, mut end) = (position, position + u64::from(length));
        if self.read <= ALONE {
            return (begin, end);
        }
        match self.direction {
            Direction::Forward => {
                for BlockRef { position, length, .. } in
                    (self.place.1 + 1..blocks.len()).map(|number| blocks.block(number))
                {
                    let reached = position + u64::from(length);
                    if reached - begin > TOGETHER {
                        break;
                    }
                    end = reached;
                }
            }
            Direction::Backward => {
                for BlockRef { position, .. } in (0..self.place.1).rev().map(|number| blocks.block(number)) {
                    if end - position > TOGETHER {
                        break;
                    }
                    begin = position;
                }
            }
        }
        (begin, end)
    }

    /// The present block, which was read, once it is checked.
    pub(super) fn data(&self) -> Result<DataBlock<'_>> {
        self.run.data(self.present, self.block_bytes())
    }

    /// The bytes of the present block, which was read.
    pub(super) fn block_bytes(&self) -> &[u8] {
        let BlockRef { position, length, .. } = self.present;
        let begin = usize::try_from(position - self.begin).expect("in memory");
        &self.bytes[begin..begin + length as usize]
    }
}
