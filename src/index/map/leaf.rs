//! The nodes that hold the entries: slotted pages in memory.

use std::ops::{Bound, Range};

use super::super::key::Key;
use super::super::value::Value;
use super::super::version::{Content, Version};
use super::KeyRange;
use super::heads::{Heads, common};
use super::known::Known;
use super::record::{Form, Header};
use super::shape::{FULL, New};
use crate::base::types::Lsn;
use crate::rt::memory::prefetch;

impl New<'_> {
    fn record_len(&self) -> usize {
        let value = if let Content::InPlace(value) = self.version.content { value } else { &[] };
        Header::of(self, Form::InPlace, narrow(value.len())).len()
    }
}

/// Up to `N` entries, in `ROOM` bytes. A search reads the heads and then the place of one record, and a record is contiguous: between
/// two flushes the cache has neither, so each of the two is one wait for memory.
#[derive(Debug)]
pub(super) struct Leaf<const N: usize, const ROOM: usize> {
    heads: Heads<N>,
    /// Where the record of each key begins, in key order.
    places: [u16; N],
    /// The records, in the order in which they were inserted.
    bytes: [u8; ROOM],
    /// Where the last record ends.
    end: usize,
    /// How many bytes before `end` belong to no record.
    unused: usize,
    /// Values and keys that are too large to lie in the leaf.
    shared: Vec<Value>,
    pub(super) known: Known,
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a leaf is small")
}

/// The leaf of an empty map.
impl<const N: usize, const ROOM: usize> Default for Leaf<N, ROOM> {
    fn default() -> Self {
        const { assert!(N >= 4 && N <= 256 && ROOM <= u16::MAX as usize) };
        let (end, unused, shared, known) = (0, 0, Vec::new(), Known::COMPLETE);
        Leaf { heads: Heads::new(), places: [0; N], bytes: [0; ROOM], end, unused, shared, known }
    }
}

impl<const N: usize, const ROOM: usize> Leaf<N, ROOM> {
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// How full it is, of [`FULL`], by the resource that is scarcest; 0 if it is empty.
    pub(super) fn fullness(&self) -> usize {
        let entries = (self.len() * FULL).div_ceil(N);
        entries.max((self.end - self.unused) * FULL / ROOM)
    }

    /// The bytes of its records.
    pub(super) fn used(&self) -> usize {
        self.end - self.unused
    }

    /// Estimates how many leaves `entries` entries need if each leaf is filled up to `part` of what it can hold, given
    /// the total bytes of their keys and of their inline values.
    pub(super) fn count_for(entries: usize, bytes: usize, part: impl Fn(usize) -> usize) -> usize {
        let records = bytes + entries * Header::LEN;
        // The record that a leaf has no room for is half a record too long on average.
        let room = part(ROOM).saturating_sub(records / entries.max(1) / 2).max(ROOM / 2);
        entries.div_ceil(part(N)).max(records.div_ceil(room)).max(1)
    }

    /// Whether the records pushed so far and `new` fit into the part `part` of the room.
    pub(super) fn is_below(&self, part: impl Fn(usize) -> usize, new: &New<'_>) -> bool {
        self.end + new.record_len() <= part(ROOM)
    }

    /// Appends an entry above all others at `index`. Searches find it only after [`Leaf::end_pushing`].
    pub(super) fn push(&mut self, index: usize, new: &New<'_>) {
        self.put(index, new);
    }

    /// Makes the first `len` pushed entries findable.
    pub(super) fn end_pushing(&mut self, len: usize) {
        self.rebuild(len);
    }

    pub(super) fn last_key(&self) -> &[u8] {
        self.key(self.len() - 1)
    }

    /// The indices of the entries in `range`.
    pub(super) fn indices(&self, (low, high): KeyRange<'_>) -> Range<usize> {
        let from = |key| self.search(key).unwrap_or_else(|free| free);
        let behind = |key| self.search(key).map_or_else(|free| free, |index| index + 1);
        let first = match low {
            Bound::Unbounded => 0,
            Bound::Included(key) => from(key),
            Bound::Excluded(key) => behind(key),
        };
        let end = match high {
            Bound::Unbounded => self.len(),
            Bound::Included(key) => behind(key),
            Bound::Excluded(key) => from(key),
        };
        first..end
    }

    pub(super) fn has_room(&self, new: &New<'_>) -> bool {
        self.len() < N && self.end - self.unused + new.record_len() <= ROOM
    }

