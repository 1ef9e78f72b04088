//! What a transaction will write, in key order, the last write to a key winning.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::bounds::first_and_end;
use super::keyspace::dropped_error;
use crate::base::error::{Error, Result};
use crate::base::options::Settings;
use crate::base::range_set::RangeSet;
use crate::format::batch::{BatchBuilder, EMPTY_LEN, MAX_KEY_LEN, MAX_VALUE_LEN, Op, Reason, encoded_len};
use crate::index::{Key, KeyRange, Tree, Value, is_empty};

/// Writes to one keyspace.
#[derive(Debug)]
struct TreeWrites {
    tree: Arc<Tree>,
    /// What was deleted by range, before all that `keys` has.
    ranges: RangeSet<Key>,
    /// The new value of each key, `None` to delete it.
    keys: BTreeMap<Key, Option<Value>>,
}

impl TreeWrites {
    fn new(tree: &Arc<Tree>) -> Self {
        TreeWrites { tree: Arc::clone(tree), ranges: RangeSet::default(), keys: BTreeMap::new() }
    }

    /// What a read of `key` finds, if it is written to.
    fn get(&self, key: &[u8]) -> Option<&Option<Value>> {
        self.keys.get(key).or_else(|| self.ranges.has(key).then_some(&None))
    }
}

/// The own writes to a range of one keyspace, to be laid over what is stored.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// In order.
    pub(super) keys: VecDeque<(Key, Option<Value>)>,
    /// Nothing of these keys that is stored is there.
    pub(super) deleted: RangeSet<Key>,
}

/// Writes by keyspace id.
#[derive(Debug, Default)]
pub(super) struct Writes {
    trees: BTreeMap<u32, TreeWrites>,
    /// What they take in a batch, in bytes: of several writes to one key the last one.
    bytes: usize,
}

/// The operation of a write, as a batch has it.
fn op<'a>(keyspace: u32, key: &'a [u8], value: Option<&'a [u8]>) -> Op<'a> {
    match value {
        Some(value) => Op::Put { keyspace, key, value },
        None => Op::Delete { keyspace, key },
    }
}

fn range_op<'a>(keyspace: u32, from: &'a [u8], to: Option<&'a [u8]>) -> Op<'a> {
    Op::DeleteRange { keyspace, from, to }
}

/// Refuses the bounds of a range, each of which names a key.
pub(super) fn check_bounds((low, high): KeyRange<'_>) -> Result<()> {
    let check = |bound| match bound {
        Bound::Included(key) | Bound::Excluded(key) => check_key(key),
        Bound::Unbounded => Ok(()),
    };
    check(low).and_then(|()| check(high))
}

pub(super) fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY_LEN {
        return Err(Error::invalid_input(format!("a key of {} bytes is over the limit of {MAX_KEY_LEN}", key.len())));
    }
    Ok(())
}

