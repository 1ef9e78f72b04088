//! The nodes that hold the entries, with the bytes of their keys and of all but large values.

use super::super::key::Key;
use super::super::value::Value;
use super::super::version::{Content, Seq, Version};
use super::heads::{Heads, common};
use crate::words::types::Lsn;

/// An entry that is to be put where none is.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: Version<'a>,
}

/// A key and its newest version, but for the bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    lsn: Lsn,
    older: Seq,
    /// Where the key begins in the leaf's bytes; a value that lies there comes behind it.
    at: u32,
    key_len: u16,
    form: Form,
    /// The length of a value among the bytes, or which of the shared values it is.
    value: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Deleted,
    InPlace,
    Shared,
}

impl Entry {
    const NONE: Entry = Entry { lsn: Lsn::ZERO, older: Seq::NONE, at: 0, key_len: 0, form: Form::Deleted, value: 0 };

    fn key_end(&self) -> usize {
        self.at as usize + usize::from(self.key_len)
    }

    fn value_len(&self) -> usize {
        if self.form == Form::InPlace { self.value as usize } else { 0 }
    }

    fn end(&self) -> usize {
        self.key_end() + self.value_len()
    }

    fn bytes(&self) -> std::ops::Range<usize> {
        self.at as usize..self.end()
    }
}

/// Up to `N` entries. They stay where they were appended: an insert among them moves heads and slots only.
///
/// What a search and its caller look at lies in one piece of memory, and the bytes of all entries in another: between
/// two flushes both come from far.
#[derive(Debug)]
pub(super) struct Leaf<const N: usize> {
    heads: Heads<N>,
    /// Which of the entries comes at each place in the order.
    slots: [u8; N],
    entries: [Entry; N],
    bytes: Vec<u8>,
    /// How many of the bytes are of no entry.
    unused: usize,
    /// Values that are too large to be moved with their leaf.
    shared: Vec<Value>,
}

/// A number of bytes, or of values, in a leaf.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a leaf holds few keys of 64 KiB at most, and small values")
}

impl<const N: usize> Leaf<N> {
    const IS_WIDE: () = assert!(N >= 4 && N <= 256);

    /// The leaf of an empty map.
    pub(super) fn empty() -> Box<Self> {
        const { Self::IS_WIDE };
        Box::new(Leaf {
            heads: Heads::new(),
            slots: [0; N],
            entries: [Entry::NONE; N],
            bytes: Vec::new(),
            unused: 0,
            shared: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == N
    }

    #[inline]
    fn entry(&self, index: usize) -> &Entry {
        &self.entries[usize::from(self.slots[index])]
    }

    /// The key at `index` in the order.
    #[inline]
    pub(super) fn key(&self, index: usize) -> &[u8] {
        key_of(&self.bytes, self.entry(index))
    }

    /// The newest version of the key at `index`.
    #[inline]
    pub(super) fn version(&self, index: usize) -> Version<'_> {
        let entry = self.entry(index);
        let content = match entry.form {
            Form::Deleted => Content::Deleted,
            Form::InPlace => Content::InPlace(&self.bytes[entry.key_end()..entry.end()]),
            Form::Shared => Content::Shared(&self.shared[entry.value as usize]),
        };
        Version { lsn: entry.lsn, older: entry.older, content }
    }

    /// Where `key` is (`Ok`), or would be.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(key, |index| self.key(index))
    }

    /// Puts an entry at `index` in the order; there must be room.
    pub(super) fn insert(&mut self, index: usize, new: &New<'_>) {
        let len = self.len();
        let Leaf { heads, slots, entries, bytes, .. } = self;
        heads.insert(index, new.key, |index| key_of(bytes, &entries[usize::from(slots[index])]));
        slots.copy_within(index..len, index + 1);
        slots[index] = slot(len);
        self.store(len, new);
    }

