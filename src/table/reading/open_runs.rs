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
    /// At most so many, ...
    most: usize,
    /// ... which take at most so many bytes of memory, but for one.
    most_bytes: u64,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    by_number: HashMap<u64, usize, Mixed>,
    /// The next slot that may give way.
    hand: usize,
    /// The bytes that the runs take in memory.
    bytes: u64,
    /// That of the installed MANIFEST.
    generation: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    run: Arc<Run>,
    /// That it takes in memory.
    bytes: u64,
    /// Since the hand has passed. Nothing but speed depends on it.
    was_used: AtomicBool,
}

impl Slot {
    fn new(number: u64, run: &Arc<Run>) -> Self {
        Slot { number, run: Arc::clone(run), bytes: run.memory() as u64, was_used: AtomicBool::new(false) }
    }
}

impl OpenRuns {
    pub(super) fn new(most: usize, most_bytes: u64) -> Self {
        OpenRuns { most, most_bytes, table: RwLock::default() }
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
        let slot = Slot::new(number, &run);
        // What gives way is closed without the lock.
        let (kept, _closed) = {
            let mut table = self.table.write();
            if let Some(slot) = table.by_number.get(&number) {
                (Arc::clone(&table.slots[*slot].run), vec![run])
            } else if self.most == 0 || generation < table.generation {
                (run, Vec::new())
            } else {
                (run, table.insert(slot, self.most, self.most_bytes))
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
    pub(super) fn bytes(&self) -> u64 {
        self.table.read().bytes
    }
}

impl Table {
    /// Puts in one that is not there. Returns those that gave way to it.
    fn insert(&mut self, slot: Slot, most: usize, most_bytes: u64) -> Vec<Arc<Run>> {
        let mut closed = Vec::new();
        while !self.slots.is_empty() && (self.slots.len() >= most || self.bytes + slot.bytes > most_bytes) {
            closed.push(self.give_way());
        }
        self.bytes += slot.bytes;
        self.by_number.insert(slot.number, self.slots.len());
        self.slots.push(slot);
        closed
    }

    /// Takes out one that was not used since the hand came by.
    fn give_way(&mut self) -> Arc<Run> {
        loop {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            if !self.slots[at].was_used.swap(false, Ordering::Relaxed) {
                // The last one comes to its place, and is looked at when the hand has gone round.
                let before = self.slots.swap_remove(at);
                self.by_number.remove(&before.number);
                if let Some(moved) = self.slots.get(at) {
                    self.by_number.insert(moved.number, at);
                }
                self.bytes -= before.bytes;
                return before.run;
            }
        }
    }

    fn remove(&mut self, goes: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let removed: Vec<Slot> = self.slots.extract_if(.., |slot| goes(slot)).collect();
        if !removed.is_empty() {
            self.bytes -= removed.iter().map(|slot| slot.bytes).sum::<u64>();
            self.by_number = self.slots.iter().enumerate().map(|(at, slot)| (slot.number, at)).collect();
        }
        removed
    }
}
