//! The searched part of a node: eight bytes of each key, close together in memory, so that a search seldom reads a key
//! itself.

use std::cmp::Ordering;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::rt::memory::prefetch;

/// Heads in one cache line.
const LINE: usize = 8;
/// The most lines of a node.
const LINES: usize = 32;
/// The longest prefix that is skipped. If the common prefix is longer, heads distinguish fewer keys.
const LONGEST_PREFIX: usize = 123;

/// The heads of up to `N` keys in order. A head is the first eight bytes behind the prefix that all keys of the node
/// share, padded with zeros, read as a number.
///
/// Heads never order two keys wrongly, but two keys may have equal heads: keys that are longer, or that end in zeros.
/// These are compared by the keys themselves, which the owner of the heads stores and passes in.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Heads<const N: usize> {
    /// The length of the prefix in `prefix`.
    skipped: u16,
    count: u16,
    prefix: [u8; LONGEST_PREFIX],
    /// Somebody has read here since the keeper looked last. In the line that a search reads first.
    is_used: AtomicBool,
    /// The last head of each line: a search finds its line by these.
    lasts: [u64; LINES],
    /// Those behind the last key are the largest number, so that a search needs no `count`.
    heads: [u64; N],
}

impl<const N: usize> Heads<N> {
    pub(super) fn new() -> Self {
        const { assert!(N <= LINES * LINE) };
        let is_used = AtomicBool::new(false);
        let (prefix, lasts, heads) = ([0; LONGEST_PREFIX], [u64::MAX; LINES], [u64::MAX; N]);
        Heads { prefix, skipped: 0, count: 0, is_used, lasts, heads }
    }

    /// Notes that somebody has read here.
    #[inline]
    pub(super) fn note_use(&self) {
        // Mostly it is noted already, and the line stays shared among the cores.
        if !self.is_used.load(Relaxed) {
            self.is_used.store(true, Relaxed);
        }
    }

