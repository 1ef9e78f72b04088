//! What a backup is made of: layers that are held, and HISTORY as it has to be with them alone.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::{DirHandle, Disk};
use crate::engine::Engine;
use crate::engine::checkpoint::{Then, checkpoint};
use crate::engine::open::look_at_tables;
use crate::engine::turn::Wait;
use crate::format::history::{End, Entry, History, Tables};
use crate::format::segment::SEGMENT_HEADER;
use crate::format::table::data::Interval;
use crate::format::table::manifest::{Layer, Manifest, NamedFile, NamedRun};
use crate::log::Files;
use crate::log::log_dir::LogDir;
use crate::log::open::{load_existing, unless_unlocked};
use crate::table::held::HeldStack;
use crate::table::store::Stack;

pub(super) struct Source {
    /// Without an open incarnation.
    history: History,
    /// `None` if there is nothing to copy: no commit was ever made.
    pub(super) layers: Option<HeldStack>,
}

impl Source {
    /// Moves all that is visible into tables, and holds these.
    ///
    /// # Errors
    /// Those of a flush and a checkpoint; [`ErrorKind::Unsupported`] if the engine makes none.
    pub(super) fn of_engine(engine: &Engine) -> Result<Self> {
        let (pipeline, tables) = (engine.pipeline(), &engine.inner.tables);
        pipeline.check_open()?;
        if pipeline.settings.is_volatile {
            let message = "a database in memory has no files to copy: Engine::save_to writes what it holds";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let visible = engine.flush()?;
        {
            let _unpaced = tables.pacers.checkpoints.hurry();
            checkpoint(pipeline, tables, Wait::ForItsTurn, Then::Nothing).map_err(|error| match error.kind() {
                ErrorKind::Unsupported => error.adding("Engine::save_to copies it without"),
                _ => error,
            })?;
        }
        // In this order: the incarnation in which the layers end is listed before they have anything of it.
        let layers = tables.hold();
        let (mut history, prepared) = pipeline.log.incarnations().on_disk();
        let to = end_of(layers.as_ref());
        if to < visible {
            return Err(Error::bug("a checkpoint has left out what was visible"));
        }
        if let Some(open) = history.entries.last_mut().filter(|entry| entry.end.is_none()) {
            open.end = Some(ended(open, to, prepared)?);
        }
        Ok(Source { history, layers })
    }

    /// What is in a directory, which is read, and not opened. It is locked as long as `handle` is there.
    ///
    /// # Errors
    /// As of reading a database.
    pub(super) fn in_directory(handle: &Arc<DirHandle>) -> Result<Self> {
        handle.lock_for_reading()?;
        let place = LogDir::new(Arc::clone(handle));
        let read = look_at_tables(handle, &Settings::default(), |look| load_existing(&place, Files::Still, look));
        let (tables, directory) = read.map_err(|error| unless_unlocked(handle, error))?;
        Ok(Source { history: directory.history, layers: tables.hold() })
    }

    /// Refuses one that is not all in its tables.
    pub(super) fn check_no_log(&self, path: &Path) -> Result<()> {
        let to = self.lsn();
        let is_in_tables = |entry: &Entry| entry.end.is_some_and(|end| end.lsn <= to || end.lsn == entry.begin);
        if self.history.entries.iter().all(is_in_tables) {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "{} is no backup, or was opened and written to since: it has a log beside its tables. Open it where it is, or \
             make a backup of it, and restore that",
            path.display()
        )))
    }

    /// The position of which this is the state.
    pub(super) fn lsn(&self) -> Lsn {
        end_of(self.layers.as_ref())
    }

    /// The same, and the incarnation in which it lies.
    pub(super) fn end(&self) -> (Lsn, Incarnation) {
        let held = self.layers.as_ref().map(|layers| &layers.stack.manifest);
        held.map_or((Lsn::ZERO, Incarnation::NONE), |manifest| (manifest.to, manifest.branch))
    }

    pub(super) fn log_id(&self) -> LogId {
        self.history.log_id
    }

    /// MANIFEST of a copy.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        let held = &self.layers.as_ref()?.stack.manifest;
        // What a merge set aside as damaged is for a salvage of the source.
        Some(Manifest { aside: Vec::new(), ..held.clone() })
    }

    /// The layers of a copy whose MANIFEST has this CRC.
    pub(super) fn stack(&self, names: Option<(u64, u32)>) -> Option<Stack> {
        let (manifest, (_, crc)) = self.manifest().zip(names)?;
        let keyspaces = Arc::clone(&self.layers.as_ref()?.stack.keyspaces);
        Some(Stack { manifest, keyspaces, crc })
    }

    /// HISTORY of a copy with this MANIFEST, if there is one.
    pub(super) fn history(&self, names: Option<(u64, u32)>) -> Result<History> {
        let to = self.lsn();
        let mut history = self.history.clone();
        if history.entries.iter().any(|entry| entry.end.is_none_or(|end| end.lsn > to && end.lsn > entry.begin)) {
            return Err(Error::bug("a backup that is short of log"));
        }
        if names.is_some() {
            history.tables = Some(Tables { names });
        }
        Ok(history)
    }

    /// The runs of the layers, each with the interval of its layer.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&NamedRun, Interval)> {
        let layers = self.layers.iter().flat_map(|layers| &layers.stack.manifest.layers);
        layers.flat_map(|layer: &Layer| layer.runs.iter().map(|run| (run, layer.interval)))
    }

    /// What all files of the tables take, in bytes, without MANIFEST.
    pub(super) fn bytes(&self) -> u64 {
        let list = self.layers.as_ref().map_or(0, |layers| layers.stack.manifest.keyspaces.length);
        self.runs().map(|(run, _)| run.file.length).sum::<u64>() + list
    }
}

fn end_of(layers: Option<&HeldStack>) -> Lsn {
    layers.map_or(Lsn::ZERO, |layers| layers.stack.manifest.to)
}

/// How an open incarnation ends in a copy that has everything up to `to`, and nothing above.
pub(super) fn ended(open: &Entry, to: Lsn, prepared: Lsn) -> Result<End> {
    let lsn = to.max(open.begin);
    let aligned = (lsn.get() / SEGMENT_HEADER).checked_add(1).and_then(|end| end.checked_mul(SEGMENT_HEADER));
    let least = aligned.ok_or_else(|| Error::bug("the positions of the log are used up"))?;
    Ok(End { lsn, prepared: prepared.max(Lsn::new(least)), clean: true })
}

/// An earlier backup, locked for reading.
pub(super) struct Earlier {
    pub(super) handle: Arc<DirHandle>,
    runs: HashMap<u64, NamedFile>,
}

impl Earlier {
    /// # Errors
    /// As of reading a database.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let handle = Arc::new(DirHandle::open(disk, path)?);
        let source = Source::in_directory(&handle)?;
        let runs = source.runs().map(|(run, _)| (run.file.number, run.file)).collect();
        Ok(Earlier { handle, runs })
    }

    /// Whether it has this file.
    pub(super) fn has(&self, named: &NamedFile) -> bool {
        self.runs.get(&named.number) == Some(named)
    }
}
