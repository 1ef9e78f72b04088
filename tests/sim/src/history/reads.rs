//! Reads of a snapshot or transaction, compared with what the history has.

use std::ops::Bound;

use crashkit::Random;
use forelog::{Entries, Keyspace, Result};

use super::counts::Counts;
use super::model::{Bounds, State, is_empty};

/// What snapshots and transactions have in common.
pub(super) trait Reads {
    fn get(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<forelog::Value>>;
    fn range(&mut self, keyspace: &Keyspace, bounds: Bounds) -> Result<Entries>;
    fn prefix(&mut self, keyspace: &Keyspace, prefix: &[u8]) -> Result<Entries>;
}

macro_rules! reads {
    ($($kind:ty => $inner:ty),+) => {$(
        impl Reads for $kind {
            fn get(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<forelog::Value>> {
                <$inner>::get(self, keyspace, key)
            }

            fn range(&mut self, keyspace: &Keyspace, bounds: Bounds) -> Result<Entries> {
                <$inner>::range(self, keyspace, bounds)
            }

            fn prefix(&mut self, keyspace: &Keyspace, prefix: &[u8]) -> Result<Entries> {
                <$inner>::prefix(self, keyspace, prefix)
            }
        }
    )+};
}
reads!(&forelog::Snapshot => forelog::Snapshot, forelog::Transaction => forelog::Transaction);

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Key(Vec<u8>),
    Range(Bounds, Walk),
    Prefix(Vec<u8>, Walk),
}

/// How entries are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Walk {
    Forward,
    Backward,
    /// One from the front, some from the back, and so on.
    BothEnds,
}

impl Read {
    /// Something near `key`, up to `other`.
    pub(super) fn draw(random: &mut Random, key: Vec<u8>, other: Vec<u8>) -> Self {
        let walk = random.pick(&[Walk::Forward, Walk::Backward, Walk::BothEnds]);
        let bound = |random: &mut Random, key: Vec<u8>| match random.below(6) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Excluded(key),
            _ => Bound::Included(key),
        };
        match random.below(8) {
            0..4 => Read::Key(key),
            4 => Read::Prefix(key[..random.below(key.len().min(2) + 1)].to_vec(), walk),
            _ => {
                let (low, high) = if key <= other || random.one_in(20) { (key, other) } else { (other, key) };
                Read::Range((bound(random, low), bound(random, high)), walk)
            }
        }
    }

    /// Everything, from one end or the other.
    pub(super) fn all(is_forward: bool) -> Self {
        let walk = if is_forward { Walk::Forward } else { Walk::Backward };
        Read::Range((Bound::Unbounded, Bound::Unbounded), walk)
    }

    /// All keys that it asks for.
    pub(super) fn bounds(&self) -> Bounds {
        match self {
            Read::Key(key) => (Bound::Included(key.clone()), Bound::Included(key.clone())),
            Read::Range(bounds, _) => bounds.clone(),
            Read::Prefix(prefix, _) => {
                let mut above = prefix.clone();
                while above.pop_if(|last| *last == u8::MAX).is_some() {}
                let high =
                    above.last_mut().map(|last| *last += 1).map_or(Bound::Unbounded, |()| Bound::Excluded(above));
                (Bound::Included(prefix.clone()), high)
            }
        }
    }

    pub(super) fn count(&self, counts: &mut Counts) {
        match self {
            Read::Key(_) => counts.gets += 1,
            Read::Range(_, Walk::Forward) => counts.forward += 1,
            Read::Range(_, Walk::Backward) => counts.backward += 1,
            Read::Range(_, Walk::BothEnds) => counts.both_ends += 1,
            Read::Prefix(..) => counts.prefixes += 1,
        }
    }

    /// Asks, and compares the answer with what the history has in [`Read::bounds`].
    pub(super) fn check(&self, reader: &mut impl Reads, keyspace: &Keyspace, expected: &State) -> Outcome {
        let asked = |error| format!("{self:?}: {error}");
        match self {
            Read::Key(key) => {
                let found = reader.get(keyspace, key).map_err(asked)?;
                let expected = expected.get(key);
                match (&found, expected) {
                    (Some(found), Some(expected)) if expected.is(found) => Ok(()),
                    (None, None) => Ok(()),
                    _ => Err(format!("{self:?} finds {:?} and not {expected:?}", found.map(|found| found.len()))),
                }
            }
            Read::Range(bounds, walk) => {
                let entries = reader.range(keyspace, bounds.clone()).map_err(asked)?;
                let expected = if is_empty(bounds) { &State::new() } else { expected };
                self.compare(entries, *walk, expected)
            }
            Read::Prefix(prefix, walk) => {
                let entries = reader.prefix(keyspace, prefix).map_err(asked)?;
                self.compare(entries, *walk, expected)
            }
        }
    }

    fn compare(&self, mut entries: Entries, walk: Walk, expected: &State) -> Outcome {
        let mut expected = expected.iter();
        for taken in 0_usize.. {
            let is_front = match walk {
                Walk::Forward => true,
                Walk::Backward => false,
                Walk::BothEnds => taken.is_multiple_of(3),
            };
            let (found, expected) = match is_front {
                true => (entries.next(), expected.next()),
                false => (entries.next_back(), expected.next_back()),
            };
            let found = found.transpose().map_err(|error| format!("{self:?}: {error}"))?;
            match (found, expected) {
                (None, None) => return Ok(()),
                (Some((key, value)), Some((wanted, expected))) if *key == **wanted => {
                    if !expected.is(&value) {
                        return Err(format!("{self:?}: {key:?} has {} bytes and not {expected:?}", value.len()));
                    }
                }
                (found, expected) => {
                    let found = found.map(|(key, _)| key.to_vec());
                    return Err(format!("{self:?}: entry {taken} is {found:?} and not {expected:?}"));
                }
            }
        }
        Ok(())
    }
}

/// What is wrong, if something is.
pub(super) type Outcome<T = ()> = std::result::Result<T, String>;
