//! Sorting a piece of the log: what its records did to keys, in the order of a run.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::batch::{Batch, Op};
use crate::format::table::data::Found;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::{ID_LEN, full_range};
use crate::table::merge::Source;

#[cfg(test)]
mod tests;

/// In place of the length of a value: there is none, the key was deleted.
const TOMBSTONE: u32 = u32::MAX;

/// Gathers the writes of records, in the order of the log.
///
/// It takes the bytes of their full keys and values, and 32 bytes a write; up to three times that while it grows. So who
/// uses it bounds the number of writes, too.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    counted: Counted,
    /// Full keys, each followed by its value.
    bytes: Vec<u8>,
    writes: Vec<Write>,
    ranges: Vec<RangeTombstone>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    /// The first bytes of the full key, which decide most comparisons.
    prefix: u64,
    /// Where in `bytes` the full key begins. Later writes lie higher.
    at: usize,
    lsn: Lsn,
    key: u32,
    value: u32,
}

impl Write {
    fn key(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.at..][..self.key as usize]
    }

    fn value(self, bytes: &[u8]) -> Option<&[u8]> {
        (self.value != TOMBSTONE).then(|| &bytes[self.at + self.key as usize..][..self.value as usize])
    }
}

/// Bytes that all sorters of an engine take.
pub(crate) type SortedBytes = Arc<AtomicU64>;

/// What one of them takes of these. Nothing orders the accesses: a sum is never read together with what it is about.
#[derive(Debug, Default)]
struct Counted {
    all: SortedBytes,
    own: u64,
}

impl Counted {
    fn set(&mut self, own: u64) {
        if own != self.own {
            // What wraps here wraps back in the sum.
            self.all.fetch_add(own.wrapping_sub(self.own), Ordering::Relaxed);
            self.own = own;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Sorter {
    /// What it takes, and what it sorts until that is dropped, is counted in `all`.
    pub(crate) fn counted_in(all: &SortedBytes) -> Self {
        Sorter { counted: Counted { all: Arc::clone(all), own: 0 }, ..Sorter::default() }
    }

    /// For a piece of the log that is `bytes` long.
    #[cfg(test)]
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Sorter { bytes: Vec::with_capacity(bytes), ..Sorter::default() }
    }

    /// Takes in the writes of the record that ends at `lsn`, above all before.
    pub(crate) fn add(&mut self, lsn: Lsn, batch: &Batch<'_>) {
        for op in batch.effective() {
            match op {
                Op::Put { keyspace, key, value } => self.push(lsn, keyspace, key, Some(value)),
                Op::Delete { keyspace, key } => self.push(lsn, keyspace, key, None),
                Op::DeleteRange { keyspace, from, to } => self.ranges.push(deleted(lsn, keyspace, from, to)),
                Op::CreateKeyspace { .. } | Op::DropKeyspace { .. } => {}
            }
        }
        self.counted.set((self.bytes.capacity() + self.writes.capacity() * size_of::<Write>()) as u64);
    }

    fn push(&mut self, lsn: Lsn, keyspace: u32, key: &[u8], value: Option<&[u8]>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&keyspace.to_be_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let mut prefix = [0; 8];
        let known = (ID_LEN + key.len()).min(prefix.len());
        prefix[..known].copy_from_slice(&self.bytes[at..at + known]);
        let narrow = |length: usize| u32::try_from(length).expect("keys and values are at most 64 MiB long");
        self.writes.push(Write {
            prefix: u64::from_be_bytes(prefix),
            at,
            lsn,
            key: narrow(ID_LEN + key.len()),
            value: value.map_or(TOMBSTONE, |value| narrow(value.len())),
        });
    }

    /// The range tombstones that the records have left, in no order.
    pub(crate) fn take_ranges(&mut self) -> Vec<RangeTombstone> {
        std::mem::take(&mut self.ranges)
    }

    /// All writes, sorted. Of several to a key in one record the last one counts.
    pub(crate) fn finish(mut self) -> Sorted {
        let bytes = &self.bytes;
        let key = |write: &Write| write.key(bytes);
        self.writes.sort_unstable_by(|a, b| {
            let by_key = a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(key(b)));
            by_key.then_with(|| (Reverse(a.lsn), Reverse(a.at)).cmp(&(Reverse(b.lsn), Reverse(b.at))))
        });
        self.writes.dedup_by(|later, first| later.lsn == first.lsn && key(later) == key(first));
        Sorted { sorter: self, next: 0 }
    }
}

/// The deletion of a range of one keyspace, as a run has it.
fn deleted(lsn: Lsn, keyspace: u32, from: &[u8], to: Option<&[u8]>) -> RangeTombstone {
    let (start, end) = full_range(keyspace, from, to);
    RangeTombstone { start, end, lsn, says: Says::Deleted }
}

/// Sorted writes. It stands before the first one.
#[derive(Debug)]
pub(crate) struct Sorted {
    sorter: Sorter,
    next: usize,
}

impl Sorted {
    fn present(&self) -> Write {
        self.sorter.writes[self.next - 1]
    }
}

impl Source for Sorted {
    fn advance(&mut self) -> Result<bool> {
        self.next += 1;
        Ok(self.next <= self.sorter.writes.len())
    }

    fn key(&self) -> &[u8] {
        self.present().key(&self.sorter.bytes)
    }

    fn version(&self) -> Found<'_> {
        let write = self.present();
        Found { lsn: write.lsn, value: write.value(&self.sorter.bytes) }
    }
}
