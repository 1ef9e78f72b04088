//! What a transaction will write, in key order, the last write to a key winning.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keyspace::dropped_error;
use crate::base::error::{Error, Result};
use crate::base::options::Settings;
use crate::format::batch::{BatchBuilder, EMPTY_LEN, MAX_KEY_LEN, MAX_VALUE_LEN, Op, Reason, encoded_len};
use crate::index::{Key, KeyRange, Tree, Value, is_empty};

/// Writes to one keyspace: the new value of each key, `None` to delete it.
#[derive(Debug)]
struct TreeWrites {
    tree: Arc<Tree>,
    keys: BTreeMap<Key, Option<Value>>,
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

    /// How many keys are written.
    pub(super) fn len(&self) -> usize {
        self.trees.values().map(|writes| writes.keys.len()).sum()
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
        let new = || TreeWrites { tree: Arc::clone(tree), keys: BTreeMap::new() };
        let keys = &mut self.trees.entry(id).or_insert_with(new).keys;
        let replaced = keys.insert(Key::from(key), value.map(Value::from));
        self.bytes += length(value);
        self.bytes -= replaced.map_or(0, |replaced| length(replaced.as_deref()));
        Ok(())
    }

    /// The bytes of the batch of all writes.
    fn encoded_len(&self) -> u64 {
        (EMPTY_LEN + self.bytes) as u64
    }

    /// The own write to `key`, if there is one.
    pub(super) fn get(&self, tree: &Tree, key: &[u8]) -> Option<&Option<Value>> {
        self.trees.get(&tree.id())?.keys.get(key)
    }

    /// The own writes in a range, in order.
    pub(super) fn range(&self, tree: &Tree, range: KeyRange<'_>) -> Vec<(Key, Option<Value>)> {
        let Some(writes) = self.trees.get(&tree.id()) else { return Vec::new() };
        if is_empty(range) {
            return Vec::new();
        }
        writes.keys.range::<[u8], _>(range).map(|(key, value)| (key.clone(), value.clone())).collect()
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
