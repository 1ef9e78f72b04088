//! The nodes that hold the entries: slotted pages in memory.

use super::super::key::Key;
use super::super::value::Value;
use super::super::version::{Content, Version};
use super::heads::{Heads, common};
use super::record::{Form, Header};

/// An entry that is to be put where none is.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: Version<'a>,
}

/// Up to `N` entries. A search comes from the heads to the place of a record, and the record has everything in one piece:
/// between two flushes both come from far.
#[derive(Debug)]
pub(super) struct Leaf<const N: usize> {
    heads: Heads<N>,
    /// Where the record of each key begins, in the order of the keys.
    places: [u32; N],
    /// The records, in the order in which they were put.
    bytes: Vec<u8>,
    /// How many of the bytes are of no record.
    unused: usize,
    /// Values that are too large to be moved with their leaf.
    shared: Vec<Value>,
}

/// A place in a leaf, or a number of values there.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a leaf holds few keys of 64 KiB at most, and small values")
}

impl<const N: usize> Leaf<N> {
    const IS_WIDE: () = assert!(N >= 4);

    /// The leaf of an empty map.
    pub(super) fn empty() -> Box<Self> {
        const { Self::IS_WIDE };
        let (heads, places) = (Heads::new(), [0; N]);
        Box::new(Leaf { heads, places, bytes: Vec::new(), unused: 0, shared: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == N
    }

    /// The key at `index` in the order.
    #[inline]
    pub(super) fn key(&self, index: usize) -> &[u8] {
        key_at(&self.bytes, self.places[index])
    }

    /// The key at `index`, and its newest version.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> (&[u8], Version<'_>) {
        let (header, rest) = Header::read(&self.bytes, self.places[index]);
        let (key, rest) = rest.split_at(header.key_len());
        let content = match header.form {
            Form::Deleted => Content::Deleted,
            Form::InPlace => Content::InPlace(&rest[..header.value as usize]),
            Form::Shared => Content::Shared(&self.shared[header.value as usize]),
        };
        (key, Version { lsn: header.lsn, older: header.older, content })
    }

    /// Where `key` is (`Ok`), or would be.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(key, |index| self.key(index))
    }

    /// Puts an entry at `index` in the order; there must be room.
    pub(super) fn insert(&mut self, index: usize, new: &New<'_>) {
        let len = self.len();
        let Leaf { heads, places, bytes, .. } = self;
        heads.insert(index, new.key, |index| key_at(bytes, places[index]));
        places.copy_within(index..len, index + 1);
        self.place(index, new);
    }

    /// Gives the key at `index` another version.
    pub(super) fn set(&mut self, index: usize, version: Version<'_>) {
        let place = self.places[index];
        let (header, rest) = Header::read_mut(&mut self.bytes, place);
        let room = header.value_len();
        if let (Form::InPlace, Content::InPlace(value)) = (header.form, version.content)
            && value.len() <= room
        {
            rest[header.key_len()..header.key_len() + value.len()].copy_from_slice(value);
            Header { lsn: version.lsn, older: version.older, value: narrow(value.len()), ..header }
                .write(&mut self.bytes, place);
            return self.free(room - value.len());
        }
        let key = rest[..header.key_len()].to_vec();
        // For whoever looks through the shared values.
        Header { form: Form::Deleted, ..header }.write(&mut self.bytes, place);
        if header.form == Form::Shared {
            self.unshare(header.value);
        }
        self.unused += header.len();
        self.place(index, &New { key: &key, version });
        self.free(0);
    }

    /// Puts a record for the entry at `index`, and forgets where one was.
    fn place(&mut self, index: usize, new: &New<'_>) {
        let Version { lsn, older, content } = new.version;
        let (form, value, in_place) = match content {
            Content::Deleted => (Form::Deleted, 0, &[][..]),
            Content::InPlace(value) => (Form::InPlace, narrow(value.len()), value),
            Content::Shared(_) => (Form::Shared, narrow(self.shared.len()), &[][..]),
        };
        if let Content::Shared(value) = content {
            self.shared.push(value.clone());
        }
        let header = Header::new(lsn, older, new.key, form, value);
        self.make_room(index, header.len());
        self.places[index] = narrow(self.bytes.len());
        header.append(&mut self.bytes);
        self.bytes.extend_from_slice(new.key);
        self.bytes.extend_from_slice(in_place);
    }

    /// Lets go of a shared value; its record is to be changed.
    fn unshare(&mut self, value: u32) {
        self.shared.swap_remove(value as usize);
        let moved = narrow(self.shared.len());
        for place in &self.places[..self.heads.len()] {
            let (header, _) = Header::read(&self.bytes, *place);
            if header.form == Form::Shared && header.value == moved {
                return Header { value, ..header }.write(&mut self.bytes, *place);
            }
        }
    }

