//! The tables of an open database: what an open finds of them, and where a checkpoint makes the first.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::debt::Debt;
use super::first_table;
use super::health::{Health, TableStats};
use super::memory::{Hand, MemoryStats, Shares};
use super::turn::{Turns, Wait};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::Lsn;
use crate::disk::{Access, Dir, DirHandle};
use crate::format::history::History;
use crate::format::table::{DIRECTORY, manifest};
use crate::log::{LogInner, Prior};
use crate::rt::sleeper::Sleeper;
use crate::rt::sync::{Mutex, OnceLock};
use crate::table::dir::TableDir;
use crate::table::gate::Gate;
use crate::table::held::HeldStack;
use crate::table::named::Place;
use crate::table::open::{self, Known, Layers};
use crate::table::pace::Pacers;
use crate::table::reading::Reading;
use crate::table::sort::SortedBytes;
use crate::table::store::{Stack, Store};
use crate::txn::due::{Amount, Due};
use crate::txn::pipeline::Pipeline;

/// The tables of one database.
#[derive(Debug)]
pub(super) struct Tables {
    gate: Arc<Gate>,
    /// The log, once it is open: a checkpoint ends with it.
    log: Arc<OnceLock<Weak<LogInner>>>,
    /// From the first MANIFEST on, or from the attempt to make it.
    store: Arc<OnceLock<Store>>,
    /// What the index asks of them.
    reading: Arc<Reading>,
    shares: Shares,
    /// What is being sorted of the log takes so much memory.
    pub(super) sorted_bytes: SortedBytes,
    /// Where memory is forgotten next.
    pub(super) hand: Mutex<Hand>,
    /// HISTORY names the MANIFEST that was found.
    is_named: bool,
    may_have_ranges: bool,
    /// One checkpoint at a time.
    pub(super) turns: Turns,
    /// One step of a merge at a time.
    pub(super) merge_turns: Turns,
    pub(super) pacers: Pacers,
    pub(super) debt: Debt,
    /// Rung when a merge may be due.
    pub(super) merge_bell: Arc<Sleeper>,
    pub(super) health: Health,
}

/// What [`look`] has found.
#[derive(Debug, Default)]
pub(super) struct FoundTables {
    layers: Option<(Layers, Arc<dyn Dir>)>,
    /// HISTORY has the bit of range deletions.
    has_ranges: bool,
}

