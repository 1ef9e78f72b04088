//! One layer of everything, so that what is deleted and overwritten gives its space back now (`table/MERGING.md`, 7).

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::Engine;
use super::checkpoint::{Then, checkpoint};
use super::merging::{Leaves, merge_step_of};
use super::tables::Tables;
use super::turn::Wait;
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::format::table::manifest::{Layer, Role, bytes_of};
use crate::log::LogInner;
use crate::table::pick::{due_to_compact, left_to_compact};
use crate::txn::pipeline::Pipeline;

/// What [`Engine::compact`] has done. Both figures are of files: of the tables, and of the segments of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CompactReport {
    /// All up to here was merged; zero if there is nothing.
    pub lsn: Lsn,
    /// Bytes of the database when the call began...
    pub bytes_before: u64,
    /// ...and when it ended.
    pub bytes_after: u64,
}

/// How far a compaction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CompactProgress {
    /// Bytes of tables that were read.
    pub bytes: u64,
    /// Bytes of all tables.
    pub total_bytes: u64,
}

type OnProgress = Arc<dyn Fn(CompactProgress) + Send + Sync>;

/// How a compaction is made.
#[derive(Clone, Default)]
pub struct CompactOptions {
    is_unpaced: bool,
    on_progress: Option<OnProgress>,
}

impl fmt::Debug for CompactOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactOptions").field("is_unpaced", &self.is_unpaced).finish_non_exhaustive()
    }
}

impl CompactOptions {
    /// The defaults: as fast as other merges are.
    pub fn new() -> Self {
        CompactOptions::default()
    }

    /// As fast as it goes, whatever else the disk has to do. An engine that makes no checkpoints of its own accord has no other
    /// pace.
    #[must_use]
    pub fn unpaced(mut self) -> Self {
        self.is_unpaced = true;
        self
    }

    /// Calls `told` after each step, which writes some MiB, on the thread that compacts. It may close the engine, which ends the
    /// compaction.
    #[must_use]
    pub fn on_progress(mut self, told: impl Fn(CompactProgress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(told));
        self
    }
}

impl Engine {
    /// Merges everything that is durable now into one sorted layer, so that the space of what was deleted or overwritten is given
    /// back. It makes a [checkpoint](Engine::checkpoint) first, and ends merges that are under way. Commits, reads and other
    /// checkpoints go on meanwhile.
    ///
    /// An engine merges of its own accord, and keeps the space within about one and a half times that of the data. This call is
    /// for what is to be smaller than that, or to be smaller now: after a large deletion, before a copy. It reads and writes all
    /// data once, and so costs that much of the disk's bandwidth, at the pace of other merges. The room that it needs beside the
    /// data is that of a step. What snapshots read that are held stays until they end, and a later merge.
    ///
    /// It is made in steps, each of which is durable. If it fails, if the engine is closed meanwhile, or after a crash, the
    /// database is whole, what was done is done, and the merges of the engine go on with the rest.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("forelog-doc-compact-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// let engine = forelog::Engine::open(&dir)?;
    /// engine.create_keyspace("old")?;
    /// engine.drop_keyspace("old")?;
    /// let report = engine.compact()?;
    /// println!("{} bytes, before {}", report.bytes_after, report.bytes_before);
    /// # engine.close()?; std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::flush`] and [`Engine::checkpoint`]; [`ErrorKind::DiskFull`] if there is no room for a step beside what the log
    /// needs; [`ErrorKind::Damaged`] with the file of a table that is missing, cut or another one, if not all data are in memory. It goes
    /// round rot: see [`TableStats::set_aside`](crate::TableStats::set_aside).
    /// [`ErrorKind::Closed`] if the engine is closed meanwhile. In memory there is nothing to merge.
    pub fn compact(&self) -> Result<CompactReport> {
        self.compact_with(CompactOptions::new())
    }

    /// [`Engine::compact`] in another way.
    ///
    /// # Errors
    /// As [`Engine::compact`].
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn compact_with(&self, options: CompactOptions) -> Result<CompactReport> {
        let (pipeline, tables) = (self.pipeline(), &self.inner.tables);
        pipeline.check_open()?;
        let bytes_before = bytes_on_disk(&pipeline.log, tables);
        self.flush()?;
        {
            let _unpaced = tables.pacers.checkpoints.hurry();
            checkpoint(pipeline, tables, Wait::ForItsTurn, Then::Nothing)?;
        }
        let lsn = compact(pipeline, tables, &options).map_err(|error| pipeline.check_open().err().unwrap_or(error))?;
        Ok(CompactReport { lsn, bytes_before, bytes_after: bytes_on_disk(&pipeline.log, tables) })
    }
}

fn bytes_on_disk(log: &LogInner, tables: &Tables) -> u64 {
    let segments = log.incarnations().look(|known| known.segments.iter().map(|info| info.length).sum::<u64>());
    segments.saturating_add(tables.stack().map_or(0, |stack| bytes_of(&stack.manifest.layers)))
}

/// Does steps until the job of all layers is over that one of them has begun. Returns up to where it goes.
fn compact(pipeline: &Pipeline, tables: &Tables, options: &CompactOptions) -> Result<Lsn> {
    let _unpaced = options.is_unpaced.then(|| tables.pacers.merges.hurry());
    // Where the job of all layers ends, once it has begun.
    let begun: Cell<Option<Lsn>> = Cell::new(None);
    // The same for one that begins with the step under way. That may fail, or be tried again.
    let begins = Cell::new(None);
    let choose = |layers: &[Layer]| {
        let is_first = begun.get().is_none() && layers.iter().all(|layer| layer.role == Role::Whole);
        begins.set(layers.first().filter(|_| is_first).map(|newest| newest.interval.to));
        due_to_compact(layers, begun.get())
    };
    let step = || {
        let stepped = merge_step_of(pipeline, tables, Leaves::Room, &choose)?;
        begun.set(begun.get().or(begins.take()));
        Ok::<_, Error>(stepped)
    };
    let left = || tables.stack().map_or(0, |stack| left_to_compact(&stack.manifest.layers, begun.get()));
    let mut progress = CompactProgress { bytes: 0, total_bytes: left() };
    loop {
        pipeline.check_open()?;
        let is_over = {
            let Some(_turn) = tables.merge_turns.take(Wait::ForItsTurn) else { continue };
            let mut stepped = step()?;
            if stepped && begun.get().is_none() {
                // In the same turn: what stood in the way is done, and nothing else is to come in between.
                stepped = step()?;
            }
            !stepped
        };
        progress.bytes = progress.total_bytes.saturating_sub(left()).max(progress.bytes);
        if is_over {
            progress.bytes = progress.total_bytes;
        }
        // Without the turn: it may close the engine.
        if let Some(told) = &options.on_progress {
            told(progress);
        }
        if is_over {
            return Ok(begun.get().unwrap_or_default());
        }
    }
}
