//! Iteration over a range of one keyspace at one LSN, from both ends.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use crate::words::types::Lsn;

use super::key::Key;
use super::map::KeyRange;
use super::tree::{Direction, Piece, Tree};
use super::value::Value;

/// The entries of a range of keys, in order or backwards or from both ends in turn.
///
/// Entries are fetched a piece at a time, so no lock is held while the caller works, and writes go on meanwhile. The
/// caller keeps a snapshot at the cursor's LSN held for as long as the cursor is used.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    tree: Arc<Tree>,
    at: Lsn,
    /// What neither end has fetched yet.
    rest: Option<(Bound<Key>, Bound<Key>)>,
    front: End,
    back: End,
}

/// Entries fetched from one end and not handed out, the outermost first.
#[derive(Clone, Debug)]
struct End {
    direction: Direction,
    fetched: VecDeque<(Key, Value)>,
    /// How many entries to fetch next.
    piece: usize,
}

impl End {
    /// Small at first, since many scans take a few entries only.
    const FIRST_PIECE: usize = 16;
    const LAST_PIECE: usize = 256;

    fn new(direction: Direction) -> Self {
        End { direction, fetched: VecDeque::new(), piece: Self::FIRST_PIECE }
    }
}

impl Cursor {
    /// A cursor over the keys of `tree` in `range`, as they were at `at`.
    pub(crate) fn new(tree: Arc<Tree>, range: KeyRange<'_>, at: Lsn) -> Self {
        let (low, high) = range;
        let rest = Some((low.map(Key::from), high.map(Key::from)));
        Cursor { tree, at, rest, front: End::new(Direction::Forward), back: End::new(Direction::Backward) }
    }
}

/// Fetches from the rest of the range for one end, until there is something to hand out or nothing left.
fn fetch(tree: &Tree, at: Lsn, rest: &mut Option<(Bound<Key>, Bound<Key>)>, end: &mut End) {
    while end.fetched.is_empty()
        && let Some((low, high)) = rest
    {
        let range = (low.as_ref().map(Key::as_slice), high.as_ref().map(Key::as_slice));
        let piece = Piece { range, at, direction: end.direction, limit: end.piece };
        let last = tree.scan(&piece, |key, value| end.fetched.push_back((key, value)));
        end.piece = (end.piece * 2).min(End::LAST_PIECE);
        match (last, end.direction) {
            (None, _) => *rest = None,
            (Some(last), Direction::Forward) => *low = Bound::Excluded(last),
            (Some(last), Direction::Backward) => *high = Bound::Excluded(last),
        }
    }
}

impl Iterator for Cursor {
    type Item = (Key, Value);

    fn next(&mut self) -> Option<(Key, Value)> {
        fetch(&self.tree, self.at, &mut self.rest, &mut self.front);
        self.front.fetched.pop_front().or_else(|| self.back.fetched.pop_back())
    }
}

impl DoubleEndedIterator for Cursor {
    fn next_back(&mut self) -> Option<(Key, Value)> {
        fetch(&self.tree, self.at, &mut self.rest, &mut self.back);
        self.back.fetched.pop_front().or_else(|| self.front.fetched.pop_back())
    }
}

impl std::iter::FusedIterator for Cursor {}
