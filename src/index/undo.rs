//! The versions of one keyspace that were superseded recently: a reader that asks for an LSN from the durable one on
//! may still need them.
//!
//! They lie in the order in which they were superseded, which is the order in which they become garbage. So a commit
//! that overwrites a key appends here, and pruning removes from the front: neither searches the tree a second time.

use std::collections::VecDeque;

use crate::base::types::Lsn;

use super::value::Value;
use super::version::{Content, Seq, Version};

/// A superseded version.
#[derive(Debug)]
pub(super) struct Superseded {
    pub(super) lsn: Lsn,
    /// The LSN that superseded it.
    pub(super) by: Lsn,
    /// Whether a tombstone superseded it, if only for a moment within its transaction.
    pub(super) by_tombstone: bool,
    older: Seq,
    /// An older version of the key, several steps away, so that a search takes few steps (a skew-binary list: Myers,
    /// "An applicative random-access stack", 1983).
    jump: Seq,
    /// The number of older versions of the key, counted at least as far as jumps go.
    depth: u32,
    key_len: u16,
    content: OldContent,
    /// Where the key begins, counted like [`Undo::begin`].
    at: u64,
}

#[derive(Debug)]
enum OldContent {
    Deleted,
    /// This number of bytes behind the key.
    InPlace(u32),
    Shared(Value),
}

impl Superseded {
    /// Whether it no longer counts as a version: the write that superseded it was taken back.
    pub(super) fn is_void(&self) -> bool {
        self.lsn == Lsn::ZERO
    }

    fn len(&self) -> usize {
        let value = if let OldContent::InPlace(length) = self.content { length as usize } else { 0 };
        usize::from(self.key_len) + value
    }
}

/// Superseded versions, oldest first.
#[derive(Debug)]
pub(super) struct Undo {
    /// The number of the first record.
    first: u64,
    records: VecDeque<Superseded>,
    /// The position of the first of `bytes`. Positions count all bytes ever appended.
    begin: u64,
    /// Keys and values of the records, in the same order.
    bytes: VecDeque<u8>,
    versions: usize,
    /// Bytes of values that lie elsewhere. Others may share them.
    shared: usize,
}

impl Default for Undo {
    fn default() -> Self {
        // Numbers begin above [`Seq::NONE`].
        Undo {
            first: Seq::NONE.0 + 1,
            records: VecDeque::new(),
            begin: 0,
            bytes: VecDeque::new(),
            versions: 0,
            shared: 0,
        }
    }
}

impl Undo {
    /// Unused memory above this is given back.
    const SPARE: usize = 1 << 20;

    pub(super) fn versions(&self) -> usize {
        self.versions
    }