pub(super) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_LEN {
        let message = format!("a value of {} bytes is over the limit of {MAX_VALUE_LEN}", value.len());
        return Err(Error::invalid_input(message));
    }
    Ok(())
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// How many keys and ranges are written.
    pub(super) fn len(&self) -> usize {
        self.trees.values().map(|writes| writes.keys.len() + writes.ranges.iter().count()).sum()
    }

    pub(super) fn put(&mut self, tree: &Arc<Tree>, key: &[u8], value: &[u8], settings: &Settings) -> Result<()> {
        check_key(key)?;
        check_value(value)?;
        self.set(tree, key, Some(value), settings)
    }

    pub(super) fn delete(&mut self, tree: &Arc<Tree>, key: &[u8], settings: &Settings) -> Result<()> {
        check_key(key)?;
        self.set(tree, key, None, settings)
    }

    fn set(&mut self, tree: &Arc<Tree>, key: &[u8], value: Option<&[u8]>, settings: &Settings) -> Result<()> {
        let id = tree.id();
        let length = |value: Option<&[u8]>| encoded_len(&op(id, key, value));
        // Over the limit only writes are taken that make it no larger: they may bring it below again.
        settings.check_record(self.encoded_len()).or_else(|over| {
            let known = self.get(tree, key).map_or(0, |known| length(known.as_deref()));
            if length(value) > known { Err(over) } else { Ok(()) }
        })?;
        let writes = self.trees.entry(id).or_insert_with(|| TreeWrites::new(tree));
        let is_deleted = value.is_none() && writes.ranges.has(key);
        let replaced = match is_deleted {
            true => writes.keys.remove(key),
            false => writes.keys.insert(Key::from(key), value.map(Value::from)),
        };
        self.bytes += if is_deleted { 0 } else { length(value) };
        self.bytes -= replaced.map_or(0, |replaced| length(replaced.as_deref()));
        Ok(())
    }

    /// Deletes all keys of a range, those written before included.
    pub(super) fn delete_range(&mut self, tree: &Arc<Tree>, range: KeyRange<'_>, settings: &Settings) -> Result<()> {
        check_bounds(range)?;
        let Some((from, to)) = first_and_end(range) else { return Ok(()) };
        let id = tree.id();
        let covered: Vec<_> = match self.trees.get(&id) {
            Some(writes) => {
                let end = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                writes.keys.range::<[u8], _>((Bound::Included(&*from), end)).map(|(key, _)| key.clone()).collect()
            }
            None => Vec::new(),
        };
        if covered.is_empty() {
            // Over the limit only what makes it smaller may come.
            settings.check_record(self.encoded_len())?;
        }
        let TreeWrites { ranges, keys, .. } = self.trees.entry(id).or_insert_with(|| TreeWrites::new(tree));
        let length = |from: &Key, to: Option<&Key>| encoded_len(&range_op(id, from, to.map(|to| &**to)));
        let mut joined = 0;
        let new = ranges.insert(Key::from(&*from), to.as_deref().map(Key::from), |from, to| joined += length(from, to));
        self.bytes += new.map_or(0, |(from, to)| length(from, to));
        self.bytes -= joined;
        for key in covered {
            let value = keys.remove(&key);
            self.bytes -= value.map_or(0, |value| encoded_len(&op(id, &key, value.as_deref())));
        }
        Ok(())
    }

    /// The bytes of the batch of all writes.
    fn encoded_len(&self) -> u64 {
        (EMPTY_LEN + self.bytes) as u64
    }

    /// The own write to `key`, if there is one.
    pub(super) fn get(&self, tree: &Tree, key: &[u8]) -> Option<&Option<Value>> {
        self.trees.get(&tree.id())?.get(key)
    }

    /// The own writes to a range.
    pub(super) fn range(&self, tree: &Tree, range: KeyRange<'_>) -> Own {
        let Some(writes) = self.trees.get(&tree.id()).filter(|_| !is_empty(range)) else { return Own::default() };
        let keys = writes.keys.range::<[u8], _>(range).map(|(key, value)| (key.clone(), value.clone()));
        Own { keys: keys.collect(), deleted: writes.ranges.clone() }
    }

    /// Refuses if a keyspace was dropped since. Called under the order lock.
    pub(super) fn check_alive(&self) -> Result<()> {
        check_alive(self.trees.values().map(|writes| &*writes.tree))
    }

    /// The encoded batch. Refuses one that is over the limit before it takes memory.
    pub(super) fn encode(&self, settings: &Settings) -> Result<BatchBuilder> {
        settings.check_record(self.encoded_len())?;
        let mut batch = BatchBuilder::with_capacity(EMPTY_LEN + self.bytes);
        for (&id, writes) in &self.trees {
            for (from, to) in writes.ranges.iter() {
                batch.push(&range_op(id, from, to.map(|to| &**to))).map_err(refused)?;
            }
            for (key, value) in &writes.keys {
                batch.push(&op(id, key, value.as_deref())).map_err(refused)?;
            }
        }
        Ok(batch)
    }
}

pub(super) fn refused(reason: Reason) -> Error {
    Error::invalid_input(format!("a write cannot be encoded: {reason}"))
}

/// Refuses if one of the keyspaces was dropped. Called under the order lock.
pub(super) fn check_alive<'a>(mut trees: impl Iterator<Item = &'a Tree>) -> Result<()> {
    match trees.find(|tree| tree.dropped().is_some()) {
        Some(tree) => Err(dropped_error(tree.name())),
        None => Ok(()),
    }
}
