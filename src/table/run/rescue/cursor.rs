//! The entries of a damaged run that are whole, one after the other.

use std::sync::Arc;

use super::{Bad, Blocks, Remains, Step};
use crate::base::error::Result;
use crate::format::table::block::{BLOCK_HEADER, Block};
use crate::format::table::data::{DataBlock, Found, Place};
use crate::table::merge::Source;

/// The entries that are whole. It stands before the first one.
#[derive(Debug)]
pub(crate) struct RemainsCursor {
    blocks: Blocks,
    /// What was found to be bad before. Nothing else may be left out.
    bad: Vec<Bad>,
    present: Option<(Vec<u8>, u32)>,
    place: Place,
}

impl RemainsCursor {
    /// `bad` is that of the survey.
    pub(crate) fn new(run: Arc<Remains>, bad: Vec<Bad>) -> Self {
        RemainsCursor { blocks: Blocks::new(run), bad, present: None, place: Place::default() }
    }

    fn block<'b>(&self, bytes: &'b [u8], count: u32) -> DataBlock<'b> {
        let block = Block { count, content: &bytes[BLOCK_HEADER..] };
        DataBlock::new(block, self.blocks.run.header.interval).expect("it was checked")
    }
}

impl Source for RemainsCursor {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some((bytes, count)) = &self.present {
                let block = self.block(bytes, *count);
                let run = &self.blocks.run;
                if self.place.advance(&block).map_err(|refusal| run.refused(refusal, 0))? {
                    return Ok(true);
                }
                self.present = None;
            }
            match self.blocks.next() {
                None => return Ok(false),
                Some(Step::Data(data)) => {
                    (self.present, self.place) = (Some((data.bytes, data.count)), Place::default());
                }
                Some(Step::Fault(_)) => {}
                Some(Step::Bad(bad)) => {
                    if !self.bad.iter().any(|known| known.range.contains(&bad.range)) {
                        return Err(bad.error);
                    }
                }
            }
        }
    }

    fn key(&self) -> &[u8] {
        self.place.key()
    }

    fn version(&self) -> Found<'_> {
        let (bytes, count) = self.present.as_ref().expect("on an entry");
        self.place.version(&self.block(bytes, *count))
    }
}
