//! Transactions: what they see is what they have written over their snapshot, and they conflict when they must.

use std::collections::{BTreeMap, BTreeSet};

use forelog::{CommitMode, ErrorKind, Keyspace, Transaction};

use super::model::{Bounds, Changed, History, Operation, Space, State, Value, half_open, part};
use super::reads::{Outcome, Read};
use super::system::System;
use super::writes::Writes;

/// What was written and not committed, in order, by the place of its keyspace.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) operations: Vec<(usize, Operation)>,
    keys: BTreeMap<usize, BTreeMap<Vec<u8>, Option<Value>>>,
}

impl Written {
    /// A range as it is with what was written.
    pub(super) fn over(&self, place: usize, mut state: State, bounds: &Bounds) -> State {
        for (key, value) in self.keys.get(&place).into_iter().flatten() {
            match value {
                Some(value) => state.insert(key.clone(), *value),
                None => state.remove(key),
            };
        }
        part(&state, bounds)
    }

    fn has(&self, place: usize, key: &[u8]) -> bool {
        // Of a range that it has deleted it knows all, also of keys that were not there.
        let is_deleted = |operation: &Operation| matches!(operation, Operation::DeleteRange { from, to } if **from <= *key && *key < **to);
        self.keys.get(&place).is_some_and(|keys| keys.contains_key(key))
            || self.operations.iter().any(|(of, operation)| *of == place && is_deleted(operation))
    }

    /// Does it in a batch or transaction, too. `space` is the keyspace below, as of what the writer sees.
    pub(super) fn write(
        &mut self,
        writes: &mut impl Writes,
        (place, space, keyspace): (usize, &Space, &Keyspace),
        (operation, at): (Operation, forelog::Lsn),
    ) -> forelog::Result<()> {
        match &operation {
            Operation::Put { key, value } => {
                writes.put(keyspace, key, &value.bytes())?;
                self.keys.entry(place).or_default().insert(key.clone(), Some(*value));
            }
            Operation::Delete { key } => {
                writes.delete(keyspace, key)?;
                self.keys.entry(place).or_default().insert(key.clone(), None);
            }
            Operation::DeleteRange { from, to } => {
                let bounds = half_open(from, to);
                let present: Vec<_> = self.over(place, space.range(&bounds, at), &bounds).into_keys().collect();
                writes.delete_range(keyspace, from, to)?;
                self.keys.entry(place).or_default().extend(present.into_iter().map(|key| (key, None)));
            }
        }
        self.operations.push((place, operation));
        Ok(())
    }
}

/// A transaction, with what it read and wrote.
pub(super) struct Tx {
    pub(super) tx: Transaction,
    written: Written,
    reads: Vec<(usize, Bounds)>,
}

impl Tx {
    pub(super) fn new(tx: Transaction) -> Self {
        Tx { tx, written: Written::default(), reads: Vec::new() }
    }

    /// A read of the keyspace at `place` of the history.
    pub(super) fn read(&mut self, history: &History, place: usize, keyspace: &Keyspace, read: &Read) -> Outcome {
        let (bounds, since) = (read.bounds(), self.tx.snapshot_lsn());
        let expected = self.written.over(place, history.spaces[place].range(&bounds, since), &bounds);
        let tell = |why| format!("a transaction at {since}: {why}; it has written {:?}", self.written.operations);
        read.check(&mut self.tx, keyspace, &expected).map_err(tell)?;
        let is_own = matches!(read, Read::Key(key) if self.written.has(place, key));
        if !is_own {
            self.reads.push((place, bounds));
        }
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        history: &History,
        (place, keyspace): (usize, &Keyspace),
        operation: Operation,
    ) -> forelog::Result<()> {
        let since = self.tx.snapshot_lsn();
        self.written.write(&mut self.tx, (place, &history.spaces[place], keyspace), (operation, since))
    }

    /// What was done meanwhile to what it has read, and whether a keyspace that it uses is gone.
    fn meanwhile(&self, history: &History) -> (Changed, bool) {
        let since = self.tx.snapshot_lsn();
        let mut changed = Changed::default();
        for (place, bounds) in &self.reads {
            let one = history.spaces[*place].changed(bounds, since);
            changed = Changed { changed: changed.changed || one.changed, touched: changed.touched || one.touched };
        }
        let written = self.written.operations.iter().map(|(place, _)| *place);
        let used: BTreeSet<usize> = self.reads.iter().map(|(place, _)| *place).chain(written).collect();
        (changed, used.iter().any(|place| history.spaces[*place].dropped.is_some()))
    }
}

impl System {
    pub(super) fn commit_transaction(&mut self, tx: Tx, mode: CommitMode) -> Outcome {
        self.counts.commits += 1;
        let since = tx.tx.snapshot_lsn();
        let (meanwhile, is_dropped) = tx.meanwhile(&self.history);
        let Tx { tx, written, .. } = tx;
        let is_empty = written.operations.is_empty();
        let tell = |what: &str| Err(format!("a transaction at {since}: {what}"));
        match tx.commit_with(mode) {
            Ok(receipt) if is_empty && receipt.lsn() == since => Ok(()),
            Ok(_) if is_empty => tell("a commit of nothing has a place of its own"),
            // A deletion of a range in which nothing is may be nothing to the engine.
            Ok(receipt) if receipt.lsn() == since => Ok(()),
            Ok(_) if is_dropped => tell("a keyspace was dropped, and it commits"),
            Ok(_) if meanwhile.changed => tell("a conflict was overlooked"),
            Ok(receipt) => self.committed(&receipt, mode, &written.operations),
            Err(_) if is_empty => tell("a commit of nothing fails"),
            Err(error) => match error.kind() {
                ErrorKind::KeyspaceDropped if is_dropped => Ok(()),
                ErrorKind::Conflict if meanwhile.touched || is_dropped => {
                    self.counts.conflicts += 1;
                    Ok(())
                }
                ErrorKind::Conflict if self.engine.table_stats().up_to > since => {
                    self.counts.spurious += 1;
                    Ok(())
                }
                ErrorKind::Conflict => tell("a conflict without a reason"),
                _ => Err(format!("a commit: {error}")),
            },
        }
    }
}
