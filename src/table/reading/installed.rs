//! Layers that are held for readers (`RULES.md`, 6).

use std::sync::Arc;

use super::open_runs::OpenRuns;
use super::partitions::Partitions;
use crate::base::error::{Result, is_short_of_files};
use crate::format::table::data::Interval;
use crate::format::table::manifest::NamedRun;
use crate::table::fences::Fences;
use crate::table::held::HeldStack;
use crate::table::run::read::Run;

/// What all readers share.
#[derive(Debug)]
pub(super) struct Caches {
    pub(super) runs: OpenRuns,
    pub(super) partitions: Partitions,
}

/// The layers of a stack. Their files stay while this is held.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) held: HeldStack,
    pub(super) caches: Arc<Caches>,
    /// Of each layer: whether a run of it has range tombstones. There are many runs, and a scan may ask for few keys.
    pub(super) have_ranges: Vec<bool>,
    /// Of each layer: where its runs end, but for one that reaches to the end of all keys.
    pub(super) ends: Vec<Fences>,
}

impl Installed {
    pub(super) fn new(held: HeldStack, caches: &Arc<Caches>) -> Self {
        let layers = || held.stack.manifest.layers.iter();
        let have_ranges = layers().map(|layer| layer.runs.iter().any(|run| run.range_tombstones > 0)).collect();
        let ends = layers().map(|layer| Fences::of(ends(&layer.runs))).collect();
        Installed { held, caches: Arc::clone(caches), have_ranges, ends }
    }

    pub(super) fn generation(&self) -> u64 {
        self.held.stack.manifest.generation
    }

    /// The run that a layer with this interval names. It is open as long as someone has it.
    pub(super) fn run(&self, named: &NamedRun, interval: Interval) -> Result<Arc<Run>> {
        let number = named.file.number;
        if let Some(run) = self.caches.runs.get(number) {
            return Ok(run);
        }
        let run = match self.held.open_run(named, interval) {
            Err(error) if error.io_error().is_some_and(is_short_of_files) => {
                // Those that nobody reads just now give their descriptors back.
                self.caches.runs.close_all();
                self.held.open_run(named, interval)?
            }
            opened => opened?,
        };
        let run = Arc::new(run);
        Ok(self.caches.runs.keep(number, run, self.generation()))
    }
}

/// Where runs of a layer end. An empty bound, which only the last one may have, is the end of all keys.
fn ends(runs: &[NamedRun]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    let bounded = runs.len() - usize::from(runs.last().is_some_and(|last| last.range.high.is_empty()));
    runs[..bounded].iter().map(|run| run.range.high.as_slice())
}
