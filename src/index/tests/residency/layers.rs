//! Layers in memory, for the index: what a checkpoint or merge would have written, with exactly what a horizon lets it leave out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::index::{Above, Beyond, Direction, Key, Layers, LayersScan, Value};

/// The versions of a key, oldest first.
type Versions = Vec<(Lsn, Option<Vec<u8>>)>;

#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) keys: BTreeMap<Vec<u8>, Versions>,
    pub(super) to: Lsn,
}

/// What happens once.
type Once = Box<dyn FnOnce() + Send>;

/// Whatever is installed.
#[derive(Default)]
pub(super) struct Installed {
    now: Mutex<Arc<Fake>>,
    once_taken: Mutex<Option<Once>>,
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Installed").field(&self.now()).finish()
    }
}

impl Installed {
    pub(super) fn now(&self) -> Arc<Fake> {
        Arc::clone(&self.now.lock())
    }

    pub(super) fn install(&self, layers: Fake) {
        *self.now.lock() = Arc::new(layers);
    }

    /// What happens right after the next reader has taken layers.
    pub(super) fn once_taken(&self, then: impl FnOnce() + Send + 'static) {
        *self.once_taken.lock() = Some(Box::new(then));
    }
}

impl Beyond for Installed {
    fn installed(&self) -> Arc<dyn Layers> {
        let taken = self.now();
        let then = self.once_taken.lock().take();
        then.into_iter().for_each(|then| then());
        taken
    }
}

impl Fake {
    /// These layers with the versions of `log` behind them, up to `to`, without what a horizon lets go. With `is_merged` all are
    /// one layer, so that tombstones go, too.
    pub(super) fn with(
        &self,
        log: &BTreeMap<Vec<u8>, Versions>,
        to: Lsn,
        (floor, held): (Lsn, Vec<Lsn>),
        is_merged: bool,
    ) -> Fake {
        let mut keys = self.keys.clone();
        for (key, versions) in log {
            let newer = versions.iter().filter(|(lsn, _)| self.to < *lsn && *lsn <= to);
            keys.entry(key.clone()).or_default().extend(newer.cloned());
        }
        for versions in keys.values_mut() {
            let all = std::mem::take(versions);
            for (number, version) in all.iter().enumerate() {
                let needs = |(successor, _): &(Lsn, _)| {
                    *successor > floor || held.iter().any(|held| version.0 <= *held && held < successor)
                };
                if all.get(number + 1).is_none_or(needs) {
                    versions.push(version.clone());
                }
            }
            while is_merged && versions.first().is_some_and(|(_, value)| value.is_none()) {
                versions.remove(0);
            }
        }
        Fake { keys, to }
    }

    /// These layers with one from memory above, up to `to`.
    pub(super) fn with_pieces(&self, pieces: &[Above], to: Lsn) -> Fake {
        let mut keys = self.keys.clone();
        for piece in pieces {
            for (key, versions) in &piece.keys {
                let versions = versions.iter().map(|(lsn, value)| (*lsn, value.as_ref().map(|value| value.to_vec())));
                keys.entry(key.to_vec()).or_default().extend(versions);
            }
        }
        for (start, end, lsn) in pieces.iter().flat_map(|piece| &piece.deleted) {
            let is_over = |key: &[u8]| start.as_slice() <= key && end.as_ref().is_none_or(|end| key < end.as_slice());
            let over = keys.iter_mut().filter(|(key, _)| is_over(key));
            over.for_each(|(_, versions)| versions.push((*lsn, None)));
        }
        // With equal LSNs a value is newer than the deletion of a range.
        keys.values_mut().for_each(|versions| versions.sort_by_key(|(lsn, value)| (*lsn, value.is_some())));
        Fake { keys, to }
    }

    pub(super) fn read(&self, key: &[u8], at: Lsn) -> Option<(Lsn, &[u8])> {
        let versions = self.keys.get(key)?;
        let (lsn, value) = versions.iter().rev().find(|(lsn, _)| *lsn <= at)?;
        Some((*lsn, value.as_deref()?))
    }
}

impl Layers for Fake {
    fn to(&self) -> Lsn {
        self.to
    }

    fn get(&self, _: u32, key: &[u8], at: Lsn) -> Result<Option<Value>> {
        Ok(self.read(key, at).map(|(_, value)| Value::from(value)))
    }

    fn scan(
        self: Arc<Self>,
        _: u32,
        (low, high): (Bound<Key>, Bound<Key>),
        direction: Direction,
        at: Lsn,
    ) -> Box<dyn LayersScan> {
        let (low, high) = (low.map(|key| key.to_vec()), high.map(|key| key.to_vec()));
        let is_in = |key: &&Vec<u8>| {
            let from_low = match &low {
                Bound::Unbounded => true,
                Bound::Included(low) => *key >= low,
                Bound::Excluded(low) => *key > low,
            };
            from_low
                && match &high {
                    Bound::Unbounded => true,
                    Bound::Included(high) => *key <= high,
                    Bound::Excluded(high) => *key < high,
                }
        };
        let found = self.keys.keys().filter(is_in).filter_map(|key| {
            let (lsn, value) = self.read(key, at)?;
            Some((key.clone(), lsn, value.to_vec()))
        });
        let mut entries: Vec<_> = found.collect();
        if direction == Direction::Backward {
            entries.reverse();
        }
        Box::new(FakeScan { entries, next: 0 })
    }
}

#[derive(Debug)]
struct FakeScan {
    entries: Vec<(Vec<u8>, Lsn, Vec<u8>)>,
    /// Behind the present one.
    next: usize,
}

impl LayersScan for FakeScan {
    fn advance(&mut self) -> Result<bool> {
        assert!(self.next <= self.entries.len(), "asked behind the end");
        self.next += 1;
        Ok(self.next <= self.entries.len())
    }

    fn key(&self) -> &[u8] {
        &self.entries[self.next - 1].0
    }

    fn value(&self) -> &[u8] {
        &self.entries[self.next - 1].2
    }

    fn lsn(&self) -> Lsn {
        self.entries[self.next - 1].1
    }
}
