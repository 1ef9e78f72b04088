//! A run as a reader at one LSN sees it, key by key in either direction: of each key the newest version at or below the LSN.

use std::cmp::Ordering;
use std::sync::Arc;

use super::blocks::Blocks;
use super::installed::Caches;
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::entries::{Edge, Entries};
use crate::index::Direction;
use crate::table::run::read::Run;

/// What a scan asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Full keys at or above this, and below `end`.
    pub(super) from: Vec<u8>,
    pub(super) end: Vec<u8>,
    pub(super) direction: Direction,
    pub(super) at: Lsn,
}

/// It stands before the first key.
#[derive(Debug)]
pub(super) struct RunScan {
    asked: Arc<Asked>,
    blocks: Blocks,
    /// What the present block has; and those of its entries that are still to come.
    entries: Entries,
    rest: std::ops::Range<usize>,
    present: Present,
    is_begun: bool,
    /// The end at which the last block and this one meet, as the last one has it.
    edge: Edge,
    /// Forward: the key at that edge was shown; its versions in the next block are older.
    edge_was_shown: bool,
}

/// Where the present version is.
#[derive(Debug)]
enum Present {
    None,
    /// In the present block: the number of its entry.
    Entry(usize),
    /// A copy, from a block behind the present one.
    Copied(Version),
}

#[derive(Debug)]
struct Version {
    key: Vec<u8>,
    lsn: Lsn,
    value: Option<Vec<u8>>,
}

impl RunScan {
    /// Over what is asked for in a run, the file of which has this number; `None` if there is nothing.
    ///
    /// # Errors
    /// The partition of the first block cannot be read.
    pub(super) fn new(file: u64, run: &Arc<Run>, caches: &Arc<Caches>, asked: &Arc<Asked>) -> Result<Option<Self>> {
        let Asked { from, end, direction, .. } = &**asked;
        let blocks = match direction {
            Direction::Forward => Blocks::at_or_above((file, run), caches, from, *direction)?,
            Direction::Backward => match Blocks::at_or_above((file, run), caches, end, *direction)? {
                None => Blocks::last((file, run), caches, *direction)?,
                blocks => blocks,
            },
        };
        Ok(blocks.map(|blocks| RunScan {
            asked: Arc::clone(asked),
            blocks,
            entries: Entries::default(),
            rest: 0..0,
            present: Present::None,
            is_begun: false,
            edge: Edge::default(),
            edge_was_shown: false,
        }))
    }

    /// Goes to the next key that has a version, or a tombstone; `false` if there is none.
    ///
    /// # Errors
    /// A block cannot be read, or is damaged. Then the scan has ended.
    pub(super) fn advance(&mut self) -> Result<bool> {
        loop {
            let next = match self.asked.direction {
                Direction::Forward => self.rest.next(),
                Direction::Backward => self.rest.next_back(),
            };
            if let Some(number) = next {
                self.present = Present::Entry(number);
                if self.asked.direction == Direction::Backward {
                    self.look_before(number)?;
                }
                return Ok(true);
            }
            if !self.open_next()? {
                self.present = Present::None;
                return Ok(false);
            }
        }
    }

    /// Opens the next block that may have something; `false` if there is none.
    fn open_next(&mut self) -> Result<bool> {
        if self.is_begun {
            let may_go_on = match self.asked.direction {
                Direction::Forward => *self.blocks.separator() < *self.asked.end,
                Direction::Backward => self.blocks.separator_before().is_some_and(|last| *last >= *self.asked.from),
            };
            if !may_go_on || !self.step()? {
                return Ok(false);
            }
        }
        self.open()?;
        self.is_begun = true;
        Ok(true)
    }

    fn step(&mut self) -> Result<bool> {
        let (edge, is_forward) = match self.asked.direction {
            Direction::Forward => (self.entries.last(), true),
            Direction::Backward => (self.entries.first(), false),
        };
        self.edge.clone_from(edge);
        let last = self.entries.len().checked_sub(1);
        self.edge_was_shown = is_forward && last.is_some_and(|last| *self.entries.key(last) == *self.edge.key);
        self.blocks.step()
    }

    /// Reads, checks and decodes the present block, and looks which of its entries are asked for.
    fn open(&mut self) -> Result<()> {
        let position = self.blocks.position();
        self.rest = 0..0;
        self.blocks.read()?;
        // Backward each block is needed from its begin, and so is each one behind the first.
        let is_first = self.asked.direction == Direction::Forward && !self.is_begun;
        let from = if is_first { self.asked.from.as_slice() } else { &[] };
        let decoded = self.entries.decode(&self.blocks.data()?, from, self.asked.at);
        let run = &self.blocks.run;
        decoded.map_err(|refusal| run.refused(refusal, position))?;
        let (first, last) = (self.entries.first(), self.entries.last());
        let is_in_range = run.has_key(&first.key) && run.has_key(&last.key);
        if !is_in_range || *last.key != *self.blocks.separator() || !self.joins(first, last) {
            return Err(run.bad(position));
        }
        let mut begin = self.entries.from(&self.asked.from);
        if self.edge_was_shown && self.entries.len() > begin && *self.entries.key(begin) == *self.edge.key {
            begin += 1;
        }
        let end = if *last.key < *self.asked.end { self.entries.len() } else { self.entries.from(&self.asked.end) };
        self.rest = begin..end.max(begin);
        Ok(())
    }

    /// Whether the order goes on from the block before, in the direction of the scan.
    fn joins(&self, first: &Edge, last: &Edge) -> bool {
        let is_behind = |low: &Edge, high: &Edge| match low.key.cmp(&high.key) {
            Ordering::Less => true,
            Ordering::Equal => low.lsn > high.lsn,
            Ordering::Greater => false,
        };
        match self.asked.direction {
            _ if !self.is_begun => true,
            Direction::Forward => is_behind(&self.edge, first),
            Direction::Backward => is_behind(last, &self.edge),
        }
    }

    /// Backward: the versions of a key may begin in a block before the present one, where they are newer.
    fn look_before(&mut self, mut number: usize) -> Result<()> {
        while self.entries.get(number).is_first && self.blocks.separator_before() == Some(self.entries.key(number)) {
            let key = self.entries.key(number).to_vec();
            let value = self.value_of(number).map(<[u8]>::to_vec);
            let version = Version { lsn: self.entries.get(number).lsn, key, value };
            self.step()?;
            self.open()?;
            let last = self.rest.clone().next_back();
            match last.filter(|last| *self.entries.key(*last) == *version.key) {
                Some(last) => {
                    self.rest.end = last;
                    self.present = Present::Entry(last);
                    number = last;
                }
                None => {
                    self.present = Present::Copied(version);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn value_of(&self, number: usize) -> Option<&[u8]> {
        let value = self.entries.get(number).value.clone();
        value.map(|value| &self.blocks.block_bytes()[value])
    }

    /// The full key of the present version. There must be one.
    pub(super) fn key(&self) -> &[u8] {
        match &self.present {
            Present::Entry(number) => self.entries.key(*number),
            Present::Copied(version) => &version.key,
            Present::None => &[],
        }
    }

    pub(super) fn lsn(&self) -> Lsn {
        match &self.present {
            Present::Entry(number) => self.entries.get(*number).lsn,
            Present::Copied(version) => version.lsn,
            Present::None => Lsn::ZERO,
        }
    }

    /// The value of the present version; `None` if it is a tombstone.
    pub(super) fn value(&self) -> Option<&[u8]> {
        match &self.present {
            Present::Entry(number) => self.value_of(*number),
            Present::Copied(version) => version.value.as_deref(),
            Present::None => None,
        }
    }
}
