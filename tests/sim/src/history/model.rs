//! The history of a database: every version of every key, by LSN. It knows nothing of the engine but LSNs.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use crashkit::mix;
use forelog::Lsn;

/// A range of keys.
pub type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);
/// What is there at one LSN.
pub type State = BTreeMap<Vec<u8>, Value>;

/// A value, which no other write has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    pub id: u64,
    pub length: usize,
}

impl Value {
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = mix(self.id).to_le_bytes().repeat(self.length.div_ceil(8));
        bytes.truncate(self.length);
        bytes
    }

    pub fn is(self, bytes: &[u8]) -> bool {
        let word = mix(self.id).to_le_bytes();
        bytes.len() == self.length && bytes.chunks(8).all(|part| *part == word[..part.len()])
    }
}

/// What a commit does to one keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    Put {
        key: Vec<u8>,
        value: Value,
    },
    Delete {
        key: Vec<u8>,
    },
    /// Of the keys from `from` on, up to `to`, which is not among them.
    DeleteRange {
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

/// One life of a keyspace.
#[derive(Clone, Debug)]
pub struct Space {
    pub name: &'static str,
    pub created: Lsn,
    pub dropped: Option<Lsn>,
    /// The versions of each key, oldest first, with the deletions of keys that were not there.
    keys: BTreeMap<Vec<u8>, Vec<(Lsn, Option<Value>)>>,
    /// The ranges that were deleted as such.
    cleared: Vec<(Lsn, Vec<u8>, Vec<u8>)>,
}

fn at(versions: &[(Lsn, Option<Value>)], lsn: Lsn) -> Option<Value> {
    let newer = versions.partition_point(|(at, _)| *at <= lsn);
    versions[..newer].last()?.1
}

impl Space {
    fn new(name: &'static str, created: Lsn) -> Self {
        Space { name, created, dropped: None, keys: BTreeMap::new(), cleared: Vec::new() }
    }

    pub fn is_alive(&self, lsn: Lsn) -> bool {
        self.created <= lsn && self.dropped.is_none_or(|dropped| lsn < dropped)
    }

    pub fn get(&self, key: &[u8], lsn: Lsn) -> Option<Value> {
        at(self.keys.get(key)?, lsn)
    }

    /// What is there of a range.
    pub fn range(&self, bounds: &Bounds, lsn: Lsn) -> State {
        if is_empty(bounds) {
            return State::new();
        }
        let found = self.keys.range::<Vec<u8>, _>(bounds.clone());
        found.filter_map(|(key, versions)| Some((key.clone(), at(versions, lsn)?))).collect()
    }

    fn write(&mut self, key: &[u8], lsn: Lsn, value: Option<Value>) {
        let versions = self.keys.entry(key.to_vec()).or_default();
        versions.pop_if(|(last, _)| *last == lsn);
        versions.push((lsn, value));
    }

    pub fn apply(&mut self, operation: &Operation, lsn: Lsn) {
        match operation {
            Operation::Put { key, value } => self.write(key, lsn, Some(*value)),
            Operation::Delete { key } => self.write(key, lsn, None),
            // A range that ends where it begins has no key, and its deletion is a write to none.
            Operation::DeleteRange { from, to } if from >= to => {}
            Operation::DeleteRange { from, to } => {
                for key in self.range(&half_open(from, to), lsn).into_keys() {
                    self.write(&key, lsn, None);
                }
                self.cleared.push((lsn, from.clone(), to.clone()));
            }
        }
    }

    /// What was done after `since` to what a range holds.
    pub fn changed(&self, bounds: &Bounds, since: Lsn) -> Changed {
        let mut changed = Changed::default();
        if is_empty(bounds) {
            return changed;
        }
        for versions in self.keys.range::<Vec<u8>, _>(bounds.clone()).map(|(_, versions)| versions) {
            let mut was_there = at(versions, since).is_some();
            for (_, value) in versions.iter().filter(|(lsn, _)| *lsn > since) {
                changed.touched = true;
                changed.changed |= was_there || value.is_some();
                was_there = value.is_some();
            }
        }
        // A range deletion counts as a write to every key, there or not.
        let meets = |from: &Vec<u8>, to: &Vec<u8>| {
            let begins = match &bounds.1 {
                Bound::Included(high) => from <= high,
                Bound::Excluded(high) => from < high,
                Bound::Unbounded => true,
            };
            let ends = match &bounds.0 {
                Bound::Included(low) | Bound::Excluded(low) => low < to,
                Bound::Unbounded => true,
            };
            begins && ends
        };
        let is_cleared = self.cleared.iter().any(|(lsn, from, to)| *lsn > since && meets(from, to));
        Changed { touched: changed.touched | is_cleared, changed: changed.changed | is_cleared }
    }

    /// Nothing after `end` has happened.
    fn cut(&mut self, end: Lsn) {
        for versions in self.keys.values_mut() {
            versions.truncate(versions.partition_point(|(lsn, _)| *lsn <= end));
        }
        self.keys.retain(|_, versions| !versions.is_empty());
        self.cleared.retain(|(lsn, ..)| *lsn <= end);
        self.dropped = self.dropped.filter(|dropped| *dropped <= end);
    }
}

/// What was done to a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    /// A key was put, or deleted while it was there.
    pub changed: bool,
    /// Something was written, if only the deletion of a key that was not there.
    pub touched: bool,
}

/// Everything that was committed.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub spaces: Vec<Space>,
    /// Where each commit ended.
    pub commits: Vec<Lsn>,
    values: u64,
}

impl History {
    pub fn last(&self) -> Lsn {
        self.commits.last().copied().unwrap_or(Lsn::ZERO)
    }

    /// The life of a keyspace that is there at `lsn`.
    pub fn space(&self, name: &str, lsn: Lsn) -> Option<usize> {
        self.spaces.iter().position(|space| space.name == name && space.is_alive(lsn))
    }

    /// A value that was never used before.
    pub fn value(&mut self, length: usize) -> Value {
        self.values += 1;
        Value { id: self.values, length }
    }

    pub fn create(&mut self, name: &'static str, lsn: Lsn) -> usize {
        self.commits.push(lsn);
        self.spaces.push(Space::new(name, lsn));
        self.spaces.len() - 1
    }

    pub fn drop(&mut self, space: usize, lsn: Lsn) {
        self.commits.push(lsn);
        self.spaces[space].dropped = Some(lsn);
    }

    /// A commit with an effect.
    pub fn commit(&mut self, operations: &[(usize, Operation)], lsn: Lsn) {
        self.commits.push(lsn);
        for (space, operation) in operations {
            self.spaces[*space].apply(operation, lsn);
        }
    }

    /// A crash has left what ended at or below `end`. Returns how many commits it took.
    pub fn cut(&mut self, end: Lsn) -> usize {
        let before = self.commits.len();
        self.commits.retain(|lsn| *lsn <= end);
        // Places of keyspaces change. Nobody has one over a crash.
        self.spaces.retain(|space| space.created <= end);
        self.spaces.iter_mut().for_each(|space| space.cut(end));
        before - self.commits.len()
    }
}

pub fn half_open(from: &[u8], to: &[u8]) -> Bounds {
    (Bound::Included(from.to_vec()), Bound::Excluded(to.to_vec()))
}

/// Whether a range ends before it begins: a map would panic.
pub fn is_empty(bounds: &Bounds) -> bool {
    match bounds {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

/// The part of a state that lies in a range.
pub fn part(state: &State, bounds: &Bounds) -> State {
    state.iter().filter(|(key, _)| bounds.contains(*key)).map(|(key, value)| (key.clone(), *value)).collect()
}
