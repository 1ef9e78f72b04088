//! Iteration over a range of one keyspace at one LSN, from both ends.

use std::ops::Bound;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::rt::process;

use super::key::Key;
use super::map::{KeyRange, between};
use super::scan::{Piece, Scanned};
use super::through::{Reads, Through};
use super::tree::Tree;
use super::value::Value;
use super::version::{Content, Direction};

/// The entries of a range of keys: ascending, descending, or from both ends in turn.
///
/// The cursor copies entries in pieces, so it holds no lock while the caller works, and writers go on. The caller must
/// hold a snapshot at the cursor's LSN for as long as it uses the cursor.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    tree: Arc<Tree>,
    at: Lsn,
    /// The part of the range that neither end has fetched.
    rest: Option<(Bound<Key>, Bound<Key>)>,
    front: End,
    back: End,
    /// The process that made it.
    generation: u64,
}

/// An entry that a cursor hands out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    key: &'a [u8],
    value: Content<'a>,
}

impl<'a> Entry<'a> {
    /// Copies the key; shares or copies the value. `None` for a tombstone.
    pub(crate) fn to_owned(self) -> Option<(Key, Value)> {
        Some((Key::from(self.key), self.value.value()?))
    }

    pub(crate) fn slices(self) -> (&'a [u8], &'a [u8]) {
        let value = match self.value {
            Content::Deleted => &[],
            Content::InPlace(bytes) => bytes,
            Content::Shared(value) => value.as_slice(),
        };
        (self.key, value)
    }
}

/// Entries fetched from one end. Those from `next` to `end` are not handed out yet; the outermost is first.
#[derive(Debug)]
struct End {
    /// Keys and small values, one behind the other. The memory is reused for each piece.
    bytes: Vec<u8>,
    entries: Vec<Fetched>,
    next: usize,
    end: usize,
    /// How many entries the next fetch takes.
    piece: usize,
    /// The layers that the piece before was read from, as far as it was.
    through: Option<Through>,
}

#[derive(Clone, Debug)]
struct Fetched {
    /// Where the key begins in `bytes`.
    at: usize,
    key_end: usize,
    value: FetchedValue,
}

#[derive(Clone, Debug)]
enum FetchedValue {
    /// In `bytes`, from the end of the key to this position.
    InPlace(usize),
    Shared(Value),
}

impl Clone for End {
    /// The clone asks layers anew.
    fn clone(&self) -> Self {
        let (bytes, entries) = (self.bytes.clone(), self.entries.clone());
        End { bytes, entries, through: None, ..*self }
    }
}

impl End {
    /// Small at first: many scans take only a few entries.
    const FIRST_PIECE: usize = 16;
    const LAST_PIECE: usize = 256;

    fn new() -> Self {
        End { bytes: Vec::new(), entries: Vec::new(), next: 0, end: 0, piece: Self::FIRST_PIECE, through: None }
    }

    fn is_empty(&self) -> bool {
        self.next == self.end
    }

    fn keep(&mut self, key: &[u8], value: Content<'_>) {
        let (small, shared) = match value {
            Content::Deleted => return,
            Content::InPlace(value) => (value, None),
            Content::Shared(value) => (&[][..], Some(value.clone())),
        };
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(small);
        let value = shared.map_or(FetchedValue::InPlace(self.bytes.len()), FetchedValue::Shared);
        self.entries.push(Fetched { at, key_end, value });
        self.end = self.entries.len();
    }

    /// Fetches a piece of a range, at its end that `direction` begins with. Returns where the next piece begins.
    fn fetch(
        &mut self,
        tree: &Tree,
        (low, high): &(Bound<Key>, Bound<Key>),
        at: Lsn,
        direction: Direction,
    ) -> Result<Option<Bound<Key>>> {
        let range = between(low, high);
        let limit = self.piece;
        let before = self.through.take();
        let unknown = match tree.scan(&Piece { range, at, direction, limit }, |key, value| self.keep(key, value))? {
            Scanned::Known(next) => return Ok(next),
            Scanned::Unknown(unknown) => unknown,
        };
        let beyond =
            tree.beyond().ok_or_else(|| Error::bug("a part of a keyspace is away, and there are no tables"))?;
        let rest = (low.clone(), high.clone());
        let reads = Reads { beyond, keyspace: tree.id(), rest, direction, at };
        let mut through = Through::of(before, &reads, unknown.forgot);
        let next = through.merge(unknown, &reads, limit, |key, value| self.keep(key, value))?;
        self.through = Some(through);
        Ok(next)
    }

