//! The entries of a damaged run that are whole, one after the other.

use std::sync::Arc;

use super::{Bad, Blocks, Remains, Step};
use crate::base::error::{Error, Result};
use crate::format::table::block::{BLOCK_HEADER, Block};
use crate::format::table::data::{DataBlock, Found, Place};
use crate::format::table::is_below;
use crate::table::merge::Source;

/// The entries that are whole. It stands before the first one.
#[derive(Debug)]
pub(crate) struct RemainsCursor {
    blocks: Blocks,
    /// What was found to be bad before. Nothing else may be left out.
    bad: Vec<Bad>,
    present: Option<(Vec<u8>, u32)>,
    place: Place,
    /// Up to where the last bad part went that was met.
    passed: Option<Vec<u8>>,
    /// A part that was bad before, and that can be read again.
    recovered: Option<Error>,
}

impl RemainsCursor {
    /// `bad` is that of the survey.
    pub(crate) fn new(run: Arc<Remains>, bad: Vec<Bad>) -> Self {
        RemainsCursor {
            blocks: Blocks::new(run),
            bad,
            present: None,
            place: Place::default(),
            passed: None,
            recovered: None,
        }
    }

    /// Why something was bad before, if it can be read again by now.
    pub(in crate::table) fn recovered(&self) -> Option<&Error> {
        self.recovered.as_ref()
    }

    /// Why the block that begins or ends with this key was bad, if it was: versions of the last key of a bad block may go on in
    /// the next one.
    fn is_back(&self, key: &[u8]) -> Option<Error> {
        let goes_on = self.passed.as_ref().is_some_and(|high| is_below(key, high));
        let known = self.bad.iter().find(|bad| bad.range.low.as_slice() <= key && is_below(key, &bad.range.high));
        known.filter(|_| !goes_on).map(|bad| bad.error.clone())
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
                    if self.recovered.is_none() {
                        self.recovered = self.is_back(&data.first).or_else(|| self.is_back(&data.last));
                    }
                    (self.present, self.place) = (Some((data.bytes, data.count)), Place::default());
                }
                Some(Step::Fault(_)) => {}
                Some(Step::Bad(bad)) => {
                    if !self.bad.iter().any(|known| known.covers(&bad)) {
                        return Err(bad.error);
                    }
                    self.passed = Some(bad.range.high);
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