    /// Gives the key at `index` another version.
    pub(super) fn set(&mut self, index: usize, version: Version<'_>) {
        let slot = usize::from(self.slots[index]);
        let entry = &mut self.entries[slot];
        (entry.lsn, entry.older) = (version.lsn, version.older);
        let old_len = entry.value_len();
        if let (Form::InPlace, Content::InPlace(value)) = (entry.form, version.content)
            && value.len() <= old_len
        {
            let start = entry.key_end();
            entry.value = narrow(value.len());
            self.bytes[start..start + value.len()].copy_from_slice(value);
            return self.free(old_len - value.len());
        }
        self.unshare(slot);
        let entry = &mut self.entries[slot];
        (entry.form, entry.value) = (Form::Deleted, 0);
        if let Content::InPlace(_) = version.content {
            let key = key_of(&self.bytes, entry).to_vec();
            self.unused += key.len() + old_len;
            // Until it is stored it has no bytes, also for a compaction that makes room for them.
            *entry = Entry::NONE;
            self.store(slot, &New { key: &key, version });
        } else {
            self.share(slot, version.content);
            self.free(old_len);
        }
    }

    /// Takes the bytes, or the value, of a new entry in.
    fn store(&mut self, slot: usize, new: &New<'_>) {
        let value = if let Content::InPlace(value) = new.version.content { value } else { &[] };
        self.make_room(new.key.len() + value.len());
        let at = narrow(self.bytes.len());
        self.bytes.extend_from_slice(new.key);
        self.bytes.extend_from_slice(value);
        let key_len = u16::try_from(new.key.len()).expect("a key has at most 65,535 bytes");
        let form = if let Content::InPlace(_) = new.version.content { Form::InPlace } else { Form::Deleted };
        let Version { lsn, older, content } = new.version;
        self.entries[slot] = Entry { lsn, older, at, key_len, form, value: narrow(value.len()) };
        self.share(slot, content);
    }

    fn share(&mut self, slot: usize, content: Content<'_>) {
        if let Content::Shared(value) = content {
            let entry = &mut self.entries[slot];
            (entry.form, entry.value) = (Form::Shared, narrow(self.shared.len()));
            self.shared.push(value.clone());
        }
    }

    /// Lets go of a value of its own; the entry is to be changed.
    fn unshare(&mut self, slot: usize) {
        let entry = self.entries[slot];
        if entry.form != Form::Shared {
            return;
        }
        self.shared.swap_remove(entry.value as usize);
        let moved = narrow(self.shared.len());
        let of_moved = |entry: &&mut Entry| entry.form == Form::Shared && entry.value == moved;
        if let Some(last) = self.entries.iter_mut().find(of_moved) {
            last.value = entry.value;
        }
    }