    /// Whether an empty one has room for an entry.
    pub(super) fn takes(new: &New<'_>) -> bool {
        new.record_len() <= ROOM
    }

    #[inline]
    pub(super) fn key(&self, index: usize) -> &[u8] {
        key_at(&self.bytes, &self.shared, self.places[index])
    }

    // Always: a scan has several callers, and a call for each entry costs it a tenth of its speed.
    #[inline(always)]
    pub(super) fn entry(&self, index: usize) -> (&[u8], Version<'_>) {
        let (header, rest) = Header::read(&self.bytes, self.places[index]);
        let (key, value) = rest.split_at(header.key_room());
        let key = header.key_number(key).map_or(key, |number| &self.shared[number as usize]);
        let content = match header.form {
            Form::Deleted => Content::Deleted,
            Form::InPlace => Content::InPlace(&value[..header.value as usize]),
            Form::Shared => Content::Shared(&self.shared[header.value as usize]),
        };
        (key, Version { lsn: header.lsn, older: header.older, content })
    }

    /// Where `key` is (`Ok`), or would be.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        // The prefetch brings the places together with the heads, which decide which place is read.
        self.heads.search(key, |index| self.places.get(index).into_iter().for_each(prefetch), |index| self.key(index))
    }

    /// Prefetches all lines that one search may read before the record, although it will read only a few of them: a
    /// single search has nothing else to wait for meanwhile.
    #[inline]
    pub(super) fn fetch_all_heads(&self) {
        prefetch(&self.heads);
        prefetch(&self.places);
    }

    /// Prefetches what a search reads first.
    pub(super) fn fetch(&self) {
        self.heads.fetch();
    }

    /// Prefetches what a search for `key` reads next.
    pub(super) fn fetch_line(&self, key: &[u8]) {
        if let Some(place) = self.heads.fetch_line(key).and_then(|index| self.places.get(index)) {
            prefetch(place);
        }
    }

    /// Prefetches the record of `key`, or the one in its place.
    pub(super) fn fetch_record(&self, key: &[u8]) {
        self.fetch_entry(self.heads.estimate(key).unwrap_or(0));
    }

    /// Prefetches the record at `index`, if there is one.
    #[inline]
    pub(super) fn fetch_entry(&self, index: usize) {
        /// The bytes of a record with a key of 16 bytes and a value of 100.
        const MOSTLY: usize = 160;
        if let Some(place) = self.places.get(index) {
            let start = usize::from(*place);
            prefetch(&self.bytes[start..(start + MOSTLY).min(ROOM)]);
        }
    }

    /// Inserts an entry at `index`; there must be room.
    pub(super) fn insert(&mut self, index: usize, new: &New<'_>) {
        let len = self.len();
        self.make_room(new.record_len());
        let Leaf { heads, places, bytes, shared, .. } = self;
        heads.insert(index, new.key, |index| key_at(bytes, shared, places[index]));
        places.copy_within(index..len, index + 1);
        self.put(index, new);
    }

    /// Replaces the version of the key at `index`.
    pub(super) fn set(&mut self, index: usize, version: Version<'_>) -> usize {
        let place = self.places[index];
        let (header, rest) = Header::read_mut(&mut self.bytes, place);
        let before = header.value_len();
        let header = Header { lsn: version.lsn, older: version.older, ..header };
        if let Content::InPlace(value) = version.content {
            if header.form == Form::InPlace && value.len() <= before {
                rest[header.key_room()..][..value.len()].copy_from_slice(value);
                self.unused += before - value.len();
                Header { value: narrow(value.len()), ..header }.write(&mut self.bytes, place);
                return 0;
            }
            // A record that grows is written anew behind the others, if there is room. Otherwise its value moves out of
            // the leaf.
            let more = header.len() - before + value.len();
            if self.end - self.unused - header.len() + more <= ROOM {
                let key = self.key(index).to_vec();
                self.discard(index);
                self.places.copy_within(index + 1.., index);
                self.heads.remove(index);
                self.insert(index, &New { key: &key, version });
                return 0;
            }
        }
        self.unshare_value(index);
        self.unused += before;
        let (form, value, outside) = match version.content {
            Content::Deleted => (Form::Deleted, 0, 0),
            Content::InPlace(value) => (Form::Shared, self.share(Value::from(value)), value.len()),
            Content::Shared(value) => (Form::Shared, self.share(value.clone()), value.len()),
        };
        Header { form, value, ..header }.write(&mut self.bytes, place);
        outside
    }

    /// Writes a record for the entry at `index` behind the others; there must be room.
    fn put(&mut self, index: usize, new: &New<'_>) {
        let (form, value, in_place) = match new.version.content {
            Content::Deleted => (Form::Deleted, 0, &[][..]),
            Content::InPlace(value) => (Form::InPlace, narrow(value.len()), value),
            Content::Shared(value) => (Form::Shared, self.share(value.clone()), &[][..]),
        };
        let header = Header::of(new, form, value);
        self.places[index] = u16::try_from(self.end).expect("a leaf is small");
        if header.is_long() {
            let number = self.share(Value::from(new.key));
            self.append(&[&header.encode(), &number.to_ne_bytes(), in_place]);
        } else {
            self.append(&[&header.encode(), new.key, in_place]);
        }
    }

    fn append(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes[self.end..][..part.len()].copy_from_slice(part);
            self.end += part.len();
        }
    }

    fn share(&mut self, value: Value) -> u32 {
        self.shared.push(value);
        narrow(self.shared.len() - 1)
    }

    /// Drops the value of an entry, if it is shared. The caller then changes the record.
    fn unshare_value(&mut self, index: usize) {
        let place = self.places[index];
        let (header, _) = Header::read(&self.bytes, place);
        if header.form == Form::Shared {
            // So that [`Leaf::unshare`] does not find this record.
            Header { form: Form::Deleted, ..header }.write(&mut self.bytes, place);
            self.unshare(header.value);
        }
    }

    /// Removes the shared key or value `number`, which no record uses any more.
    fn unshare(&mut self, number: u32) {
        self.shared.swap_remove(number as usize);
        let moved = narrow(self.shared.len());
        for place in &self.places[..self.heads.len()] {
            let (header, rest) = Header::read_mut(&mut self.bytes, *place);
            if header.key_number(rest) == Some(moved) {
                return rest[..number.to_ne_bytes().len()].copy_from_slice(&number.to_ne_bytes());
            }
            if header.form == Form::Shared && header.value == moved {
                return Header { value: number, ..header }.write(&mut self.bytes, *place);
            }
        }
    }

    /// Drops the record of an entry, with its shared key and value. The caller then removes the entry.
    fn discard(&mut self, index: usize) {
        self.unshare_value(index);
        let place = self.places[index];
        let (header, rest) = Header::read(&self.bytes, place);
        let number = header.key_number(rest);
        let bytes = header.len();
        if let Some(number) = number {
            // With an empty key, so that [`Leaf::unshare`] does not find this record.
            Header { key_len: 0, ..header }.write(&mut self.bytes, place);
            self.unshare(number);
        }
        self.unused += bytes;
    }

    /// Compacts the records if there is no room for `more` bytes behind them.
    fn make_room(&mut self, more: usize) {
        if self.end + more <= ROOM {
            return;
        }
        let bytes = self.bytes;
        self.end = 0;
        self.unused = 0;
        for index in 0..self.len() {
            let record = record_at(&bytes, self.places[index]);
            self.places[index] = u16::try_from(self.end).expect("a leaf is small");
            self.append(&[record]);
        }
    }

    /// Splits a leaf that has no room for an entry at `index`, and inserts the entry. `right`, an empty leaf, becomes
    /// the upper part. Returns the separator of the two.
    pub(super) fn split(&mut self, right: &mut Self, index: usize, new: &New<'_>) -> Key {
        right.known = self.known;
        if index == self.len() {
            // Keys that arrive in order leave full leaves behind.
            right.insert(0, new);
        } else {
            let middle = self.middle();
            right.take_from(self, middle);
            match index.checked_sub(middle) {
                Some(index) if index > 0 => right.insert(index, new),
                _ => self.insert(index, new),
            }
        }
        separator(self.key(self.len() - 1), right.key(0))
    }

    /// The index with half of the bytes before it, and with at least one entry on either side.
    fn middle(&self) -> usize {
        let half = (self.end - self.unused) / 2;
        let mut before = 0;
        let lens = self.places[..self.len()].iter().map(|place| record_at(&self.bytes, *place).len());
        let reaches = |len| {
            before += len;
            before > half
        };
        lens.map(reaches).position(|reached| reached).unwrap_or(0).clamp(1, self.len() - 1)
    }

    /// Moves the entries from `index` on to `right`, an empty leaf.
    pub(super) fn cut(&mut self, right: &mut Self, index: usize) {
        right.known = self.known;
        right.take_from(self, index);
    }

    /// Appends the entries of `right`, the next leaf; there must be room.
    pub(super) fn append_all(&mut self, mut right: Self) {
        self.known = self.known.join(right.known);
        self.take_from(&mut right, 0);
    }

    /// An empty leaf takes the entries of one of another size, for which it must have room, and what that knows.
    pub(super) fn take_all<const M: usize, const OTHER: usize>(&mut self, mut other: Leaf<M, OTHER>) {
        self.known = other.known;
        // Whoever had it outgrow its size has just been here.
        self.note_use();
        self.take_from(&mut other, 0);
    }

    /// Appends the entries of `other`, the next leaf, from `from` on.
    fn take_from<const M: usize, const OTHER: usize>(&mut self, other: &mut Leaf<M, OTHER>, from: usize) {
        let (len, end) = (self.len(), other.len());
        let taken: usize = (from..end).map(|index| record_at(&other.bytes, other.places[index]).len()).sum();
        self.make_room(taken);
        for index in from..end {
            let (key, version) = other.entry(index);
            self.put(len + index - from, &New { key, version });
        }
        self.rebuild(len + end - from);
        for index in (from..end).rev() {
            other.discard(index);
            other.heads.remove(index);
        }
        other.rebuild(from);
    }

    /// Removes the entry at `index`.
    pub(super) fn remove(&mut self, index: usize) {
        self.discard(index);
        self.places.copy_within(index + 1.., index);
        self.heads.remove(index);
    }

    /// Notes that somebody has read here.
    #[inline]
    pub(super) fn note_use(&self) {
        self.heads.note_use();
    }

    /// Whether somebody has read here since the last call.
    pub(super) fn take_use(&mut self) -> bool {
        self.heads.take_use()
    }

    /// Lets the records at or below `to` leave, and shows each. What stays is written anew: mostly that is little.
    pub(super) fn forget(&mut self, to: Lsn, mut show: impl FnMut(&[u8], &Version<'_>)) {
        if (0..self.len()).all(|index| self.entry(index).1.lsn > to) {
            return;
        }
        let before = std::mem::take(self);
        self.known = before.known;
        let mut kept = 0;
        for index in 0..before.len() {
            let (key, version) = before.entry(index);
            if version.lsn > to {
                self.put(kept, &New { key, version });
                kept += 1;
            } else {
                self.known.forgot = self.known.forgot.max(version.lsn);
                show(key, &version);
            }
        }
        self.rebuild(kept);
    }

    /// The newest LSN of its records.
    pub(super) fn newest(&self) -> Lsn {
        (0..self.len()).map(|index| self.entry(index).1.lsn).max().unwrap_or_default()
    }

    /// Computes the prefix and the heads of the first `len` entries.
    fn rebuild(&mut self, len: usize) {
        let Leaf { heads, places, bytes, shared, .. } = self;
        heads.rebuild(len, |index| key_at(bytes, shared, places[index]));
    }

    /// Panics unless the leaf is in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.heads.check(self.len(), |index| self.key(index));
        let mut places = self.places[..self.len()].to_vec();
        places.sort_unstable();
        let end = |place: u16| usize::from(place) + record_at(&self.bytes, place).len();
        assert!(places.windows(2).all(|pair| end(pair[0]) <= usize::from(pair[1])), "records lie over one another");
        let used: usize = places.iter().map(|place| record_at(&self.bytes, *place).len()).sum();
        assert_eq!(used + self.unused, self.end);
        let mut shared = Vec::new();
        for place in places {
            let (header, rest) = Header::read(&self.bytes, place);
            shared.extend(header.key_number(rest));
            shared.extend((header.form == Form::Shared).then_some(header.value));
        }
        shared.sort_unstable();
        assert!(shared.iter().copied().eq(0..narrow(self.shared.len())));
    }
}

#[inline]
fn key_at<'a>(bytes: &'a [u8], shared: &'a [Value], place: u16) -> &'a [u8] {
    let (header, rest) = Header::read(bytes, place);
    match header.key_number(rest) {
        Some(number) => &shared[number as usize],
        None => &rest[..header.key_room()],
    }
}

fn record_at(bytes: &[u8], place: u16) -> &[u8] {
    let (header, _) = Header::read(bytes, place);
    &bytes[usize::from(place)..][..header.len()]
}

/// The shortest key above `low` that is not above `high`.
pub(super) fn separator(low: &[u8], high: &[u8]) -> Key {
    let length = common(low, high) + 1;
    Key::from(&high[..length.min(high.len())])
}
