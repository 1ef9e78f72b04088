//! How far a transaction has read a range: as far as its iterator has shown it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::error::Result;
use crate::index::{Key, KeyRange, between};
use crate::rt::sync::Mutex;

/// What an iterator has shown in all. It says so when it goes; its transaction keeps this, too, and looks at its commit.
#[derive(Debug, Default)]
pub(super) struct Consumed(Mutex<Reached>);

/// The part of a range that was shown.
#[derive(Clone, Debug, Default)]
pub(super) enum Reached {
    /// Also as long as the iterator is there: it may show the rest after the commit, which then must have been right.
    #[default]
    All,
    /// The upper bound of what was shown from the front, and the lower one of what was shown from the back.
    Parts { front: Option<Bound<Key>>, back: Option<Bound<Key>> },
}

impl Consumed {
    pub(super) fn set(&self, reached: Reached) {
        *self.0.lock() = reached;
    }
}

/// A range that an iterator goes over, which may not be over yet.
#[derive(Debug)]
struct Watched {
    low: Bound<Key>,
    high: Bound<Key>,
    consumed: Arc<Consumed>,
}

impl Watched {
    /// Whether the iterator is gone: what it has shown is final.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.consumed) == 1
    }

    /// What was shown from the front, or all of it; and what was shown from the back.
    fn ranges(&self) -> (Option<KeyRangeRead>, Option<KeyRangeRead>) {
        let (front, back) = match self.consumed.0.lock().clone() {
            Reached::All => (Some(self.high.clone()), None),
            Reached::Parts { front, back } => (front, back),
        };
        (front.map(|high| (self.low.clone(), high)), back.map(|low| (low, self.high.clone())))
    }
}

type KeyRangeRead = (Bound<Key>, Bound<Key>);

/// The ranges of one keyspace that were read. Of those with one begin, and of those that were read backwards with one end, the
/// longest is kept: a transaction that takes a thousand jobs from a queue reads a thousand of them.
#[derive(Debug, Default)]
pub(super) struct RangesRead {
    /// The end of each, by its begin.
    forward: HashMap<Bound<Key>, Bound<Key>>,
    /// The begin of each, by its end.
    backward: HashMap<Bound<Key>, Bound<Key>>,
    watched: Vec<Watched>,
}

impl RangesRead {
    /// Notes what an iterator reads from now on.
    pub(super) fn watch(&mut self, range: KeyRange<'_>) -> Arc<Consumed> {
        let over: Vec<Watched> = self.watched.extract_if(.., |watched| watched.is_over()).collect();
        for (front, back) in over.iter().map(Watched::ranges) {
            if let Some((low, high)) = front {
                keep(&mut self.forward, low, high, |known, new| compare_upper(known, new) == Ordering::Less);
            }
            if let Some((low, high)) = back {
                keep(&mut self.backward, high, low, |known, new| compare_lower(known, new) == Ordering::Greater);
            }
        }
        let consumed: Arc<Consumed> = Arc::default();
        let (low, high) = (range.0.map(Key::from), range.1.map(Key::from));
        self.watched.push(Watched { low, high, consumed: Arc::clone(&consumed) });
        consumed
    }

    /// Whether `is_so` of one of those that were read so far.
    pub(super) fn any(&self, mut is_so: impl FnMut(KeyRange<'_>) -> Result<bool>) -> Result<bool> {
        for (low, high) in self.forward.iter().chain(self.backward.iter().map(|(high, low)| (low, high))) {
            if is_so(between(low, high))? {
                return Ok(true);
            }
        }
        for (front, back) in self.watched.iter().map(Watched::ranges) {
            for (low, high) in front.into_iter().chain(back) {
                if is_so(between(&low, &high))? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Keeps of two ranges with one bound the longer one.
fn keep(
    known: &mut HashMap<Bound<Key>, Bound<Key>>,
    at: Bound<Key>,
    bound: Bound<Key>,
    is_longer: impl Fn(&Bound<Key>, &Bound<Key>) -> bool,
) {
    match known.entry(at) {
        Entry::Vacant(entry) => _ = entry.insert(bound),
        Entry::Occupied(mut entry) if is_longer(entry.get(), &bound) => _ = entry.insert(bound),
        Entry::Occupied(_) => {}
    }
}

/// Which of two upper bounds admits more: the greater one.
fn compare_upper(a: &Bound<Key>, b: &Bound<Key>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            let includes = |bound: &Bound<Key>| matches!(bound, Bound::Included(_));
            x.as_slice().cmp(y.as_slice()).then(includes(a).cmp(&includes(b)))
        }
    }
}

/// Which of two lower bounds admits less: the greater one.
fn compare_lower(a: &Bound<Key>, b: &Bound<Key>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Less,
        (_, Bound::Unbounded) => Ordering::Greater,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            let excludes = |bound: &Bound<Key>| matches!(bound, Bound::Excluded(_));
            x.as_slice().cmp(y.as_slice()).then(excludes(a).cmp(&excludes(b)))
        }
    }
}