    /// Room for so many bytes more.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            if self.unused * 4 > self.bytes.len() {
                self.compact(more);
            } else {
                self.bytes.reserve_exact(more.max(self.bytes.len() / 4));
            }
        }
    }

    /// So many bytes are of no entry any more.
    fn free(&mut self, bytes: usize) {
        self.unused += bytes;
        if self.unused * 2 > self.bytes.len() {
            self.compact(0);
        }
    }

    /// Leaves out the unused bytes.
    fn compact(&mut self, more: usize) {
        let used = self.bytes.len() - self.unused;
        let mut bytes = Vec::with_capacity(used + (used / 4).max(more));
        let len = self.len();
        for entry in &mut self.entries[..len] {
            let range = entry.bytes();
            entry.at = narrow(bytes.len());
            bytes.extend_from_slice(&self.bytes[range]);
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
            self.sort();
            right.take_from(self, middle);
            self.rebuild(middle);
            self.compact(0);
            match index.checked_sub(middle) {
                Some(index) if index > 0 => right.insert(index, new),
                _ => self.insert(index, new),
            }
        }
        (separator(self.key(self.len() - 1), right.key(0)), right)
    }

    /// Takes in the entries of the leaf behind it; there must be room.
    pub(super) fn append(&mut self, right: &mut Self) {
        self.sort();
        right.sort();
        self.take_from(right, 0);
    }

    /// Brings the entries themselves into order. Heads are left as they are.
    fn sort(&mut self) {
        let entries = self.entries;
        for (index, entry) in self.entries[..self.heads.len()].iter_mut().enumerate() {
            *entry = entries[usize::from(self.slots[index])];
        }
        self.number();
    }

    fn number(&mut self) {
        for (index, place) in self.slots.iter_mut().enumerate() {
            *place = slot(index);
        }
    }

    /// Appends the entries of `other`, the next leaf, from `from` on; those of both are in order. What `other` is left
    /// with must be rebuilt.
    fn take_from(&mut self, other: &mut Self, from: usize) {
        let (mut len, end) = (self.len(), other.len());
        let taken: usize = other.entries[from..end].iter().map(|entry| entry.bytes().len()).sum();
        self.make_room(taken + taken / 2);
        for index in from..end {
            let entry = &other.entries[index];
            let moved = Entry { at: narrow(self.bytes.len()), ..*entry };
            self.bytes.extend_from_slice(&other.bytes[entry.bytes()]);
            self.entries[len] = moved;
            if moved.form == Form::Shared {
                let value = other.shared[moved.value as usize].clone();
                self.share(len, Content::Shared(&value));
            }
            len += 1;
        }
        for index in from..end {
            other.unshare(index);
            other.entries[index] = Entry::NONE;
        }
        other.unused += taken;
        self.rebuild(len);
    }

    /// Takes the entry at `index` in the order out.
    pub(super) fn remove(&mut self, index: usize) {
        let freed = usize::from(self.slots[index]);
        self.unshare(freed);
        let last = self.len() - 1;
        let bytes = self.entries[freed].bytes().len();
        self.slots.copy_within(index + 1..=last, index);
        self.heads.remove(index);
        self.entries.swap(freed, last);
        self.entries[last] = Entry::NONE;
        if let Some(moved) = self.slots[..last].iter_mut().find(|place| usize::from(**place) == last) {
            *moved = slot(freed);
        }
        self.free(bytes);
    }

    /// Finds prefix and heads anew for the first `len` entries, which are in order.
    fn rebuild(&mut self, len: usize) {
        self.number();
        let Leaf { heads, entries, bytes, .. } = self;
        heads.rebuild(len, |index| key_of(bytes, &entries[index]));
    }

    /// Panics unless the leaf is in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let entries = &self.entries[..self.len()];
        let mut slots = self.slots[..self.len()].to_vec();
        slots.sort_unstable();
        assert!(slots.iter().enumerate().all(|(index, &place)| place == slot(index)));
        self.heads.check(self.len(), |index| self.key(index));
        let used: usize = entries.iter().map(|entry| entry.bytes().len()).sum();
        assert_eq!(used + self.unused, self.bytes.len());
        let mut places: Vec<_> = entries.iter().map(Entry::bytes).filter(|bytes| !bytes.is_empty()).collect();
        places.sort_by_key(|bytes| bytes.start);
        assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start), "bytes of two entries");
        let shared = entries.iter().filter(|entry| entry.form == Form::Shared);
        let mut shared: Vec<_> = shared.map(|entry| entry.value as usize).collect();
        shared.sort_unstable();
        assert!(shared.iter().copied().eq(0..self.shared.len()));
        assert!(self.entries[self.len()..].iter().all(|entry| entry.form == Form::Deleted && entry.end() == 0));
    }
}

/// The number of a slot: there are at most 256.
fn slot(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

#[inline]
fn key_of<'a>(bytes: &'a [u8], entry: &Entry) -> &'a [u8] {
    &bytes[entry.at as usize..entry.key_end()]
}

/// The shortest key above `low` that is not above `high`.
fn separator(low: &[u8], high: &[u8]) -> Key {
    let length = common(low, high) + 1;
    Key::from(&high[..length.min(high.len())])
}
