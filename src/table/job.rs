//! Merging neighbouring layers into one (`RULES.md`, 9; steps 5 to 11 of `FAULTS.md`).

use std::ops::Range;
use std::sync::Arc;
use std::vec::IntoIter;

use super::fragments::fragment;
use super::keyspaces::KeyspaceList;
use super::layer::LayerWriter;
use super::merge::{Merge, Retain, Source};
use super::run::cursor::RunCursor;
use super::run::read::Run;
use super::store::{Attempt, Chosen, NotInstalled, Stack, Store};
use crate::base::error::{Error, Result};
use crate::base::types::{Incarnation, Lsn};
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::{Layer, Role};
use crate::format::table::range_tombstones::RangeTombstone;

/// A merged layer whose files are durable, and which no MANIFEST names. Dropped, it has had no effect.
#[derive(Debug)]
pub(crate) struct Job<'s> {
    attempt: Attempt<'s>,
    inputs: Vec<Interval>,
    output: Layer,
}

impl Store {
    /// Merges these layers of `stack`, of which there is at least one, and each of which is whole. The horizon is that of
    /// its begin.
    ///
    /// # Errors
    /// An input cannot be read or is damaged; those of new files. Nothing has changed then.
    pub(crate) fn merge(
        &self,
        stack: &Stack,
        layers: Range<usize>,
        horizon: &Retain,
        run_bytes: u64,
    ) -> Result<Job<'_>> {
        let is_last = layers.end == stack.manifest.layers.len();
        let inputs = &stack.manifest.layers[layers];
        let (Some(newest), Some(oldest)) = (inputs.first(), inputs.last()) else {
            return Err(Error::bug("a merge without layers"));
        };
        let interval = Interval { from: oldest.interval.from, to: newest.interval.to };
        let sources = inputs.iter().map(|layer| LayerCursor::open(self, layer)).collect::<Result<Vec<_>>>()?;
        // No range tombstone is left out yet: nothing deletes ranges.
        let ranges = fragment(sources.iter().flat_map(LayerCursor::range_tombstones).cloned().collect());
        let mut keyspaces = KeyspaceList::clone(&stack.keyspaces);
        let retain = Retain { is_last, ..horizon.clone() };
        keyspaces.prune(&retain);
        let superseded = keyspaces.drops(retain.floor).into_iter().chain(ranges.iter().cloned()).collect();
        let branch =
            sources[0].branch_of_end(interval.to).ok_or_else(|| Error::bug("a layer of which no run has the end"))?;
        let merge = Merge::new(sources, retain, fragment(superseded))?;
        let mut attempt = self.begin();
        let mut create = || attempt.create_run(interval, branch);
        let runs = LayerWriter::new(run_bytes, ranges, &mut create).write(merge)?;
        attempt.sync_names()?;
        let inputs = inputs.iter().map(|layer| layer.interval).collect();
        Ok(Job { attempt, inputs, output: Layer { interval, role: Role::Whole, runs } })
    }
}

impl Job<'_> {
    /// Puts the output in the place of the inputs, durably (steps 8 to 11).
    ///
    /// # Errors
    /// Then the stack is as it was. If it is in doubt, the output is to be installed again.
    pub(crate) fn install(&mut self) -> std::result::Result<Arc<Stack>, NotInstalled> {
        let Job { attempt, inputs, output } = self;
        let choose = |before: Option<&Stack>| {
            let mut chosen = before.map(Chosen::of).ok_or_else(|| Error::bug("a merge without a stack"))?;
            let layers = chosen.layers.iter().map(|layer| layer.interval).collect::<Vec<_>>();
            let Some(first) = layers.windows(inputs.len()).position(|window| window == inputs.as_slice()) else {
                return Err(Error::bug("the layers of a merge are gone"));
            };
            chosen.layers.splice(first..first + inputs.len(), [output.clone()]);
            chosen.written.by_merges += output.runs.iter().map(|run| run.file.length).sum::<u64>();
            Ok(chosen)
        };
        attempt.install(choose, |_| ())
    }
}

/// The entries of a layer: those of one run after the other. It stands before the first one.
#[derive(Debug)]
pub(crate) struct LayerCursor {
    runs: Vec<Arc<Run>>,
    present: Option<RunCursor>,
    next: IntoIter<Arc<Run>>,
}

impl LayerCursor {
    /// # Errors
    /// Those of [`Store::open_run`].
    pub(crate) fn open(store: &Store, layer: &Layer) -> Result<Self> {
        let open = |named| store.open_run(named, layer.interval).map(Arc::new);
        let runs = layer.runs.iter().map(open).collect::<Result<Vec<_>>>()?;
        Ok(LayerCursor { next: runs.clone().into_iter(), runs, present: None })
    }

    /// The incarnation in which the layer ends, which is at `to`: a run that was written for the layer has it.
    fn branch_of_end(&self, to: Lsn) -> Option<Incarnation> {
        let headers = self.runs.iter().map(|run| run.footer.header);
        headers.filter(|header| header.interval.to == to).map(|header| header.branch).next()
    }

    fn range_tombstones(&self) -> impl Iterator<Item = &RangeTombstone> {
        self.runs.iter().flat_map(|run| &run.range_tombstones)
    }

    fn on_entry(&self) -> &RunCursor {
        self.present.as_ref().expect("on an entry")
    }
}

impl Source for LayerCursor {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(run) = &mut self.present
                && run.advance()?
            {
                return Ok(true);
            }
            let Some(run) = self.next.next() else { return Ok(false) };
            self.present = Some(RunCursor::new(run));
        }
    }

    fn key(&self) -> &[u8] {
        self.on_entry().key()
    }

    fn version(&self) -> Found<'_> {
        self.on_entry().version()
    }
}
