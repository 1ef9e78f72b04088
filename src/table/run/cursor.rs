//! The entries of a run, one after the other, for merges and loads: each block is read once.

use std::sync::Arc;
use std::vec::IntoIter;

use super::read::{Order, Run};
use crate::base::error::Result;
use crate::format::Refusal;
use crate::format::table::block::{BLOCK_HEADER, Block};
use crate::format::table::data::{Found, Place};
use crate::format::table::partition::Indexed;

/// A cursor over a run. It stands before the first entry.
#[derive(Debug)]
pub(crate) struct RunCursor {
    run: Arc<Run>,
    /// The number of the next partition.
    next: usize,
    /// What is left of the present one.
    blocks: IntoIter<Indexed>,
    present: Option<Present>,
    order: Order,
}

/// The block that the cursor is in. It was checked against its parent.
#[derive(Debug)]
struct Present {
    indexed: Indexed,
    bytes: Vec<u8>,
    count: u32,
    place: Place,
}

impl Present {
    fn block(&self) -> Block<'_> {
        Block { count: self.count, content: &self.bytes[BLOCK_HEADER..] }
    }
}

impl RunCursor {
    pub(crate) fn new(run: Arc<Run>) -> Self {
        RunCursor { run, next: 0, blocks: Vec::new().into_iter(), present: None, order: Order::default() }
    }

    /// The full key of the present entry.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn key(&self) -> &[u8] {
        self.present.as_ref().expect("on an entry").place.key()
    }

    /// The version of the present entry.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn version(&self) -> Found<'_> {
        let present = self.present.as_ref().expect("on an entry");
        let block = self.run.checked_data(present.block()).expect("it was opened before");
        present.place.version(&block)
    }

    /// Goes to the next entry; `false` if there is none.
    ///
    /// # Errors
    /// As [`Run::open`]. Then the cursor is of no use.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(present) = &mut self.present {
                let at = present.indexed.block.position;
                let block = Block { count: present.count, content: &present.bytes[BLOCK_HEADER..] };
                let moved = self.run.checked_data(block).and_then(|block| {
                    let moved = present.place.advance(&block)?;
                    Ok(moved.then(|| present.place.version(&block).lsn))
                });
                match moved.map_err(|refusal| self.run.refused(refusal, at))? {
                    Some(lsn) => {
                        let key = present.place.key();
                        if !self.order.goes_on_with(key, lsn) || !self.run.has_in_range(key) {
                            return Err(self.run.refused(Refusal::Impossible, at));
                        }
                        self.order.take(key, lsn);
                        return Ok(true);
                    }
                    None if self.order.key != present.indexed.separator => return Err(self.run.bad(at)),
                    None => self.present = None,
                }
            }
            if !self.open_next()? {
                return Ok(false);
            }
        }
    }

    /// Reads the next block; `false` if there is none.
    fn open_next(&mut self) -> Result<bool> {
        while self.blocks.len() == 0 {
            let Some(partition) = self.run.root.partitions.get(self.next) else { return Ok(false) };
            let bytes = self.run.read_block(partition.block)?;
            self.blocks = self.run.partition(self.next, &bytes)?.1.into_iter();
            self.next += 1;
        }
        let indexed = self.blocks.next().expect("there is one");
        let bytes = self.run.read_block(indexed.block)?;
        let count = self.run.data(indexed.block, &bytes)?.count();
        self.present = Some(Present { indexed, bytes, count, place: Place::default() });
        Ok(true)
    }
}
