//! Writes of consecutive transactions: gathered, and then sorted by key.

use std::cmp::Ordering;
use std::mem;
use std::ops::Range;

use super::super::map::{common, head};
use super::{Limits, Sorted};
use crate::base::types::Lsn;
use crate::format::batch::Op;
use crate::rt::memory::{drop_and_give_back, populate, prefer_large_pages};

/// Bytes of a key in its head, and again in its tail.
const HEAD_LEN: usize = 8;

/// The memory of a piece of a sorted bundle.
const PIECE: usize = if cfg!(test) { 512 } else { 1 << 17 };

#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    /// See [`head`]: it mostly decides which of two keys comes first.
    pub(super) head: u64,
    /// The same for the bytes behind the first eight. For two short keys it also decides whether they are equal, so
    /// that the sort does not wait for the keys in memory.
    pub(super) tail: u64,
    pub(super) lsn: Lsn,
    /// Where its key begins in the bundle's bytes; the value follows.
    at: u32,
    value_len: u32,
    /// The index of its keyspace in the loader's list.
    pub(super) tree: u32,
    key_len: u16,
    is_delete: bool,
}

/// Writes of consecutive transactions in the order of the log; or a piece of a sorted bundle, in key order, with only
/// the last write to each key.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    writes: Vec<Write>,
    bytes: Vec<u8>,
}

impl Write {
    pub(super) fn lens(&self) -> (usize, usize) {
        (usize::from(self.key_len), self.value_len as usize)
    }

    pub(super) fn is_delete(&self) -> bool {
        self.is_delete
    }

    fn len(&self) -> usize {
        let (key, value) = self.lens();
        key + value
    }
}

impl Bundle {
    /// This empty bundle, with memory for about `room` bytes in all. Its memory is reused, unless a large value made it
    /// too large.
    pub(super) fn with_room(mut self, room: usize, limits: Limits) -> Self {
        let bytes = limits.bytes.min(room);
        // Small segments mean a small log. If writes are shorter than this estimate, the list grows.
        let writes = limits.writes.min(room / size_of::<Write>()).min(64 + bytes / 16);
        let is_as_asked = |capacity: usize, asked: usize| (asked..=asked.saturating_mul(2)).contains(&capacity);
        if !is_as_asked(self.bytes.capacity(), bytes + bytes / 64) {
            drop_and_give_back(mem::replace(&mut self.bytes, Vec::with_capacity(bytes + bytes / 64)));
            prefer_large_pages(&mut self.bytes);
        }
        if !is_as_asked(self.writes.capacity(), writes) {
            drop_and_give_back(mem::replace(&mut self.writes, Vec::with_capacity(writes)));
            prefer_large_pages(&mut self.writes);
        }
        self
    }