    fn entry(&self, index: usize) -> Entry<'_> {
        let Fetched { at, key_end, value } = &self.entries[index];
        let value = match value {
            FetchedValue::InPlace(end) => Content::InPlace(&self.bytes[*key_end..*end]),
            FetchedValue::Shared(value) => Content::Shared(value),
        };
        Entry { key: &self.bytes[*at..*key_end], value }
    }

    /// Removes all entries and keeps the memory.
    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        (self.next, self.end) = (0, 0);
    }
}

impl Cursor {
    /// A cursor over the keys of `tree` in `range`, as they were at `at`.
    pub(crate) fn new(tree: Arc<Tree>, range: KeyRange<'_>, at: Lsn) -> Self {
        let (low, high) = range;
        let (rest, generation) = (Some((low.map(Key::from), high.map(Key::from))), process::generation());
        Cursor { tree, at, rest, front: End::new(), back: End::new(), generation }
    }

    /// The key that was taken last from one end.
    pub(crate) fn last_taken(&self, direction: Direction) -> Option<&[u8]> {
        let (near, far) = match direction {
            Direction::Forward => (&self.front, &self.back),
            Direction::Backward => (&self.back, &self.front),
        };
        // What the other end had fetched lies behind what this end had.
        let taken = if far.end < far.entries.len() {
            Some((far, far.end))
        } else {
            near.next.checked_sub(1).map(|at| (near, at))
        };
        taken.map(|(end, at)| end.entry(at).key)
    }

    /// Returns the next key from one end, without taking it.
    ///
    /// # Errors
    /// If the read fails. Later calls hand out the entries that were fetched before, and then end.
    #[inline]
    pub(crate) fn peek(&mut self, direction: Direction) -> Result<Option<&[u8]>> {
        self.fetch(direction)?;
        let (near, far) = self.ends(direction);
        Ok(if !near.is_empty() {
            Some(near.entry(near.next).key)
        } else if !far.is_empty() {
            // The other end has fetched all that is left: its last entry is the next one from here.
            Some(far.entry(far.end - 1).key)
        } else {
            None
        })
    }

    /// Takes the next entry from one end.
    ///
    /// # Errors
    /// As [`Cursor::peek`].
    #[inline]
    pub(crate) fn take(&mut self, direction: Direction) -> Result<Option<Entry<'_>>> {
        self.fetch(direction)?;
        let (near, far) = self.ends(direction);
        Ok(if !near.is_empty() {
            near.next += 1;
            Some(near.entry(near.next - 1))
        } else if !far.is_empty() {
            far.end -= 1;
            Some(far.entry(far.end))
        } else {
            None
        })
    }

    fn ends(&mut self, direction: Direction) -> (&mut End, &mut End) {
        match direction {
            Direction::Forward => (&mut self.front, &mut self.back),
            Direction::Backward => (&mut self.back, &mut self.front),
        }
    }

    /// Fetches from the rest of the range for one end, if it has no entry to hand out.
    #[inline]
    fn fetch(&mut self, direction: Direction) -> Result<()> {
        let (near, _) = self.ends(direction);
        if near.is_empty() && self.rest.is_some() { self.fetch_pieces(direction) } else { Ok(()) }
    }

    /// Fetches until there is an entry to hand out or the range is used up.
    #[cold]
    fn fetch_pieces(&mut self, direction: Direction) -> Result<()> {
        // Here and not for each entry: what was fetched needs no lock, which a thread that a child lacks may hold.
        if !process::is_current(self.generation) {
            return Err(Error::forked());
        }
        let Cursor { tree, at, rest, front, back, .. } = self;
        let end = if direction == Direction::Forward { front } else { back };
        while end.is_empty()
            && let Some(range) = rest
        {
            end.clear();
            let next = match end.fetch(tree, range, *at, direction) {
                Ok(next) => next,
                Err(error) => {
                    end.clear();
                    *rest = None;
                    return Err(error);
                }
            };
            end.piece = (end.piece * 2).min(End::LAST_PIECE);
            match (next, direction) {
                (None, _) => {
                    *rest = None;
                    end.through = None;
                }
                (Some(next), Direction::Forward) => range.0 = next,
                (Some(next), Direction::Backward) => range.1 = next,
            }
        }
        Ok(())
    }
}

impl Iterator for Cursor {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(Direction::Forward).map(|entry| entry?.to_owned()).transpose()
    }
}

impl DoubleEndedIterator for Cursor {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(Direction::Backward).map(|entry| entry?.to_owned()).transpose()
    }
}

impl std::iter::FusedIterator for Cursor {}
