//! Runs that stay open between reads, so that a read need not open them. A bounded number: each has a descriptor.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::hash::Mixed;
use crate::rt::sync::ShortRwLock as RwLock;
use crate::table::run::read::Run;

/// The open runs, by the numbers of their files. One gives way that was not used since it was last looked at (CLOCK); so those
/// that a long scan passes give way to each other.
#[derive(Debug)]
pub(super) struct OpenRuns {
    /// At most so many.
    most: usize,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    by_number: HashMap<u64, usize, Mixed>,
    /// The next slot that may give way.
    hand: usize,
    /// The bytes that the runs take in memory.
    bytes: usize,
    /// That of the installed MANIFEST.
    generation: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    run: Arc<Run>,
    /// That it takes in memory.
    bytes: usize,
    /// Since the hand has passed. Nothing but speed depends on it.
    was_used: AtomicBool,
}

impl Slot {
    fn new(number: u64, run: &Arc<Run>) -> Self {
        Slot { number, run: Arc::clone(run), bytes: run.memory(), was_used: AtomicBool::new(false) }
    }
}

impl OpenRuns {
    pub(super) fn new(most: usize) -> Self {
        OpenRuns { most, table: RwLock::default() }
    }

    /// The run in the file with this number, if it is open.
    pub(super) fn get(&self, number: u64) -> Option<Arc<Run>> {
        let table = self.table.read();
        let slot = &table.slots[*table.by_number.get(&number)?];
        // Written only where it changes: the line is shared by all readers.
        if !slot.was_used.load(Ordering::Relaxed) {
            slot.was_used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&slot.run))
    }

    /// Keeps a run open that was opened for a reader of the layers of this generation; or returns the one that someone else has
    /// opened meanwhile. One of layers that are installed no more is not kept: its file is to go with its last reader.
    pub(super) fn keep(&self, number: u64, run: Arc<Run>, generation: u64) -> Arc<Run> {
        // What gives way is closed without the lock.
        let (kept, _closed) = {
            let mut table = self.table.write();
            if let Some(slot) = table.by_number.get(&number) {
                (Arc::clone(&table.slots[*slot].run), Some(run))
            } else if self.most == 0 || generation < table.generation {
                (run, None)
            } else {
                let closed = table.insert(Slot::new(number, &run), self.most);
                (run, closed)
            }
        };
        kept
    }

    /// From now on the layers of this generation are installed, which have the files with these numbers. The other runs are
    /// closed, once no reader has them.
    pub(super) fn follow(&self, generation: u64, numbers: &HashSet<u64, Mixed>) {
        let _closed: Vec<Slot> = {
            let mut table = self.table.write();
            table.generation = table.generation.max(generation);
            table.remove(|slot| !numbers.contains(&slot.number))
        };
    }

    /// Closes all, each once no reader has it.
    pub(super) fn close_all(&self) {
        let _closed: Vec<Slot> = self.table.write().remove(|_| true);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.read().slots.len()
    }

    /// The bytes that they take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.table.read().bytes
    }
}

impl Table {
    /// Puts in one that is not there. Returns the one that gave way to it.
    fn insert(&mut self, slot: Slot, most: usize) -> Option<Arc<Run>> {
        self.bytes += slot.bytes;
        if self.slots.len() < most {
            self.by_number.insert(slot.number, self.slots.len());
            self.slots.push(slot);
            return None;
        }
        loop {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            if !self.slots[at].was_used.swap(false, Ordering::Relaxed) {
                self.by_number.insert(slot.number, at);
                let before = std::mem::replace(&mut self.slots[at], slot);
                self.by_number.remove(&before.number);
                self.bytes -= before.bytes;
                return Some(before.run);
            }
        }
    }

    fn remove(&mut self, goes: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let removed: Vec<Slot> = self.slots.extract_if(.., |slot| goes(slot)).collect();
        if !removed.is_empty() {
            self.bytes -= removed.iter().map(|slot| slot.bytes).sum::<usize>();
            self.by_number = self.slots.iter().enumerate().map(|(at, slot)| (slot.number, at)).collect();
        }
        removed
    }
}
