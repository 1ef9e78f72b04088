//! Data blocks: entries in the order of their full keys, the versions of a key from the newest on (TABLES.md, section 2.3).

use std::cmp::Ordering;
use std::ops::Range;

use super::super::fields::u32_at;
use super::super::{Refusal, WORD};
use super::block::{BLOCK_HEADER, Block, BlockKind, is_padding};
use super::reader::{Reader, common_prefix, put_shared, put_varint};
use super::split_full_key;
use crate::base::types::Lsn;

/// A writer ends a block that would become longer, without its restarts, if it has an entry.
const FULL: usize = 4096;
/// Every so many entries, one has its whole key.
const RESTART: usize = 16;
const OFFSET: usize = size_of::<u32>();

const TOMBSTONE: u8 = 0;
const PUT: u8 = 1;

/// The log interval `(from, to]` whose effect a run holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interval {
    pub(crate) from: Lsn,
    pub(crate) to: Lsn,
}

impl Interval {
    /// How far `lsn` is below the end, in words.
    pub(super) fn age(self, lsn: Lsn) -> u64 {
        debug_assert!(self.from < lsn && lsn <= self.to);
        (self.to.get() - lsn.get()) / WORD
    }

    /// The LSN of this age, if it lies in the interval.
    pub(super) fn lsn(self, age: u64) -> Option<Lsn> {
        let length = self.to.get() - self.from.get();
        (age < length / WORD).then(|| Lsn::new(self.to.get() - age * WORD))
    }
}

/// A version of a key. A tombstone has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) value: Option<&'a [u8]>,
}

/// Builds the content of a data block.
#[derive(Debug)]
pub(crate) struct DataBuilder {
    interval: Interval,
    entries: Vec<u8>,
    /// Offsets in `entries`.
    restarts: Vec<usize>,
    last: Vec<u8>,
    count: usize,
}

impl DataBuilder {
    pub(crate) fn new(interval: Interval) -> Self {
        DataBuilder { interval, entries: Vec::new(), restarts: Vec::new(), last: Vec::new(), count: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The last full key, which is the block's separator.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last
    }

    /// Adds a version of `full_key`, unless the block is full. Entries come in order.
    pub(crate) fn push(&mut self, full_key: &[u8], version: Found<'_>) -> bool {
        let is_restart = self.count.is_multiple_of(RESTART);
        let shared = if is_restart { 0 } else { common_prefix(&self.last, full_key) };
        let age = self.interval.age(version.lsn);
        let rest = full_key.len() - shared;
        let value = version.value.map_or(0, |value| varint_len(value.len() as u64) + value.len());
        let length = varint_len(shared as u64) + varint_len(rest as u64) + rest + varint_len(age) + 1 + value;
        if !self.is_empty() && BLOCK_HEADER + self.entries.len() + length > FULL {
            return false;
        }
        if is_restart {
            self.restarts.push(self.entries.len());
            self.last.clear();
        }
        put_shared(&mut self.entries, &mut self.last, full_key);
        put_varint(&mut self.entries, age);
        match version.value {
            None => self.entries.push(TOMBSTONE),
            Some(value) => {
                self.entries.push(PUT);
                put_varint(&mut self.entries, value.len() as u64);
                self.entries.extend_from_slice(value);
            }
        }
        self.count += 1;
        true
    }

    /// The kind and count for the block's header, and its content. The builder is empty then.
    pub(crate) fn finish(&mut self) -> ((BlockKind, u32), Vec<u8>) {
        let begin = BLOCK_HEADER + self.restarts.len() * OFFSET;
        let narrow = |number: usize| u32::try_from(number).expect("a block is far below 4 GiB");
        let restarts = self.restarts.iter().flat_map(|at| narrow(begin + at).to_le_bytes());
        let content = restarts.chain(self.entries.iter().copied()).collect();
        let count = narrow(self.count);
        *self = DataBuilder::new(self.interval);
        ((BlockKind::Data, count), content)
    }
}

fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// A data block that was checked against its parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataBlock<'a> {
    interval: Interval,
    count: usize,
    restarts: &'a [u8],
    entries: &'a [u8],
}

impl<'a> DataBlock<'a> {
    /// Of a run with this interval.
    pub(crate) fn new(block: Block<'a>, interval: Interval) -> Result<Self, Refusal> {
        let count = block.count as usize;
        let restarts = count.div_ceil(RESTART).checked_mul(OFFSET).ok_or(Refusal::Impossible)?;
        match block.content.split_at_checked(restarts) {
            Some((restarts, entries)) if count > 0 => Ok(DataBlock { interval, count, restarts, entries }),
            _ => Err(Refusal::Impossible),
        }
    }