    /// Room for so many bytes more, which will be the record of the entry at `index`.
    fn make_room(&mut self, index: usize, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            if self.unused * 4 > self.bytes.len() {
                self.compact(Some(index), more);
            } else {
                self.bytes.reserve_exact(more.max(self.bytes.len() / 4));
            }
        }
    }

    /// So many bytes are of no record any more.
    fn free(&mut self, bytes: usize) {
        self.unused += bytes;
        if self.unused * 2 > self.bytes.len() {
            self.compact(None, 0);
        }
    }

    /// Brings the records into the order of the keys, and leaves out what is unused, and the record of `without`.
    fn compact(&mut self, without: Option<usize>, more: usize) {
        let used = self.bytes.len() - self.unused;
        let mut bytes = Vec::with_capacity(used + more.max(used / 4));
        let len = self.len();
        for (index, place) in self.places[..len].iter_mut().enumerate() {
            if Some(index) != without {
                let record = record_at(&self.bytes, *place);
                *place = narrow(bytes.len());
                bytes.extend_from_slice(record);
            }
        }
        self.bytes = bytes;
        self.unused = 0;
    }

    /// Puts an entry at `index` in the order of a full leaf, which splits. Returns the part behind it, and what
    /// separates the two.
    pub(super) fn split(&mut self, index: usize, new: &New<'_>) -> (Key, Box<Self>) {
        let mut right = Leaf::empty();
        if index == N {
            // Keys that come in order leave full leaves behind.
            right.bytes.reserve_exact(self.bytes.len() - self.unused);
            right.insert(0, new);
        } else {
            let middle = N / 2;
            right.take_from(self, middle);
            match index.checked_sub(middle) {
                Some(index) if index > 0 => right.insert(index, new),
                _ => self.insert(index, new),
            }
        }
        (separator(self.key(self.len() - 1), right.key(0)), right)
    }

    /// Takes in the entries of the leaf behind it; there must be room.
    pub(super) fn append(&mut self, right: &mut Self) {
        self.take_from(right, 0);
    }

    /// Appends the entries of `other`, the next leaf, from `from` on.
    fn take_from(&mut self, other: &mut Self, from: usize) {
        let (mut len, end) = (self.len(), other.len());
        let taken: usize = other.places[from..end].iter().map(|place| record_at(&other.bytes, *place).len()).sum();
        self.bytes.reserve_exact(taken + taken / 2);
        let mut unshared = Vec::new();
        for place in &other.places[from..end] {
            let at = narrow(self.bytes.len());
            self.bytes.extend_from_slice(record_at(&other.bytes, *place));
            self.places[len] = at;
            len += 1;
            let (header, _) = Header::read(&self.bytes, at);
            if header.form == Form::Shared {
                Header { value: narrow(self.shared.len()), ..header }.write(&mut self.bytes, at);
                self.shared.push(other.shared[header.value as usize].clone());
                unshared.push(header.value);
            }
        }
        self.rebuild(len);
        other.rebuild(from);
        // From the last on, so that none of those still to go is moved to another's place.
        unshared.sort_unstable();
        unshared.into_iter().rev().for_each(|value| other.unshare(value));
        other.unused += taken;
        other.compact(None, 0);
    }

    /// Takes the entry at `index` in the order out.
    pub(super) fn remove(&mut self, index: usize) {
        let len = self.len();
        let (header, _) = Header::read(&self.bytes, self.places[index]);
        self.places.copy_within(index + 1..len, index);
        self.heads.remove(index);
        if header.form == Form::Shared {
            self.unshare(header.value);
        }
        self.free(header.len());
    }

    /// Finds prefix and heads anew for the first `len` entries.
    fn rebuild(&mut self, len: usize) {
        let Leaf { heads, places, bytes, .. } = self;
        heads.rebuild(len, |index| key_at(bytes, places[index]));
    }

    /// Panics unless the leaf is in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.heads.check(self.len(), |index| self.key(index));
        let mut places = self.places[..self.len()].to_vec();
        places.sort_unstable();
        let end = |place: u32| place as usize + record_at(&self.bytes, place).len();
        assert!(places.windows(2).all(|pair| end(pair[0]) <= pair[1] as usize), "records lie over one another");
        let used: usize = places.iter().map(|place| record_at(&self.bytes, *place).len()).sum();
        assert_eq!(used + self.unused, self.bytes.len());
        let headers = places.iter().map(|place| Header::read(&self.bytes, *place).0);
        let shared = headers.filter(|header| header.form == Form::Shared);
        let mut shared: Vec<_> = shared.map(|header| header.value as usize).collect();
        shared.sort_unstable();
        assert!(shared.iter().copied().eq(0..self.shared.len()));
    }
}

#[inline]
fn key_at(bytes: &[u8], place: u32) -> &[u8] {
    let (header, rest) = Header::read(bytes, place);
    &rest[..header.key_len()]
}

fn record_at(bytes: &[u8], place: u32) -> &[u8] {
    let (header, _) = Header::read(bytes, place);
    &bytes[place as usize..][..header.len()]
}

/// The shortest key above `low` that is not above `high`.
fn separator(low: &[u8], high: &[u8]) -> Key {
    let length = common(low, high) + 1;
    Key::from(&high[..length.min(high.len())])
}
