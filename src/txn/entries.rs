//! Iteration over a range: a snapshot's entries, with a transaction's own writes laid over them.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::consumed::{Consumed, Reached};
use super::writes::Own;
use crate::base::error::Result;
use crate::index::{Cursor, Direction, Entry, Key, KeyRange, SnapshotGuard, Tree, Value, is_empty};
use crate::rt::process;

/// The entries of a range of keys in order; backwards with [`Iterator::rev`].
///
/// It keeps its snapshot alive and holds no lock, so it may be kept for long and used while anything else goes on.
pub struct Entries {
    stored: Option<Cursor>,
    own: Own,
    /// The own write that was lent last.
    lent: Option<(Key, Value)>,
    /// Of a transaction, which learns from it what it has read.
    reading: Option<Reading>,
    _hold: SnapshotGuard,
}

/// What an iterator of a transaction notes.
#[derive(Debug)]
struct Reading {
    consumed: Arc<Consumed>,
    /// The own writes that were taken last, from each end.
    own: [Option<Key>; 2],
    is_at_end: bool,
    /// The process that made it.
    generation: u64,
}

/// Where the next entry comes from.
enum Next {
    Stored,
    Own(Key, Value),
}

impl Entries {
    pub(super) fn new(tree: &Arc<Tree>, range: KeyRange<'_>, own: Own, hold: &SnapshotGuard) -> Self {
        let stored = (!is_empty(range)).then(|| Cursor::new(Arc::clone(tree), range, hold.lsn()));
        Entries { stored, own, lent: None, reading: None, _hold: hold.to_read() }
    }

    /// Tells a transaction what is read.
    pub(super) fn watched_by(mut self, consumed: Arc<Consumed>) -> Self {
        self.reading =
            Some(Reading { consumed, own: [None, None], is_at_end: false, generation: process::generation() });
        self
    }

    /// The next entry as [`Iterator::next`] has it, lent until the next call: it takes no memory of its own, which
    /// makes a scan of small values several times faster.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = forelog::Engine::in_memory()?;
    /// # let users = engine.create_keyspace("users")?;
    /// let mut bytes = 0;
    /// let mut entries = engine.snapshot()?.iter(&users)?;
    /// while let Some(entry) = entries.next_ref() {
    ///     let (key, value) = entry?;
    ///     bytes += key.len() + value.len();
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As the iterator.
    pub fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        match self.step(Direction::Forward)? {
            Err(error) => Some(Err(error)),
            Ok(Next::Stored) => {
                let entry = self.stored.as_mut()?.take(Direction::Forward).transpose()?;
                Some(entry.map(Entry::slices))
            }
            Ok(Next::Own(key, value)) => {
                let (key, value) = self.lent.insert((key, value));
                Some(Ok((key, value)))
            }
        }
    }

    /// Finds what comes next from one end, and takes what it hides away. After an error nothing comes.
    fn step(&mut self, direction: Direction) -> Option<Result<Next>> {
        let found = self.find(direction);
        if let Some(reading) = &mut self.reading {
            reading.note(&found, direction);
        }
        if found.is_err() {
            self.stored = None;
            self.own = Own::default();
        }
        found.transpose()
    }

    fn find(&mut self, direction: Direction) -> Result<Option<Next>> {
        loop {
            let stored = match &mut self.stored {
                Some(cursor) => cursor.peek(direction)?,
                None => None,
            };
            let Own { keys, deleted } = &self.own;
            let own = if direction == Direction::Forward { keys.front() } else { keys.back() };
            let is_deleted = !deleted.is_empty() && stored.is_some_and(|stored| deleted.has(stored));
            let order = match (stored, own) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(stored), Some((own, _))) if direction == Direction::Forward => stored.cmp(own),
                (Some(stored), Some((own, _))) => own.as_slice().cmp(stored),
            };
            if order == Ordering::Less && !is_deleted {
                return Ok(Some(Next::Stored));
            }
            if order != Ordering::Greater
                && let Some(cursor) = &mut self.stored
            {
                cursor.take(direction)?;
            }
            if order == Ordering::Less {
                continue;
            }
            let keys = &mut self.own.keys;
            let own = if direction == Direction::Forward { keys.pop_front() } else { keys.pop_back() };
            // The own write hides the stored one; a deletion hides it and shows nothing.
            if let Some((key, Some(value))) = own {
                return Ok(Some(Next::Own(key, value)));
            }
        }
    }

    fn next_from(&mut self, direction: Direction) -> Option<Result<(Key, Value)>> {
        match self.step(direction)? {
            Err(error) => Some(Err(error)),
            Ok(Next::Stored) => self.stored.as_mut()?.take(direction).map(|entry| entry?.to_owned()).transpose(),
            Ok(Next::Own(key, value)) => Some(Ok((key, value))),
        }
    }
}

impl Reading {
    fn note(&mut self, found: &Result<Option<Next>>, direction: Direction) {
        match found {
            Ok(Some(Next::Own(key, _))) => self.own[usize::from(direction == Direction::Backward)] = Some(key.clone()),
            Ok(Some(Next::Stored)) => {}
            // What could not be read may be anything.
            Ok(None) | Err(_) => self.is_at_end = true,
        }
    }

    /// What was shown. Of an own write only what lies before it was learned: that there is nothing.
    fn reached(&self, stored: Option<&Cursor>) -> Reached {
        if self.is_at_end {
            return Reached::All;
        }
        let bound = |direction, own: &Option<Key>| {
            let taken = stored.and_then(|cursor| cursor.last_taken(direction));
            let is_behind = |own: &Key| {
                taken.is_none_or(|taken| match direction {
                    Direction::Forward => own.as_slice() > taken,
                    Direction::Backward => own.as_slice() < taken,
                })
            };
            let own = own.clone().filter(is_behind).map(Bound::Excluded);
            own.or_else(|| taken.map(|key| Bound::Included(Key::from(key))))
        };
        let [front, back] = &self.own;
        Reached::Parts { front: bound(Direction::Forward, front), back: bound(Direction::Backward, back) }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // A child takes no lock: a thread that was not copied may hold it.
        if let Some(reading) = &self.reading
            && process::is_current(reading.generation)
        {
            reading.consumed.set(reading.reached(self.stored.as_ref()));
        }
    }
}

impl Iterator for Entries {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_from(Direction::Forward)
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_from(Direction::Backward)
    }
}

impl std::iter::FusedIterator for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}
