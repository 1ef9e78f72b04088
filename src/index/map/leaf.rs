//! The nodes that hold the entries.

use super::super::key::Key;
use super::super::versions::Chain;
use super::heads::{Heads, common};
use super::row::Row;

/// A key with its versions.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) chain: Chain,
}

/// Up to `N` entries. They stay where they were appended: an insert among them moves heads and slots only.
#[derive(Debug)]
pub(super) struct Leaf<const N: usize> {
    heads: Heads<N>,
    /// Which of the entries comes at each place in the order.
    slots: [u8; N],
    entries: Row<Entry, N>,
}

impl<const N: usize> Leaf<N> {
    const SLOTS_ARE_BYTES: () = assert!(N >= 4 && N <= 256);

    /// The leaf of an empty map.
    pub(super) fn empty() -> Box<Self> {
        Leaf::with_entries(Row::new())
    }

    fn with_entries(entries: Row<Entry, N>) -> Box<Self> {
        const { Self::SLOTS_ARE_BYTES };
        let mut leaf = Box::new(Leaf { heads: Heads::new(), slots: [0; N], entries });
        leaf.rebuild();
        leaf
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == N
    }

    /// The entry at `index` in the order.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> &Entry {
        &self.entries[usize::from(self.slots[index])]
    }

    pub(super) fn entry_mut(&mut self, index: usize) -> &mut Entry {
        &mut self.entries[usize::from(self.slots[index])]
    }

    /// Where `key` is (`Ok`), or would be.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(key, |index| &self.entry(index).key)
    }

    /// Puts `entry` at `index` in the order; there must be room.
    pub(super) fn insert(&mut self, index: usize, entry: Entry) {
        let Leaf { heads, slots, entries } = self;
        heads.insert(index, &entry.key, |index| &entries[usize::from(slots[index])].key);
        slots.copy_within(index..entries.len(), index + 1);
        slots[index] = slot(entries.len());
        entries.push(entry);
    }

    /// Puts `entry` at `index` in the order of a full leaf, which splits. Returns the part behind it, and what
    /// separates the two.
    pub(super) fn split(&mut self, index: usize, entry: Entry) -> (Key, Box<Self>) {
        let mut right;
        if index == N {
            // Keys that come in order leave full leaves behind.
            right = Leaf::with_entries(Row::new());
            right.insert(0, entry);
        } else {
            let middle = N / 2;
            self.sort();
            let mut entries = Row::new();
            entries.take_from(&mut self.entries, middle);
            right = Leaf::with_entries(entries);
            self.rebuild();
            match index.checked_sub(middle) {
                Some(index) if index > 0 => right.insert(index, entry),
                _ => self.insert(index, entry),
            }
        }
        (separator(&self.entry(self.len() - 1).key, &right.entry(0).key), right)
    }

    /// Takes in the entries of the leaf behind it; there must be room.
    pub(super) fn append(&mut self, right: &mut Self) {
        self.sort();
        right.sort();
        self.entries.take_from(&mut right.entries, 0);
        self.rebuild();
    }

    /// Takes the entry at `index` in the order out.
    pub(super) fn remove(&mut self, index: usize) -> Option<Entry> {
        let freed = self.slots[index];
        self.slots.copy_within(index + 1..self.entries.len(), index);
        self.heads.remove(index);
        let entry = self.entries.swap_remove(usize::from(freed));
        let moved = slot(self.entries.len());
        if let Some(slot) = self.slots[..self.entries.len()].iter_mut().find(|slot| **slot == moved) {
            *slot = freed;
        }
        entry
    }

    /// Brings the entries themselves into order. Heads are left as they are.
    fn sort(&mut self) {
        for index in 0..self.entries.len() {
            let mut slot = usize::from(self.slots[index]);
            // What belongs here may have been swapped away, to where the entry that was here went.
            while slot < index {
                slot = usize::from(self.slots[slot]);
            }
            self.entries.swap(index, slot);
        }
        self.number();
    }

    fn number(&mut self) {
        for (index, place) in self.slots.iter_mut().enumerate() {
            *place = slot(index);
        }
    }

    /// Finds prefix and heads anew for entries that are in order.
    fn rebuild(&mut self) {
        self.number();
        let entries = &self.entries;
        self.heads.rebuild(entries.len(), |index| &entries[index].key);
    }

    /// Panics unless the leaf is in order.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut slots = self.slots[..self.len()].to_vec();
        slots.sort_unstable();
        assert!(slots.iter().enumerate().all(|(index, &place)| place == slot(index)));
        self.heads.check(self.len(), |index| &self.entry(index).key);
    }
}

/// The number of a slot: there are at most 256.
fn slot(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// The shortest key above `low` that is not above `high`.
fn separator(low: &[u8], high: &[u8]) -> Key {
    let length = common(low, high) + 1;
    Key::from(&high[..length.min(high.len())])
}
