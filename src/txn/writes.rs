//! What a transaction will write, in key order, the last write to a key winning.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keyspace::dropped_error;
use crate::base::error::{Error, Result};
use crate::format::batch::{BatchBuilder, MAX_KEY_LEN, MAX_VALUE_LEN, Reason};
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
    /// Bytes of the keys and values.
    bytes: usize,
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

    pub(super) fn put(&mut self, tree: &Arc<Tree>, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(value)?;
        self.set(tree, key, Some(value));
        Ok(())
    }

    pub(super) fn delete(&mut self, tree: &Arc<Tree>, key: &[u8]) -> Result<()> {
        check_key(key)?;
        self.set(tree, key, None);
        Ok(())
    }

    fn set(&mut self, tree: &Arc<Tree>, key: &[u8], value: Option<&[u8]>) {
        let new = || TreeWrites { tree: Arc::clone(tree), keys: BTreeMap::new() };
        let keys = &mut self.trees.entry(tree.id()).or_insert_with(new).keys;
        self.bytes += key.len() + value.map_or(0, <[u8]>::len) + 16;
        keys.insert(Key::from(key), value.map(Value::from));
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

    /// The encoded batch.
    pub(super) fn encode(&self) -> Result<BatchBuilder> {
        let mut batch = BatchBuilder::with_capacity(self.bytes);
        for (&id, writes) in &self.trees {
            for (key, value) in &writes.keys {
                match value {
                    Some(value) => batch.put(id, key, value),
                    None => batch.delete(id, key),
                }
                .map_err(refused)?;
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
