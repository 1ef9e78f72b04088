//! The tables of an open database: what an open finds of them, loads and settles, and where a checkpoint makes the first.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Weak};

use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::disk::{Access, Dir, DirHandle};
use crate::format::batch::BatchBuilder;
use crate::format::history::History;
use crate::format::table::data::Found;
use crate::format::table::{DIRECTORY, split_full_key};
use crate::index::Loader;
use crate::log::{LogInner, Prior, Replay};
use crate::rt::sync::{Mutex, OnceLock};
use crate::table::dir::TableDir;
use crate::table::gate::Gate;
use crate::table::held::HeldStack;
use crate::table::job::LayerCursor;
use crate::table::merge::{Merge, Retain};
use crate::table::open::{self, Known, Layers, Place};
use crate::table::store::Store;

/// Loaded at a time, in bytes.
const TOGETHER: usize = 1 << 20;

/// The tables of one database.
#[derive(Debug)]
pub(super) struct Tables {
    gate: Arc<Gate>,
    /// The log, once it is open: a checkpoint ends with it.
    log: Arc<OnceLock<Weak<LogInner>>>,
    /// From the first MANIFEST on, or from the attempt to make it.
    store: OnceLock<Store>,
    /// HISTORY names the MANIFEST that was found.
    is_named: bool,
    /// One checkpoint at a time.
    pub(super) checkpointing: Mutex<()>,
}

/// What [`look`] has found.
#[derive(Debug, Default)]
pub(super) struct FoundTables {
    layers: Option<(Layers, Arc<dyn Dir>)>,
}

/// What the tables say of the log, once HISTORY is known.
pub(super) fn look(handle: &DirHandle, history: &History) -> Result<(FoundTables, Prior)> {
    let path = handle.path_of(OsStr::new(DIRECTORY));
    let dir = match handle.dir().child(OsStr::new(DIRECTORY), Access::Read) {
        Ok(dir) => Some(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // Another program's file, which the bit makes ours.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && history.tables.is_none() => None,
        Err(error) => return Err(Error::io("open the directory", &path, error)),
    };
    let known = Known {
        log_id: history.log_id,
        has_tables: history.tables.is_some(),
        names: history.tables.and_then(|tables| tables.names),
        oldest: history.oldest,
        incarnations: &history.entries,
    };
    let layers = open::read(Place { dir: dir.as_deref(), path: &path }, known)?;
    let to = layers.as_ref().map_or(Lsn::ZERO, |layers| layers.stack.manifest.to);
    let found = FoundTables { layers: layers.zip(dir) };
    Ok((found, Prior { proven: to, known: to }))
}

impl Tables {
    /// Takes over what was found.
    pub(super) fn new(handle: &DirHandle, found: FoundTables) -> Result<Self> {
        let log: Arc<OnceLock<Weak<LogInner>>> = Arc::default();
        let known = Arc::clone(&log);
        let gate = Arc::new(Gate::new(move || match known.get().and_then(Weak::upgrade) {
            Some(log) => log.check_process().and_then(|()| log.poisoned().map_or(Ok(()), |_| Err(log.refusal()))),
            None => Ok(()),
        }));
        let is_named = found.layers.as_ref().is_some_and(|(layers, _)| layers.is_named);
        let tables = Tables { gate, log, store: OnceLock::new(), is_named, checkpointing: Mutex::default() };
        if let Some((layers, dir)) = found.layers {
            let id = layers.stack.manifest.log_id;
            let store = Store::new(tables.dir(handle, dir), id, Some(layers.stack))?;
            let _ = tables.store.set(store);
        }
        Ok(tables)
    }

    fn dir(&self, handle: &DirHandle, dir: Arc<dyn Dir>) -> TableDir {
        TableDir::new(dir, &handle.path_of(OsStr::new(DIRECTORY)), Arc::clone(&self.gate))
    }

    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// The installed layers, whose files stay while they are held.
    pub(super) fn hold(&self) -> Option<HeldStack> {
        self.store().and_then(HeldStack::of)
    }

    /// The log is open. From here on nothing is changed once it has stopped.
    pub(super) fn opened(&self, log: &Arc<LogInner>) {
        let _ = self.log.set(Arc::downgrade(log));
    }

    /// Nothing in `table/` is changed any more.
    pub(super) fn close(&self) {
        self.gate.close();
    }

    /// Makes `table/` for the first MANIFEST of this open (step 2 of `table/FAULTS.md`). HISTORY has the bit of tables
    /// already, or gets it before that MANIFEST.
    pub(super) fn make(&self, log: &LogInner) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let handle = log.handle();
        let path = handle.path_of(OsStr::new(DIRECTORY));
        let child = |access| handle.dir().child(OsStr::new(DIRECTORY), access);
        let dir = match self.gate.pass(|| child(Access::Create))? {
            // What an attempt of an earlier life has left. Nothing in it goes before this open has a MANIFEST of its own.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => child(Access::Read),
            made => made,
        };
        let dir = dir.map_err(|error| Error::io("create the directory", &path, error))?;
        let store = Store::new(self.dir(handle, dir), log.log_id(), None)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Loads what the layers hold, which the log does not have.
    pub(super) fn load(&self, loader: &mut Loader) -> Result<()> {
        let Some((store, stack)) = self.store.get().and_then(|store| Some((store, store.stack()?))) else {
            return Ok(());
        };
        let to = stack.manifest.to;
        // The loader takes its records in LSN order. There are far fewer of these than places below `to`.
        let mut lsns = (8..to.get()).step_by(8).map(Lsn::new);
        let mut give = |loader: &mut Loader, batch: &BatchBuilder| -> Result<()> {
            let lsn = lsns.next().ok_or_else(|| Error::bug("the tables hold more than the log can have had"))?;
            loader.record(lsn, batch.batch().bytes())
        };
        let mut batch = BatchBuilder::new();
        let impossible = |reason| Error::bug(format_args!("the tables hold what no commit can: {reason:?}"));
        let alive = || stack.keyspaces.iter().filter(|one| one.dropped.is_none());
        for keyspace in alive() {
            batch.create_keyspace(keyspace.id, &keyspace.name).map_err(impossible)?;
        }
        let last = stack.keyspaces.next_id().checked_sub(1);
        if let Some(last) = last.filter(|last| alive().all(|one| one.id != *last)) {
            // So that its id is not used again.
            let is_free = |name: &String| alive().all(|one| one.name != *name);
            let name = (0..).map(|number| format!("dropped {number}")).find(is_free).unwrap_or_default();
            batch.create_keyspace(last, &name).and_then(|()| batch.drop_keyspace(last)).map_err(impossible)?;
        }
        give(loader, &batch)?;
        batch.clear();
        let sources = stack.manifest.layers.iter().map(|layer| LayerCursor::new(store, layer)).collect();
        let retain = Retain { floor: to, held: Vec::new(), is_last: true };
        let keyspaces = &stack.keyspaces;
        let mut merge = Merge::new(sources, retain, keyspaces.drops(), keyspaces.gone())?;
        let mut push = |key: &[u8], version: Found<'_>| {
            let Some(((id, key), value)) = split_full_key(key).zip(version.value) else { return Ok(()) };
            batch.put(id, key, value).map_err(impossible)?;
            if batch.len() >= TOGETHER {
                give(loader, &batch)?;
                batch.clear();
            }
            Ok(())
        };
        while merge.next_key(&mut push)? {}
        // What can be read after the open is the state at `to`, also if the log has nothing above.
        loader.record(to, batch.batch().bytes())
    }
}