/// What the tables say of the log, once HISTORY is known.
pub(super) fn look(handle: &DirHandle, history: &History) -> Result<(FoundTables, Prior)> {
    let path = handle.path_of(OsStr::new(DIRECTORY));
    let dir = match handle.dir().child(OsStr::new(DIRECTORY), Access::Read) {
        Ok(dir) => Some(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // Another program's file, or a directory that only it may read: the bit makes it ours.
        Err(error) if error.kind() != io::ErrorKind::Interrupted && history.tables.is_none() => None,
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
    let (to, let_go) = layers.as_ref().map_or((Lsn::ZERO, Lsn::ZERO), |layers| {
        let manifest = &layers.stack.manifest;
        (manifest.to, manifest.oldest)
    });
    let found = FoundTables { layers: layers.zip(dir), has_ranges: history.has_ranges };
    Ok((found, Prior { proven: to, known: to, let_go }))
}

impl Tables {
    /// Takes over what was found.
    pub(super) fn new(handle: &DirHandle, found: FoundTables, settings: &Settings) -> Result<Self> {
        let log: Arc<OnceLock<Weak<LogInner>>> = Arc::default();
        let known = Arc::clone(&log);
        let gate = Arc::new(Gate::new(move || match known.get().and_then(Weak::upgrade) {
            Some(log) => log.check_process().and_then(|()| log.poisoned().map_or(Ok(()), |_| Err(log.refusal()))),
            None => Ok(()),
        }));
        let is_named = found.layers.as_ref().is_some_and(|(layers, _)| layers.is_named);
        let (store, health) = (Arc::new(OnceLock::new()), Health::default());
        let shares = Shares::of(settings);
        let reading = Arc::new(Reading::new(Arc::clone(&store), shares.limits()));
        let hand = Mutex::default();
        let (turns, merge_turns, merge_bell) = (Turns::new(), Turns::new(), Arc::new(Sleeper::new()));
        let (pacers, debt) = Default::default();
        let tables = Tables {
            gate,
            log,
            store,
            reading,
            shares,
            sorted_bytes: SortedBytes::default(),
            hand,
            is_named,
            may_have_ranges: found.has_ranges,
            turns,
            merge_turns,
            pacers,
            debt,
            merge_bell,
            health,
        };
        if let Some((layers, dir)) = found.layers {
            let id = layers.stack.manifest.log_id;
            let store = Store::new(tables.dir(handle, dir), tables.pacers.clone(), id, Some(layers.stack))?;
            let _ = tables.store.set(store);
        }
        Ok(tables)
    }

    fn dir(&self, handle: &DirHandle, dir: Arc<dyn Dir>) -> TableDir {
        TableDir::new(dir, &handle.path_of(OsStr::new(DIRECTORY)), Arc::clone(&self.gate))
    }

    /// Whether the log that was found may have deletions of ranges.
    pub(super) fn may_have_ranges(&self) -> bool {
        self.may_have_ranges
    }

    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// The installed layers; `None` before the first MANIFEST.
    pub(super) fn stack(&self) -> Option<Arc<Stack>> {
        self.store().and_then(Store::stack)
    }

    pub(super) fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// Generation and CRC of the installed MANIFEST.
    pub(super) fn names(&self) -> Option<(u64, u32)> {
        self.stack().map(|stack| stack.names())
    }

    /// Whether the MANIFEST that was found is still there (rule 4 of `disk/LOCK.md`). Asked before this open changes it.
    pub(super) fn are_as_found(&self, handle: &DirHandle, history: &History) -> Result<bool> {
        match look(handle, history) {
            Ok((now, _)) => Ok(now.layers.map(|(layers, _)| layers.stack.names()) == self.names()),
            Err(error) if error.kind() == ErrorKind::Io => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The installed layers, whose files stay while they are held.
    pub(super) fn hold(&self) -> Option<HeldStack> {
        self.store().and_then(HeldStack::of)
    }

    /// The log is open. From here on nothing is changed once it has stopped.
    pub(super) fn opened(&self, log: &Arc<LogInner>) {
        let _ = self.log.set(Arc::downgrade(log));
    }

    /// Whether an open could write MANIFEST, if it has to: why not, if not.
    pub(super) fn would_settle(&self) -> Result<()> {
        self.store().map_or(Ok(()), |store| store.would_settle(self.is_named))
    }

    /// What lies behind the layers.
    pub(super) fn pending(&self, due: &Due) -> Amount {
        due.counted().above(self.health.done())
    }

    pub(super) fn stats(&self, pipeline: &Pipeline) -> TableStats {
        let (stats, pending) = (self.health.stats(), self.pending(&pipeline.due));
        let (waits, waited) = pipeline.throttle.waited();
        let all_in_memory = pipeline.index().unsettled().is_empty();
        let stats = TableStats {
            all_in_memory,
            pending_bytes: pending.bytes,
            pending_ops: pending.ops,
            waits,
            waited,
            ..stats
        };
        match self.stack() {
            Some(stack) => stats.with(&stack),
            None => stats,
        }
    }

    /// How memory is shared out now.
    pub(super) fn shares(&self) -> Shares {
        self.shares.beside(self.reading.partition_bytes() + self.reading.open_run_bytes())
    }

    pub(super) fn memory_stats(&self, pipeline: &Pipeline) -> MemoryStats {
        let bytes = pipeline.index().bytes();
        MemoryStats {
            limit: self.shares.memory,
            records_limit: self.shares().records,
            records: bytes.all as u64,
            superseded: bytes.superseded as u64,
            partitions: self.reading.partition_bytes(),
            open_runs: self.reading.open_run_bytes(),
            sorting: self.sorted_bytes.load(Ordering::Relaxed),
            log_buffers: pipeline.log.buffer_bytes(),
        }
    }

    /// Refuses if nothing may be changed any more.
    pub(super) fn check_open(&self) -> Result<()> {
        self.gate.check_open()
    }

    /// Refuses if the name `table` leads to another directory than the one that is written to (step 12), or if another MANIFEST
    /// is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Removed`](crate::ErrorKind::Removed).
    pub(super) fn check_place(&self, handle: &DirHandle) -> Result<()> {
        let Some(store) = self.store() else { return Ok(()) };
        let path = handle.path_of(OsStr::new(DIRECTORY));
        let found = handle.dir().child(OsStr::new(DIRECTORY), Access::Read).and_then(|dir| dir.id());
        match found {
            Ok(id) if id == store.dir_id().map_err(|error| Error::io("look at", &path, error))? => {
                match store.has_own_manifest()? {
                    true => Ok(()),
                    false => Err(handle.removed(&path.join(manifest::FILE_NAME), "was removed or replaced")),
                }
            }
            Ok(_) => Err(handle.removed(&path, "was replaced")),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(handle.removed(&path, "was removed or renamed"))
            }
            Err(error) => Err(Error::io("open the directory", &path, error)),
        }
    }

    /// Ends the attempts under way, each at its next change, and waits until they have removed what they had made: a clean
    /// close leaves nothing for the next open to remove. While the turns are held, nobody begins another one.
    pub(super) fn end(&self) -> impl Sized + '_ {
        self.pacers.checkpoints.end();
        self.pacers.merges.end();
        self.gate.end();
        // In this order: a merge that heals takes the second one under the first.
        (self.merge_turns.take(Wait::ForItsTurn), self.turns.take(Wait::ForItsTurn))
    }

    /// Nothing in `table/` is changed any more.
    pub(super) fn close(&self) {
        self.gate.close();
    }

    /// What a checkpoint changes. Before the first one of this open `table/` is made, and HISTORY says so (steps 2 and 3 of
    /// `table/FAULTS.md`), unless a MANIFEST is known durable. A failure of either has both done again by the next attempt.
    pub(super) fn make(&self, log: &LogInner) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let dir = first_table::make(log, &self.gate)?;
        log.announce_tables()?;
        let store = Store::new(self.dir(log.handle(), dir), self.pacers.clone(), log.log_id(), None)?;
        // Whoever makes a checkpoint has its turn, so there is no other one.
        let _ = self.store.set(store);
        self.store.get().ok_or_else(|| Error::bug("the tables are not there"))
    }
}
