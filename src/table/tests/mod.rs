//! Checkpoints and merges as wholes, and what the tests of their parts share.

mod attempts;
#[cfg(feature = "sim")]
mod beside;
#[cfg(feature = "sim")]
mod faults;
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
use super::keyspaces::KeyspaceList;
use super::list::read_list;
use super::merge::Source;
use super::run::cursor::RunCursor;
use super::store::{Stack, Store};
use crate::base::error::{Error, Result};
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::{Access, Dir, Disk, MemoryDisk};
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{FILE_NAME, Layer, Manifest};
use crate::format::table::{FileKind, file_name};
use crate::format::{Check, Refusal};

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
    Store::new(table_dir(dir).0, LOG_ID, None).unwrap()
}

/// What an open finds: the stack as MANIFEST and the file of keyspaces say it.
pub(crate) fn read_stack(dir: &Arc<dyn Dir>) -> Result<Option<Stack>> {
    let read = |name: &str, begin: fn(&[u8]) -> std::result::Result<Check, Refusal>| {
        let path = Path::new("db/table").join(name);
        let file = dir.open(OsStr::new(name), Access::Read).map_err(|error| Error::io("open", &path, error))?;
        read_list(&*file, &path, begin)
    };
    let is_there = dir.list().unwrap().iter().any(|name| name == FILE_NAME);
    if !is_there {
        return Ok(None);
    }
    let bytes = read(FILE_NAME, Manifest::begin_check)?;
    let manifest = Manifest::decode(&bytes).expect("its checksum holds");
    let name = file_name(manifest.keyspaces.number, FileKind::Keyspaces);
    let list = Keyspaces::decode(&read(&name, Keyspaces::begin_check)?).expect("its checksum holds");
    assert_eq!(list.identity.nonce, manifest.keyspaces.nonce);
    Ok(Some(Stack { manifest, keyspaces: Arc::new(KeyspaceList::of(&list)), crc: Manifest::crc(&bytes) }))
}

/// Full key and LSN, each with its value.
pub(crate) type Versions = BTreeMap<(Vec<u8>, Lsn), Option<Vec<u8>>>;

/// What the layer holds.
pub(crate) fn versions(store: &Store, layer: &Layer) -> Result<Versions> {
    let mut all = Versions::new();
    for named in &layer.runs {
        let mut cursor = RunCursor::new(Arc::new(store.open_run(named, layer.interval)?));
        while cursor.advance()? {
            let version = cursor.version();
            let value = version.value.map(<[u8]>::to_vec);
            assert!(all.insert((cursor.key().to_vec(), version.lsn), value).is_none(), "it is there once");
        }
    }
    Ok(all)
}
