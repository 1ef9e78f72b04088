//! Iteration over a range: a snapshot's entries, with a transaction's own writes laid over them.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::writes::is_empty;
use crate::index::{Cursor, Hold, Key, KeyRange, Tree, Value};
use crate::words::error::Result;

/// The entries of a range of keys in order; backwards with [`Iterator::rev`].
///
/// It keeps its snapshot alive and holds no lock, so it may be kept for long and used while anything else goes on.
pub struct Range {
    stored: Option<Cursor>,
    stored_front: Option<(Key, Value)>,
    stored_back: Option<(Key, Value)>,
    own: VecDeque<(Key, Option<Value>)>,
    _hold: Hold,
}

impl Range {
    pub(super) fn new(tree: &Arc<Tree>, range: KeyRange<'_>, own: Vec<(Key, Option<Value>)>, hold: &Hold) -> Self {
        let stored = (!is_empty(range)).then(|| Cursor::new(Arc::clone(tree), range, hold.lsn()));
        Range { stored, stored_front: None, stored_back: None, own: own.into(), _hold: hold.clone() }
    }

    fn peek_front(&mut self) -> Option<&Key> {
        if self.stored_front.is_none() {
            self.stored_front = self.stored.as_mut().and_then(Iterator::next).or_else(|| self.stored_back.take());
        }
        self.stored_front.as_ref().map(|(key, _)| key)
    }

    fn peek_back(&mut self) -> Option<&Key> {
        if self.stored_back.is_none() {
            let next = self.stored.as_mut().and_then(DoubleEndedIterator::next_back);
            self.stored_back = next.or_else(|| self.stored_front.take());
        }
        self.stored_back.as_ref().map(|(key, _)| key)
    }
}

impl Iterator for Range {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let stored = self.peek_front().cloned();
            let order = match (&stored, self.own.front()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(stored), Some((own, _))) => stored.cmp(own),
            };
            if order == Ordering::Less {
                return self.stored_front.take().map(Ok);
            }
            if order == Ordering::Equal {
                self.stored_front = None;
            }
            // The own write hides the stored one; a deletion hides it and shows nothing.
            if let Some((key, Some(value))) = self.own.pop_front() {
                return Some(Ok((key, value)));
            }
        }
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            let stored = self.peek_back().cloned();
            let order = match (&stored, self.own.back()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Greater,
                (None, Some(_)) => Ordering::Less,
                (Some(stored), Some((own, _))) => stored.cmp(own),
            };
            if order == Ordering::Greater {
                return self.stored_back.take().map(Ok);
            }
            if order == Ordering::Equal {
                self.stored_back = None;
            }
            if let Some((key, Some(value))) = self.own.pop_back() {
                return Some(Ok((key, value)));
            }
        }
    }
}

impl std::iter::FusedIterator for Range {}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").finish_non_exhaustive()
    }
}

/// The bounds of a range of keys that a caller gave, as slices.
pub(super) fn slices<'a, K: AsRef<[u8]> + 'a>(range: &'a impl std::ops::RangeBounds<K>) -> KeyRange<'a> {
    (range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref))
}

/// The first key after all that begin with `prefix`; `None` if there is none.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The range of keys that begin with `prefix`, given the end that [`end_of_prefix`] found.
pub(super) fn prefix_range<'a>(prefix: &'a [u8], end: Option<&'a [u8]>) -> KeyRange<'a> {
    (Bound::Included(prefix), end.map_or(Bound::Unbounded, Bound::Excluded))
}
