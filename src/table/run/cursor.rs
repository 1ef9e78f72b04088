//! The entries of a run, one after the other, for merges and loads: each block is read once.

use std::sync::Arc;
use std::vec::IntoIter;

use super::read::{Order, Run};
use crate::base::error::Result;
use crate::format::table::block::{BLOCK_HEADER, Block, Indexed};
use crate::format::table::data::{DataBlock, Found, Place};
use crate::table::merge::Source;

/// A cursor over a run, from a bound on. It stands before the first entry.
#[derive(Debug)]
pub(crate) struct RunCursor {
    run: Arc<Run>,
    /// What lies below is not given out, and read only where it shares a block with what does not.
    from: Vec<u8>,
    /// The number of the next partition.
    next: usize,
    /// What is left of the present one.
    blocks: IntoIter<Indexed>,
    present: Option<Present>,
    /// In the present block.
    place: Place,
    order: Order,
}

/// The block that the cursor is in. It was checked against its parent.
#[derive(Debug)]
struct Present {
    indexed: Indexed,
    bytes: Vec<u8>,
    count: u32,
}

impl Present {
    fn block(&self, run: &Run) -> DataBlock<'_> {
        let block = Block { count: self.count, content: &self.bytes[BLOCK_HEADER..] };
        run.checked_data(block).expect("it was opened before")
    }
}

impl RunCursor {
    /// Over the entries of `run` at or above `from`.
    pub(crate) fn new(run: Arc<Run>, from: &[u8]) -> Self {
        let (present, place, order) = Default::default();
        let next = run.root.partitions.partition_point(|partition| partition.separator.as_slice() < from);
        RunCursor { run, from: from.to_vec(), next, blocks: Vec::new().into_iter(), present, place, order }
    }

    /// Reads the next block; `false` if there is none.
    fn open_next(&mut self) -> Result<bool> {
        while self.blocks.len() == 0 {
            let Some(partition) = self.run.root.partitions.get(self.next) else { return Ok(false) };
            let bytes = self.run.read_block(partition.block)?;
            let mut blocks = self.run.partition(self.next, &bytes)?.1;
            blocks.drain(..blocks.partition_point(|block| block.separator < self.from));
            self.blocks = blocks.into_iter();
            self.next += 1;
        }
        let indexed = self.blocks.next().expect("there is one");
        let bytes = self.run.read_block(indexed.block)?;
        let count = self.run.data(indexed.block, &bytes)?.count();
        self.present = Some(Present { indexed, bytes, count });
        self.place = Place::default();
        Ok(true)
    }
}

impl Source for RunCursor {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(present) = &self.present {
                let (block, at) = (present.block(&self.run), present.indexed.block.position);
                if self.place.advance(&block).map_err(|refusal| self.run.refused(refusal, at))? {
                    let (key, lsn) = (self.place.key(), self.place.version(&block).lsn);
                    if !self.run.may_follow(&self.order, key, lsn) {
                        return Err(self.run.bad(at));
                    }
                    self.order.take(key, lsn);
                    if key < self.from.as_slice() {
                        continue;
                    }
                    return Ok(true);
                }
                if self.order.key != present.indexed.separator {
                    return Err(self.run.bad(at));
                }
                self.present = None;
            }
            if !self.open_next()? {
                return Ok(false);
            }
        }
    }

    fn key(&self) -> &[u8] {
        self.place.key()
    }

    fn version(&self) -> Found<'_> {
        let present = self.present.as_ref().expect("on an entry");
        self.place.version(&present.block(&self.run))
    }
}
