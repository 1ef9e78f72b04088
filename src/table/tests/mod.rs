//! Checkpoints and merges as wholes, and what the tests of their parts share.

mod attempts;
#[cfg(feature = "sim")]
mod beside;
#[cfg(feature = "sim")]
mod faults;
mod fixtures;
mod reading;
mod room;
#[cfg(feature = "sim")]
mod rules;
mod speed;
#[cfg(feature = "sim")]
mod work;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::dir::TableDir;
use super::gate::Gate;
use super::job::LayerCursor;
use super::keyspaces::KeyspaceList;
use super::merge::Source;
use super::named::Place;
use super::open::{self, Known};
use super::pace::Pacers;
use super::store::{Stack, Store};
use crate::base::error::Result;
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::{Access, Dir, Disk, MemoryDisk};
use crate::format::history::Entry;
use crate::format::table::manifest::Layer;

pub(crate) const LOG_ID: LogId = LogId([7; 16]);
pub(crate) const BRANCH: Incarnation = Incarnation { number: 3, nonce: 9 };

/// An empty `table/` that survives nothing.
pub(crate) fn memory_dir() -> Arc<dyn Dir> {
    MemoryDisk::new().open_dir(Path::new("")).unwrap().child(OsStr::new("table"), Access::Create).unwrap()
}

/// `table/` of an open, and what lets its calls pass.
pub(crate) fn table_dir(dir: &Arc<dyn Dir>) -> (TableDir, Arc<Gate>) {
    let gate = Arc::new(Gate::new(|| Ok(())));
    (TableDir::new(Arc::clone(dir), Path::new("db/table"), Arc::clone(&gate)), gate)
}

pub(crate) fn new_store(dir: &Arc<dyn Dir>) -> Store {
    Store::new(table_dir(dir).0, Pacers::default(), LOG_ID, None).unwrap()
}

/// What an open finds, of which HISTORY names nothing.
pub(crate) fn read_stack(dir: &Arc<dyn Dir>) -> Result<Option<Stack>> {
    let incarnations = &[Entry { incarnation: BRANCH, key: 1, begin: Lsn::ZERO, end: None }];
    let known = Known { log_id: LOG_ID, has_tables: true, names: None, oldest: Lsn::ZERO, incarnations };
    let layers = open::read(Place { dir: Some(&**dir), path: Path::new("db/table") }, known)?;
    Ok(layers.map(|layers| layers.stack))
}

/// Full key and LSN, each with its value.
pub(crate) type Versions = BTreeMap<(Vec<u8>, Lsn), Option<Vec<u8>>>;

/// What the layer holds.
pub(crate) fn versions(store: &Store, layer: &Layer) -> Result<Versions> {
    versions_from(store, layer, &[])
}

/// What the layer holds from a bound on.
pub(crate) fn versions_from(store: &Store, layer: &Layer, from: &[u8]) -> Result<Versions> {
    let (mut all, mut cursor) = (Versions::new(), LayerCursor::new(store, layer, from));
    while cursor.advance()? {
        let version = cursor.version();
        let value = version.value.map(<[u8]>::to_vec);
        assert!(all.insert((cursor.key().to_vec(), version.lsn), value).is_none(), "it is there once");
    }
    Ok(all)
}