    /// Whether somebody has read here since the last call.
    pub(super) fn take_use(&mut self) -> bool {
        std::mem::take(self.is_used.get_mut())
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.count)
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[..usize::from(self.skipped)]
    }

    /// The head of `key`, if it begins with the prefix.
    #[inline]
    fn head_of(&self, key: &[u8]) -> Option<u64> {
        key.starts_with(self.prefix()).then(|| head_behind(key, usize::from(self.skipped)))
    }

    /// Where `key` is (`Ok`), or would be. `key_at` returns the keys that the heads cannot decide; `near` is called
    /// before with the index from which on it will mostly be asked.
    #[inline]
    pub(super) fn search<'a>(
        &self,
        key: &[u8],
        near: impl FnOnce(usize),
        key_at: impl Fn(usize) -> &'a [u8],
    ) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            // All keys begin with the prefix, so all are on the same side of `key` as the prefix.
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let head = head_behind(key, prefix.len());
        let line = self.line(head);
        near(line * LINE);
        let first = self.first_not_below(head, line);
        if first >= self.len() || self.heads[first] != head {
            return Err(first);
        }
        let compare = |index| key_at(index)[prefix.len()..].cmp(rest);
        if first + 1 == self.len() || self.heads[first + 1] != head {
            return match compare(first) {
                Ordering::Equal => Ok(first),
                Ordering::Less => Err(first + 1),
                Ordering::Greater => Err(first),
            };
        }
        self.search_tied(first, head, compare)
    }

    /// Prefetches what a search reads first.
    #[inline]
    pub(super) fn fetch(&self) {
        prefetch(&self.count);
        prefetch(&self.lasts[..N.div_ceil(LINE)]);
    }

    /// Prefetches what a search for `key` reads next. Returns the index of the first head in it.
    #[inline]
    pub(super) fn fetch_line(&self, key: &[u8]) -> Option<usize> {
        let line = self.line(self.head_of(key)?);
        let start = line * LINE;
        prefetch(self.heads.get(start..)?.first()?);
        Some(start)
    }

    /// Where `key` is or would be, as far as the heads decide.
    #[inline]
    pub(super) fn estimate(&self, key: &[u8]) -> Option<usize> {
        let head = self.head_of(key)?;
        Some(self.first_not_below(head, self.line(head)))
    }

    #[cold]
    fn search_tied(&self, first: usize, head: u64, compare: impl Fn(usize) -> Ordering) -> Result<usize, usize> {
        let mut low = first;
        let mut high = first + self.heads[first..self.len()].partition_point(|&other| other == head);
        while low < high {
            let middle = low.midpoint(high);
            match compare(middle) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The line with the first head that is not below `head`, if there is one.
    #[inline]
    fn line(&self, head: u64) -> usize {
        let lasts = &self.lasts[..N.div_ceil(LINE)];
        // Fetches both halves at once: the search would ask for the second only when it has the first.
        prefetch(&lasts[lasts.len() / 2]);
        lasts.partition_point(|last| *last < head)
    }

    /// The index of the first head in `line`, or behind it, that is not below `head`.
    #[inline]
    fn first_not_below(&self, head: u64, line: usize) -> usize {
        let start = (line * LINE).min(N);
        start + self.heads[start..(start + LINE).min(N)].partition_point(|other| *other < head)
    }

    /// Updates the last head of each line that has heads from `index` on.
    fn note_lasts(&mut self, index: usize) {
        for line in index / LINE..N.div_ceil(LINE) {
            self.lasts[line] = self.heads[(line * LINE + LINE - 1).min(N - 1)];
        }
    }

    /// Inserts the head of `key` at `index`. `key_at` must still answer for the keys without it.
    pub(super) fn insert<'a>(&mut self, index: usize, key: &[u8], key_at: impl Fn(usize) -> &'a [u8]) {
        if self.count == 0 {
            self.skip(key, key.len());
        } else if !key.starts_with(self.prefix()) {
            self.skip(key, common(self.prefix(), key));
            for index in 0..self.len() {
                self.heads[index] = head_behind(key_at(index), usize::from(self.skipped));
            }
            self.note_lasts(0);
        }
        let count = self.len();
        self.heads.copy_within(index..count, index + 1);
        self.heads[index] = head_behind(key, usize::from(self.skipped));
        self.count += 1;
        self.note_lasts(index);
    }

    pub(super) fn remove(&mut self, index: usize) {
        let count = self.len();
        self.heads.copy_within(index + 1..count, index);
        self.heads[count - 1] = u64::MAX;
        self.count -= 1;
        self.note_lasts(index);
    }

    /// Removes the heads from `count` on.
    pub(super) fn truncate(&mut self, count: usize) {
        self.heads[count..].fill(u64::MAX);
        self.count = self.count.min(narrow(count));
        self.note_lasts(0);
    }

    /// Replaces all heads by those of `count` keys.
    pub(super) fn rebuild<'a>(&mut self, count: usize, key_at: impl Fn(usize) -> &'a [u8]) {
        self.truncate(0);
        let Some(last) = count.checked_sub(1) else { return };
        // A prefix that the first and the last key share, all keys between them share.
        let (low, high) = (key_at(0), key_at(last));
        self.skip(low, common(low, high));
        for index in 0..count {
            self.heads[index] = head_behind(key_at(index), usize::from(self.skipped));
        }
        self.count = narrow(count);
        self.note_lasts(0);
    }

    /// Makes the first `length` bytes of `key` the prefix, at most [`LONGEST_PREFIX`].
    fn skip(&mut self, key: &[u8], length: usize) {
        let length = length.min(LONGEST_PREFIX);
        self.prefix[..length].copy_from_slice(&key[..length]);
        self.skipped = narrow(length);
    }

    /// Panics unless the heads are those of the `count` keys.
    #[cfg(test)]
    pub(super) fn check<'a>(&self, count: usize, key_at: impl Fn(usize) -> &'a [u8]) {
        assert_eq!(self.len(), count);
        for index in 0..count {
            let rest = key_at(index).strip_prefix(self.prefix()).expect("the prefix of the node");
            assert_eq!(self.heads[index], head(rest));
            assert!(index == 0 || key_at(index - 1) < key_at(index));
        }
        assert!(self.heads[count..].iter().all(|&unused| unused == u64::MAX));
        for (line, heads) in self.heads.chunks(LINE).enumerate() {
            assert_eq!(self.lasts[line], heads[heads.len() - 1]);
        }
    }
}

/// A count or length in a node: none is above `N` or the longest prefix.
fn narrow(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// The length of the common prefix of two keys.
pub(in super::super) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number, padded with zeros. Of two keys with different heads, the one with the lower head
/// comes first.
#[inline]
pub(in super::super) fn head(key: &[u8]) -> u64 {
    head_behind(key, 0)
}

/// The head of the bytes behind the first `skipped` bytes of `key`, which must be at least that long.
#[inline]
fn head_behind(key: &[u8], skipped: usize) -> u64 {
    let rest = &key[skipped..];
    if let Some(bytes) = rest.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    match key.last_chunk() {
        // Shifting the other bytes out is faster than copying a few.
        Some(last) if !rest.is_empty() => u64::from_be_bytes(*last) << (8 * (8 - rest.len())),
        _ => short_head(rest),
    }
}

fn short_head(rest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}
