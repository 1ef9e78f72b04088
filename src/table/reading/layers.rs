//! The seam of the index: layers as memory asks them (`index/beyond.rs`).

use std::ops::Bound;
use std::sync::Arc;

use super::installed::Installed;
use super::scan::Scan;
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::write_full_key;
use crate::index::{Direction, Key, Layers, LayersScan, Value};

impl Layers for Installed {
    fn to(&self) -> Lsn {
        self.held.stack.manifest.to
    }

    fn get(&self, keyspace: u32, key: &[u8], at: Lsn) -> Result<Option<Value>> {
        self.newest(keyspace, key, at)
    }

    fn scan(
        self: Arc<Self>,
        keyspace: u32,
        (low, high): (Bound<Key>, Bound<Key>),
        direction: Direction,
        at: Lsn,
    ) -> Box<dyn LayersScan> {
        let bound = |key: &[u8], behind: bool| {
            let mut full = Vec::new();
            write_full_key(&mut full, keyspace, key);
            full.extend(behind.then_some(0));
            full
        };
        let from = match &low {
            Bound::Included(key) => bound(key, false),
            Bound::Excluded(key) => bound(key, true),
            Bound::Unbounded => bound(&[], false),
        };
        let end = match &high {
            Bound::Excluded(key) => bound(key, false),
            Bound::Included(key) => bound(key, true),
            // The highest id is no keyspace's, so there is always a next one.
            Bound::Unbounded => keyspace.saturating_add(1).to_be_bytes().to_vec(),
        };
        Box::new(Scan::new(self, (from, end), direction, at))
    }
}

/// What there is before the first layer.
#[derive(Debug)]
pub(super) struct Nothing;

impl Layers for Nothing {
    fn to(&self) -> Lsn {
        Lsn::ZERO
    }

    fn get(&self, _: u32, _: &[u8], _: Lsn) -> Result<Option<Value>> {
        Ok(None)
    }

    fn scan(self: Arc<Self>, _: u32, _: (Bound<Key>, Bound<Key>), _: Direction, _: Lsn) -> Box<dyn LayersScan> {
        Box::new(Nothing)
    }
}

impl LayersScan for Nothing {
    fn advance(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        unreachable!("there is no entry")
    }

    fn value(&self) -> &[u8] {
        unreachable!("there is no entry")
    }

    fn lsn(&self) -> Lsn {
        unreachable!("there is no entry")
    }
}