    /// Drops it and gives its memory back to the operating system: no later bundle will need memory of this size.
    pub(super) fn give_back(self) {
        drop_and_give_back(self.writes);
        drop_and_give_back(self.bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The total bytes of its keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of all memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + size_of_val(self.writes())
    }

    /// The keyspace written to last, which the next write mostly uses too.
    pub(super) fn last_tree(&self) -> Option<u32> {
        self.writes.last().map(|last| last.tree)
    }

    /// Adds a write to one key.
    pub(super) fn push(&mut self, tree: u32, lsn: Lsn, op: &Op<'_>) {
        let (key, value) = match *op {
            Op::Put { key, value, .. } => (key, Some(value)),
            Op::Delete { key, .. } => (key, None),
            Op::DeleteRange { .. } | Op::CreateKeyspace { .. } | Op::DropKeyspace { .. } => return,
        };
        let narrow = |count| u32::try_from(count).expect("a bundle and a transaction are far below 4 GiB");
        let at = narrow(self.bytes.len());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let key_len = u16::try_from(key.len()).expect("a key has at most 65,535 bytes");
        let value_len = narrow(value.unwrap_or_default().len());
        let tail = head(key.get(HEAD_LEN..).unwrap_or_default());
        self.writes.push(Write {
            head: head(key),
            tail,
            lsn,
            at,
            value_len,
            tree,
            key_len,
            is_delete: value.is_none(),
        });
    }

    #[inline]
    pub(super) fn key(&self, write: &Write) -> &[u8] {
        &self.bytes[write.at as usize..][..usize::from(write.key_len)]
    }

    /// Compares the key of `write` with that of `other`, a write in the bundle `of_other`. Their heads must be equal.
    #[inline]
    pub(super) fn compare_tails(&self, write: &Write, of_other: &Bundle, other: &Write) -> Ordering {
        let is_short = |write: &Write| usize::from(write.key_len) <= 2 * HEAD_LEN;
        write.tail.cmp(&other.tail).then_with(|| match is_short(write) && is_short(other) {
            // They are equal up to zeros at the end.
            true => write.key_len.cmp(&other.key_len),
            false => self.key(write).cmp(of_other.key(other)),
        })
    }

    /// The value of a put; `None` for a delete.
    #[inline]
    pub(super) fn value(&self, write: &Write) -> Option<&[u8]> {
        let begin = write.at as usize + usize::from(write.key_len);
        (!write.is_delete).then(|| &self.bytes[begin..][..write.value_len as usize])
    }

    /// Reads a byte of each of the first cache lines of the key and the value, and the last byte, so that the processor
    /// fetches them. The result has no meaning.
    #[inline]
    pub(super) fn fetch(&self, write: &Write) -> u8 {
        const LINE: usize = 64;
        const LINES: usize = 16;
        let begin = write.at as usize;
        let written = &self.bytes[begin..begin + write.len()];
        let lines = written.iter().step_by(LINE).take(LINES).chain(written.last());
        lines.fold(0, |all, byte| all | byte)
    }

    /// Sorts the writes by key and removes all but the last write to each key. The pieces, and the emptied bundle, go
    /// to `sorted`.
    pub(super) fn sort(mut self, scratch: &mut Scratch, sorted: &mut Sorted) {
        let order = &mut scratch.order;
        let number = |number: usize| u32::try_from(number).expect("a batch of 2^32 writes is over every limit");
        order.clear();
        order.extend(
            self.writes
                .iter()
                .enumerate()
                .map(|(n, write)| u128::from(write.tree) << 96 | u128::from(write.head) << 32 | u128::from(number(n))),
        );
        order.sort_unstable();
        let write = |entry| &self.writes[low_half(entry)];
        let look = |entry| (write(entry).tail, self.key(write(entry)));
        keep_newest(order, 32, look, |a, b| self.compare_tails(write(a), &self, write(b)));
        // In key order once and for all: each further look at a write in the order of the log would wait for memory.
        let writes = &mut scratch.writes;
        writes.clear();
        writes.extend(order.iter().map(|entry| self.writes[low_half(*entry)]));
        let mut rest = writes.as_slice();
        while !rest.is_empty() {
            let mut memory = 0;
            let is_in = |write: &&Write| {
                let was_below = memory < PIECE;
                memory += size_of::<Write>() + write.len();
                was_below
            };
            let (piece, behind) = rest.split_at(rest.iter().take_while(is_in).count());
            sorted.pieces.push(self.piece(piece));
            rest = behind;
        }
        self.writes.clear();
        self.bytes.clear();
        sorted.spare.push(self);
    }

    /// Copies `of_piece`, which are writes of this bundle, into a bundle of their size.
    fn piece(&self, of_piece: &[Write]) -> Bundle {
        const BLOCK: usize = 64;
        let bytes = of_piece.iter().map(Write::len).sum();
        let mut piece = Bundle { writes: Vec::with_capacity(of_piece.len()), bytes: Vec::with_capacity(bytes) };
        populate(&mut piece.writes);
        populate(&mut piece.bytes);
        for block in of_piece.chunks(BLOCK) {
            // Keys and values lie anywhere in memory. A core waits for many cache lines in the time of one, if no other
            // work is between.
            std::hint::black_box(block.iter().fold(0, |all, write| all | self.fetch(write)));
            for write in block {
                let at = u32::try_from(piece.bytes.len()).expect("no larger than the bundle");
                piece.bytes.extend_from_slice(&self.bytes[write.at as usize..][..write.len()]);
                piece.writes.push(Write { at, ..*write });
            }
        }
        piece
    }

    /// For each keyspace with writes, the range of its writes in a sorted bundle.
    pub(super) fn of_trees(&self) -> impl Iterator<Item = (u32, Range<usize>)> {
        let mut first = 0;
        std::iter::from_fn(move || {
            let tree = self.writes.get(first)?.tree;
            let range = first..first + self.writes[first..].partition_point(|write| write.tree == tree);
            first = range.end;
            Some((tree, range))
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    order: Vec<u128>,
    /// The last write to each key, in key order.
    writes: Vec<Write>,
}

/// The lowest 32 bits.
pub(super) fn low_half(entry: u128) -> usize {
    (entry & u128::from(u32::MAX)) as usize
}

/// Takes entries sorted by head, and then by the order of the log. Keeps the last entry of each key, and sorts by key.
/// The head of an entry is above its lowest `shift` bits; `look` returns its tail and its key, and `compare` compares
/// two keys with the same head.
pub(super) fn keep_newest<'a>(
    entries: &mut Vec<u128>,
    shift: u32,
    look: impl Fn(u128) -> (u64, &'a [u8]),
    compare: impl Fn(u128, u128) -> Ordering,
) {
    let mut kept = 0;
    let mut next = 0;
    while let Some(first) = entries.get(next) {
        let head = first >> shift;
        let tied = 1 + entries[next + 1..].iter().take_while(|entry| *entry >> shift == head).count();
        let end = next + tied;
        if tied > 2 || (tied == 2 && compare(entries[next], entries[next + 1]).is_gt()) {
            match &mut entries[next..end] {
                few if tied <= FEW_TIED => few.sort_by(|a, b| compare(*a, *b)),
                many => sort_tied(many, &look, &compare),
            }
        }
        while next < end {
            let oldest = entries[next];
            next += 1;
            let newer = entries[next..end].iter().take_while(|entry| compare(oldest, **entry).is_eq()).count();
            next += newer;
            entries[kept] = entries[next - 1];
            kept += 1;
        }
    }
    entries.truncate(kept);
}

/// More writes than this with the same head are mostly writes to one key.
const FEW_TIED: usize = 16;

/// Sorts entries whose heads are equal: by their tails, or if these are equal too, by new heads taken behind the prefix
/// that all their keys share. So a comparison seldom reads a key or a write.
fn sort_tied<'a>(
    entries: &mut [u128],
    look: impl Fn(u128) -> (u64, &'a [u8]),
    compare: impl Fn(u128, u128) -> Ordering,
) {
    let Some((first_tail, first)) = entries.first().map(|first| look(*first)) else { return };
    let mut deeper: Vec<(u64, u128)> = entries.iter().map(|entry| (look(*entry).0, *entry)).collect();
    if first.len() > 2 * HEAD_LEN && deeper.iter().all(|(tail, _)| *tail == first_tail) {
        let shared = entries.iter().map(|entry| common(first, look(*entry).1)).min().unwrap_or(0);
        deeper.iter_mut().for_each(|(tail, entry)| *tail = head(&look(*entry).1[shared..]));
    }
    deeper.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| compare(a.1, b.1)));
    for (entry, (_, sorted)) in entries.iter_mut().zip(deeper) {
        *entry = sorted;
    }
}
