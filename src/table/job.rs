//! Merging neighbouring layers into one (`RULES.md`, 9; steps 5 to 11 of `FAULTS.md`).

use std::ops::Range;
use std::sync::Arc;
use std::vec::IntoIter;

use super::fragments::fragment;
use super::keyspaces::KeyspaceList;
use super::merge::{Merge, Retain, Source};
use super::run::cursor::RunCursor;
use super::store::{Attempt, Chosen, NotInstalled, Stack, Store};
use crate::base::error::{Error, Result};
use crate::base::types::Incarnation;
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::{Layer, NamedRun};
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
        let sources = inputs.iter().map(|layer| LayerCursor::new(self, layer)).collect();
        // No range tombstone is left out yet: nothing deletes ranges.
        let ranges = fragment(range_tombstones(self, inputs)?);
        let mut keyspaces = KeyspaceList::clone(&stack.keyspaces);
        let retain = Retain { is_last, ..horizon.clone() };
        keyspaces.prune(&retain);
        let superseded = keyspaces.drops().into_iter().chain(ranges.iter().cloned()).collect();
        let branch = branch_of_end(self, newest)?;
        let merge = Merge::new(sources, retain, fragment(superseded), keyspaces.gone())?;
        let mut attempt = self.begin();
        let output = attempt.write_layer(interval, branch, merge, ranges, run_bytes)?;
        attempt.sync_names()?;
        let inputs = inputs.iter().map(|layer| layer.interval).collect();
        Ok(Job { attempt, inputs, output })
    }
}

impl Job<'_> {
    /// Puts the output in the place of the inputs, durably (steps 8 to 11). `installed` is told before another MANIFEST can
    /// be chosen.
    ///
    /// # Errors
    /// Then the stack is as it was. If it is in doubt, the output is to be installed again.
    pub(crate) fn install(
        &mut self,
        installed: impl FnOnce(&Arc<Stack>),
    ) -> std::result::Result<Arc<Stack>, NotInstalled> {
        let Job { attempt, inputs, output } = self;
        let choose = |before: Option<&Stack>| {
            let mut chosen = before.map(Chosen::of).ok_or_else(|| Error::bug("a merge without a stack"))?;
            let layers = chosen.layers.iter().map(|layer| layer.interval).collect::<Vec<_>>();
            let Some(first) = layers.windows(inputs.len()).position(|window| window == inputs.as_slice()) else {
                return Err(Error::bug("the layers of a merge are gone"));
            };
            chosen.layers.splice(first..first + inputs.len(), [output.clone()]);
            chosen.written.by_merges = chosen.written.by_merges.saturating_add(output.bytes());
            Ok(chosen)
        };
        attempt.install(choose, installed)
    }
}

/// The entries of a layer: those of one run after the other, each of which is open while it is read. It stands before the
/// first one.
#[derive(Debug)]
pub(crate) struct LayerCursor<'s> {
    store: &'s Store,
    interval: Interval,
    next: IntoIter<NamedRun>,
    present: Option<RunCursor>,
}

impl<'s> LayerCursor<'s> {
    pub(crate) fn new(store: &'s Store, layer: &Layer) -> Self {
        LayerCursor { store, interval: layer.interval, next: layer.runs.clone().into_iter(), present: None }
    }

    fn on_entry(&self) -> &RunCursor {
        self.present.as_ref().expect("on an entry")
    }
}

impl Source for LayerCursor<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(run) = &mut self.present
                && run.advance()?
            {
                return Ok(true);
            }
            let Some(named) = self.next.next() else { return Ok(false) };
            self.present = Some(RunCursor::new(Arc::new(self.store.open_run(&named, self.interval)?)));
        }
    }

    fn key(&self) -> &[u8] {
        self.on_entry().key()
    }

    fn version(&self) -> Found<'_> {
        self.on_entry().version()
    }
}

/// The range tombstones of these layers, as their runs have them.
fn range_tombstones(store: &Store, layers: &[Layer]) -> Result<Vec<RangeTombstone>> {
    let runs = layers.iter().flat_map(|layer| layer.runs.iter().map(|run| (run, layer.interval)));
    let mut all = Vec::new();
    for (named, interval) in runs.filter(|(named, _)| named.range_tombstones > 0) {
        all.extend(store.open_run(named, interval)?.range_tombstones);
    }
    Ok(all)
}

/// The incarnation in which a layer ends: a run that was written for it has that.
fn branch_of_end(store: &Store, layer: &Layer) -> Result<Incarnation> {
    for named in &layer.runs {
        let header = store.open_run(named, layer.interval)?.footer.header;
        if header.interval.to == layer.interval.to {
            return Ok(header.branch);
        }
    }
    Err(Error::bug("a layer of which no run has the end"))
}
