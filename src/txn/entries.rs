//! Iteration over a range: a snapshot's entries, with a transaction's own writes laid over them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::writes::Own;
use crate::base::error::Result;
use crate::index::{Cursor, Direction, Entry, Key, KeyRange, SnapshotGuard, Tree, Value, is_empty};

/// The entries of a range of keys in order; backwards with [`Iterator::rev`].
///
/// It keeps its snapshot alive and holds no lock, so it may be kept for long and used while anything else goes on.
pub struct Entries {
    stored: Option<Cursor>,
    own: Own,
    /// The own write that was lent last.
    lent: Option<(Key, Value)>,
    _hold: SnapshotGuard,
}

/// Where the next entry comes from.
enum Next {
    Stored,
    Own(Key, Value),
}

impl Entries {
    pub(super) fn new(tree: &Arc<Tree>, range: KeyRange<'_>, own: Own, hold: &SnapshotGuard) -> Self {
        let stored = (!is_empty(range)).then(|| Cursor::new(Arc::clone(tree), range, hold.lsn()));
        Entries { stored, own, lent: None, _hold: hold.to_read() }
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