    /// The bytes that they take, unused memory included.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Superseded>() + self.shared
    }

    /// The record `seq`, unless it was pruned.
    fn record(&self, seq: Seq) -> Option<&Superseded> {
        self.records.get(usize::try_from(seq.0.checked_sub(self.first)?).ok()?)
    }

    /// Whether this one was not pruned yet.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.record(seq).is_some()
    }

    /// Appends a version of `key` that the commit `by` supersedes.
    pub(super) fn push(&mut self, key: &[u8], version: &Version<'_>, by: Lsn, by_tombstone: bool) -> Seq {
        let seq = Seq(self.first + self.records.len() as u64);
        let at = self.begin + self.bytes.len() as u64;
        self.bytes.extend(key);
        let content = match version.content {
            Content::Deleted => OldContent::Deleted,
            Content::InPlace(value) => {
                self.bytes.extend(value);
                OldContent::InPlace(u32::try_from(value.len()).expect("a value in place is small"))
            }
            Content::Shared(value) => {
                self.shared += value.len();
                OldContent::Shared(value.clone())
            }
        };
        let (jump, depth) = self.jump_from(version.older);
        let key_len = u16::try_from(key.len()).expect("a key has at most 65,535 bytes");
        let Version { lsn, older, .. } = *version;
        let record = Superseded { lsn, by, by_tombstone, older, jump, depth, key_len, content, at };
        self.versions += 1;
        self.records.push_back(record);
        seq
    }

    /// The jump target of a version whose predecessor is `older`, and the depth of that version.
    fn jump_from(&self, older: Seq) -> (Seq, u32) {
        let Some(before) = self.record(older) else { return (older, 0) };
        let depth = before.depth.saturating_add(1);
        let jump = match self.record(before.jump) {
            Some(far) if before.depth - far.depth == far.depth.saturating_sub(self.depth_of(far.jump)) => far.jump,
            _ => older,
        };
        (jump, depth)
    }

    fn depth_of(&self, seq: Seq) -> u32 {
        self.record(seq).map_or(0, |record| record.depth)
    }

    /// Handles a commit `by` that deletes a key which it has put before; the put made `seq` superseded. Returns the LSN
    /// and the predecessor of the tombstone. If `seq` was a tombstone, these are those of `seq`, since nothing has
    /// changed. Returns `None` if the key did not exist before the commit.
    pub(super) fn delete_again(&mut self, seq: Seq, by: Lsn) -> Option<(Lsn, Seq)> {
        let index = usize::try_from(seq.0.checked_sub(self.first)?).ok()?;
        let record = self.records.get_mut(index).filter(|record| record.by == by)?;
        if !matches!(record.content, OldContent::Deleted) {
            record.by_tombstone = true;
            return Some((by, seq));
        }
        self.versions -= usize::from(!record.is_void());
        Some((std::mem::replace(&mut record.lsn, Lsn::ZERO), record.older))
    }

    /// The newest version at or below `at`, searched from `seq` on. `None` if it is not here.
    pub(super) fn find(&self, seq: Seq, at: Lsn) -> Option<&Superseded> {
        self.find_in_steps(seq, at).0
    }

    /// [`Undo::find`], and the number of steps it took.
    pub(super) fn find_in_steps(&self, mut seq: Seq, at: Lsn) -> (Option<&Superseded>, usize) {
        for steps in 0.. {
            let record = match self.record(seq) {
                Some(record) if record.lsn > at => record,
                found => return (found, steps),
            };
            // Pruned versions are older than all that are here: a jump to one would go too far.
            seq = match self.record(record.jump) {
                Some(far) if far.lsn > at => record.jump,
                _ => record.older,
            };
        }
        (None, 0)
    }

    pub(super) fn front(&self) -> Option<&Superseded> {
        self.records.front()
    }

    pub(super) fn key(&self, record: &Superseded) -> Vec<u8> {
        self.slice(record.at, usize::from(record.key_len))
    }

    /// The value of a record; `None` for a tombstone.
    pub(super) fn value(&self, record: &Superseded) -> Option<Value> {
        match &record.content {
            OldContent::Deleted => None,
            OldContent::InPlace(length) => {
                Some(Value::from(self.slice(record.at + u64::from(record.key_len), *length as usize)))
            }
            OldContent::Shared(value) => Some(value.clone()),
        }
    }

    fn slice(&self, at: u64, length: usize) -> Vec<u8> {
        let start = usize::try_from(at - self.begin).expect("what is in memory has a place");
        let (front, back) = self.bytes.as_slices();
        let mut bytes = Vec::with_capacity(length);
        let end = start + length;
        if let Some(part) = front.get(start..end.min(front.len())) {
            bytes.extend_from_slice(part);
        }
        if let Some(end) = end.checked_sub(front.len()) {
            bytes.extend_from_slice(&back[start.saturating_sub(front.len())..end]);
        }
        bytes
    }

    pub(super) fn pop_front(&mut self) {
        let Some(record) = self.records.pop_front() else { return };
        if let OldContent::Shared(value) = &record.content {
            self.shared -= value.len();
        }
        self.first += 1;
        self.begin += record.len() as u64;
        self.bytes.drain(..record.len());
        self.versions -= usize::from(!record.is_void());
        if self.records.is_empty() && self.bytes.capacity() > Self::SPARE {
            self.bytes.shrink_to(Self::SPARE);
            self.records.shrink_to(Self::SPARE / size_of::<Superseded>());
        }
    }
}