    /// The number of entries.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.count).expect("it was read from 32 bits")
    }

    /// A cursor before the first entry.
    pub(crate) fn cursor(&self) -> DataCursor<'a> {
        DataCursor { block: *self, place: Place::default() }
    }

    /// A cursor on the first entry whose full key is at or above `full_key`; `None` if there is none.
    pub(crate) fn seek(&self, full_key: &[u8]) -> Result<Option<DataCursor<'a>>, Refusal> {
        let mut cursor = self.cursor();
        cursor.jump(self.restart_before(full_key)?)?;
        while cursor.advance()? {
            if cursor.key() >= full_key {
                return Ok(Some(cursor));
            }
        }
        Ok(None)
    }

    /// The restart from which on to look for what is at or above `full_key`: the last one *below* it, or the first of all. Several
    /// may have the key itself, and its newest version stands before them.
    pub(super) fn restart_before(&self, full_key: &[u8]) -> Result<usize, Refusal> {
        let (mut low, mut high) = (0, self.restarts.len() / OFFSET);
        while low < high {
            let middle = low.midpoint(high);
            let key = self.restart_key(middle).ok_or(Refusal::Impossible)?;
            if key < full_key { low = middle + 1 } else { high = middle }
        }
        Ok(low.saturating_sub(1))
    }

    /// The full key of a restart, which stands there as a whole.
    fn restart_key(&self, restart: usize) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.entries.get(self.restart(restart)?..)?);
        if reader.varint()? == 0 { reader.field() } else { None }
    }

    /// The newest version of `full_key` at or below `at`.
    pub(crate) fn newest(&self, full_key: &[u8], at: Lsn) -> Result<Option<Found<'a>>, Refusal> {
        let Some(mut cursor) = self.seek(full_key)? else { return Ok(None) };
        while cursor.key() == full_key {
            if cursor.version().lsn <= at {
                return Ok(Some(cursor.version()));
            }
            if !cursor.advance()? {
                break;
            }
        }
        Ok(None)
    }
}

/// Reads the entries of a block in order, and checks each as it goes.
#[derive(Clone, Debug)]
pub(crate) struct DataCursor<'a> {
    block: DataBlock<'a>,
    place: Place,
}

impl<'a> DataCursor<'a> {
    /// The full key of the present entry.
    pub(crate) fn key(&self) -> &[u8] {
        self.place.key()
    }

    /// The version of the present entry.
    pub(crate) fn version(&self) -> Found<'a> {
        self.place.version(&self.block)
    }

    /// Goes to the next entry. `false` if there is none.
    pub(crate) fn advance(&mut self) -> Result<bool, Refusal> {
        self.place.advance(&self.block)
    }

    fn jump(&mut self, restart: usize) -> Result<(), Refusal> {
        self.place.jump(&self.block, restart)
    }
}

/// A cursor without its block, for one who keeps the block's bytes beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Where in the block's entries the next one begins.
    at: usize,
    /// The number of the next entry.
    next: usize,
    key: Vec<u8>,
    /// The key before a restart.
    before: Vec<u8>,
    /// The present entry has the key of the one before.
    is_same_key: bool,
    lsn: Lsn,
    /// Where in the block's entries the value is; `None` for a tombstone.
    value: Option<Range<usize>>,
}

impl Place {
    /// The full key of the present entry.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The version of the present entry, which is in `block`.
    pub(crate) fn version<'a>(&self, block: &DataBlock<'a>) -> Found<'a> {
        Found { lsn: self.lsn, value: self.value.clone().map(|value| &block.entries[value]) }
    }

    /// Whether the present entry has the key of the one before it in the block.
    pub(super) fn is_same_key(&self) -> bool {
        self.is_same_key
    }

    /// The LSN of the present entry.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Where in the bytes of `block`, which it is in, the value of the present entry is; `None` for a tombstone.
    pub(super) fn value_in(&self, block: &DataBlock<'_>) -> Option<Range<usize>> {
        let begin = BLOCK_HEADER + block.restarts.len();
        self.value.as_ref().map(|value| begin + value.start..begin + value.end)
    }

    /// Goes to the next entry of `block`. `false` if there is none.
    pub(crate) fn advance(&mut self, block: &DataBlock<'_>) -> Result<bool, Refusal> {
        if self.next == block.count {
            return if is_padding(&block.entries[self.at..]) { Ok(false) } else { Err(Refusal::Impossible) };
        }
        self.read(block).map(|()| true).ok_or(Refusal::Impossible)
    }

    /// Before the restart with this number. The order of the entry there is not checked against the one before.
    pub(super) fn jump(&mut self, block: &DataBlock<'_>, restart: usize) -> Result<(), Refusal> {
        let begin = block.restart(restart).filter(|begin| *begin <= block.entries.len());
        self.at = begin.ok_or(Refusal::Impossible)?;
        self.next = restart * RESTART;
        self.key.clear();
        Ok(())
    }

    fn read(&mut self, block: &DataBlock<'_>) -> Option<()> {
        let mut reader = Reader::new(&block.entries[self.at..]);
        let order = if self.next.is_multiple_of(RESTART) {
            if block.restart(self.next / RESTART) != Some(self.at) {
                return None;
            }
            std::mem::swap(&mut self.before, &mut self.key);
            self.key.clear();
            reader.shared(&mut self.key)?;
            self.before.cmp(&self.key)
        } else {
            reader.shared(&mut self.key)?
        };
        let lsn = block.interval.lsn(reader.varint()?)?;
        let is_in_order = match order {
            Ordering::Less => true,
            Ordering::Equal => lsn < self.lsn,
            Ordering::Greater => false,
        };
        let end = |reader: &Reader<'_>| block.entries.len() - reader.rest().len();
        self.value = match reader.u8()? {
            TOMBSTONE => None,
            PUT => {
                let length = reader.field()?.len();
                Some(end(&reader) - length..end(&reader))
            }
            _ => return None,
        };
        split_full_key(&self.key)?;
        (self.at, self.lsn, self.next) = (end(&reader), lsn, self.next + 1);
        self.is_same_key = order == Ordering::Equal;
        is_in_order.then_some(())
    }
}

impl DataBlock<'_> {
    /// Where in `entries` the restart with this number begins.
    fn restart(&self, number: usize) -> Option<usize> {
        let offset =
            self.restarts.get(number * OFFSET..).filter(|rest| rest.len() >= OFFSET).map(|rest| u32_at(rest, 0))?;
        (offset as usize).checked_sub(BLOCK_HEADER + self.restarts.len())
    }
}
