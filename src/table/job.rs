//! Merging neighbouring layers into one, step by step (`MERGING.md`, 2; `RULES.md`, 9; steps 5 to 11 of `FAULTS.md`).

use std::ops::Range;
use std::sync::Arc;
use std::vec::IntoIter;

use super::fragments::fragment;
use super::keyspaces::KeyspaceList;
use super::layer::{Part, Sizes, Stretch};
use super::merge::{Merge, Retain, Source};
use super::run::cursor::RunCursor;
use super::run::rescue::RemainsCursor;
use super::store::{Attempt, Chosen, NotInstalled, Stack, Store};
use crate::base::error::{Error, Result, is_rot};
use crate::base::types::{Incarnation, Lsn};
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::{Layer, NamedFile, NamedRun, Role};
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::{ends_within, is_below};

/// One step of a merge, whose files are durable, and which no MANIFEST names. Dropped, it has had no effect.
#[derive(Debug)]
pub(crate) struct Step<'s> {
    attempt: Attempt<'s>,
    job: Job,
    part: Part,
    /// The files of runs that the layers have no more, and of which something was lost.
    aside: Vec<NamedFile>,
}

/// A merge of neighbouring layers, as far as a MANIFEST knows it.
#[derive(Debug)]
struct Job {
    /// The newest first.
    inputs: Vec<Interval>,
    /// What the output has the effect of.
    interval: Interval,
    /// Up to where it is done; `None` if it has written nothing.
    cursor: Option<Vec<u8>>,
}

impl Job {
    /// The job that these layers are, or that begins with them, and its inputs; `None` if it has none.
    fn of(layers: &[Layer]) -> Option<(Self, &[Layer])> {
        let (inputs, cursor) = match layers {
            [inputs @ .., Layer { role: Role::Output { cursor }, .. }] => (inputs, Some(cursor.clone())),
            inputs => (inputs, None),
        };
        let interval = Interval { from: inputs.last()?.interval.from, to: inputs.first()?.interval.to };
        let intervals = inputs.iter().map(|layer| layer.interval).collect();
        Some((Job { inputs: intervals, interval, cursor }, inputs))
    }

    /// Where its layers are among `layers`, if they are.
    fn find(&self, layers: &[Layer]) -> Option<Range<usize>> {
        let first = layers.iter().position(|layer| self.inputs.first() == Some(&layer.interval))?;
        let end = first + self.inputs.len() + usize::from(self.cursor.is_some());
        let (found, inputs) = Job::of(layers.get(first..end)?)?;
        let role = if self.cursor.is_some() { Role::Input } else { Role::Whole };
        let is_it = found.inputs == self.inputs && found.cursor == self.cursor;
        (is_it && inputs.iter().all(|layer| layer.role == role)).then_some(first..end)
    }
}

impl Store {
    /// Does one step of the merge of these layers of `stack`: whole ones, of which there is at least one, or those of a job. The
    /// horizon is that of its begin.
    ///
    /// # Errors
    /// An input cannot be read or is damaged; those of new files. Nothing has changed then.
    pub(crate) fn merge_step(
        &self,
        stack: &Stack,
        layers: Range<usize>,
        horizon: &Retain,
        sizes: Sizes,
    ) -> std::result::Result<Step<'_>, StepFailed> {
        let layers = &stack.manifest.layers[layers];
        let Some((job, inputs)) = Job::of(layers) else {
            return Err(StepFailed::Other(Error::bug("a merge without layers")));
        };
        let interval = job.interval;
        let from = job.cursor.clone().unwrap_or_default();
        let sources = inputs.iter().map(|layer| LayerCursor::new(self, layer, &from)).collect();
        let mut keyspaces = KeyspaceList::clone(&stack.keyspaces);
        let retain = Retain { is_last: interval.from == Lsn::ZERO, ..horizon.clone() };
        keyspaces.prune(&retain);
        let gone = keyspaces.gone();
        let ranges = ranges_of(self, (inputs, &from), &keyspaces, &retain).map_err(StepFailed::Input)?;
        let kept = retain.ranges(&ranges, &gone);
        let superseded = keyspaces.drops().into_iter().chain(ranges).collect();
        let stretch = Stretch { interval, branch: branch_of_end(self, layers).map_err(StepFailed::Input)? };
        let merge = Merge::new(sources, retain, fragment(superseded), gone);
        let mut merge = merge.map_err(StepFailed::Input)?;
        let mut attempt = self.begin_merge();
        let written = attempt.write_part((stretch, from), &mut merge, kept, sizes);
        let part = written.map_err(if merge.has_failed() { StepFailed::Input } else { StepFailed::Other })?;
        attempt.sync_names().map_err(StepFailed::Other)?;
        let aside = job.set_aside(self, layers, &part).map_err(StepFailed::Other)?;
        Ok(Step { attempt, job, part, aside })
    }
}

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum StepFailed {
    /// An input could not be read.
    Input(Error),
    Other(Error),
}

#[cfg(all(test, feature = "sim"))]
impl StepFailed {
    pub(crate) fn into_error(self) -> Error {
        match self {
            StepFailed::Input(error) | StepFailed::Other(error) => error,
        }
    }
}

/// What a step has done to the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stepped {
    /// The job goes on.
    Part,
    /// The output has taken the place of its inputs.
    Done,
    /// Nothing: its inputs are not there any more, as a layer from memory of all data has taken the place of all layers.
    Overtaken,
}

impl Step<'_> {
    /// The length of what was written.
    pub(crate) fn bytes(&self) -> u64 {
        self.part.runs.iter().fold(0, |sum, run| sum.saturating_add(run.file.length))
    }

    /// Puts what was written in the place of what the inputs have there, durably (steps 8 to 11). `installed` is told before
    /// another MANIFEST can be chosen.
    ///
    /// # Errors
    /// Then the stack is as it was. If it is in doubt, the step is to be installed again.
    pub(crate) fn install(
        &mut self,
        installed: impl FnOnce(&Arc<Stack>),
    ) -> std::result::Result<Stepped, NotInstalled> {
        let bytes = self.bytes();
        let Step { attempt, job, part, aside } = self;
        let mut is_overtaken = false;
        let choose = |before: Option<&Stack>| {
            let mut chosen = before.map(Chosen::of).ok_or_else(|| Error::bug("a merge without a stack"))?;
            let Some(place) = job.find(&chosen.layers) else {
                is_overtaken = true;
                return Err(Error::bug("the layers of a merge are gone"));
            };
            chosen.written.by_merges = chosen.written.by_merges.saturating_add(bytes);
            let before = &chosen.layers[place.clone()];
            // Not what a checkpoint has let go of meanwhile.
            let is_there =
                |file: &&NamedFile| before.iter().any(|layer| layer.runs.iter().any(|run| run.file == **file));
            chosen.aside.extend(aside.iter().filter(is_there).copied());
            let after = job.step(before, part);
            chosen.layers.splice(place, after);
            Ok(chosen)
        };
        match attempt.install(choose, installed) {
            Ok(_) => Ok(if part.end.is_some() { Stepped::Part } else { Stepped::Done }),
            Err(NotInstalled::Failed(_)) if is_overtaken => Ok(Stepped::Overtaken),
            Err(error) => Err(error),
        }
    }
}

impl Job {
    /// The files of the inputs that end with this part of the output, if something of them was lost. In an earlier life that may have
    /// been: the output tells. What is rotten of it may have told it.
    ///
    /// # Errors
    /// A run cannot be read for the moment.
    fn set_aside(&self, store: &Store, layers: &[Layer], part: &Part) -> Result<Vec<NamedFile>> {
        let (inputs, output) = layers.split_at(self.inputs.len());
        let ends = |run: &NamedRun| part.end.as_ref().is_none_or(|end| ends_within(&run.range.high, end));
        let mut aside = Vec::new();
        for (named, interval) in inputs.iter().flat_map(Layer::named).filter(|(run, _)| ends(run)) {
            let is_known = store.damaged.get(named.file.number).is_some_and(|damaged| damaged.has_lost());
            let has_lost = is_known
                || match has_lost_before(store, output, (named, interval)) {
                    Err(error) if is_rot(&error) => true,
                    said => said?,
                };
            aside.extend(has_lost.then_some(named.file));
        }
        Ok(aside)
    }

    /// Its layers with one more part of the output.
    fn step(&self, layers: &[Layer], part: &Part) -> Vec<Layer> {
        let interval = self.interval;
        let (inputs, before) = layers.split_at(self.inputs.len());
        let mut runs = before.first().map_or_else(Vec::new, |output| output.runs.clone());
        runs.extend(part.runs.iter().cloned());
        let Some(cursor) = &part.end else { return vec![Layer { interval, role: Role::Whole, runs }] };
        let mut after: Vec<_> = inputs.iter().map(|layer| Layer { role: Role::Input, ..layer.clone() }).collect();
        for layer in &mut after {
            layer.runs.retain(|run| is_below(cursor, &run.range.high));
        }
        after.push(Layer { interval, role: Role::Output { cursor: cursor.clone() }, runs });
        after
    }
}

/// The entries of a layer from a bound on: those of one run after the other, each of which is open while it is read. It
/// stands before the first one.
#[derive(Debug)]
pub(crate) struct LayerCursor<'s> {
    store: &'s Store,
    interval: Interval,
    from: Vec<u8>,
    next: IntoIter<NamedRun>,
    present: Option<Present>,
}

#[derive(Debug)]
enum Present {
    Whole(RunCursor),
    Damaged(RemainsCursor),
}

impl Present {
    fn advance(&mut self, from: &[u8]) -> Result<bool> {
        match self {
            Present::Whole(run) => run.advance(),
            Present::Damaged(run) => loop {
                let advanced = run.advance()?;
                // It was taken for lost.
                run.recovered().map_or(Ok(()), |error| Err(error.clone()))?;
                if !advanced || run.key() >= from {
                    return Ok(advanced);
                }
            },
        }
    }
}

impl<'s> LayerCursor<'s> {
    pub(crate) fn new(store: &'s Store, layer: &Layer, from: &[u8]) -> Self {
        let runs = layer.runs.iter().filter(|run| is_below(from, &run.range.high)).cloned();
        let next = runs.collect::<Vec<_>>().into_iter();
        LayerCursor { store, interval: layer.interval, from: from.to_vec(), next, present: None }
    }

    fn on_entry(&self) -> &Present {
        self.present.as_ref().expect("on an entry")
    }
}

impl Source for LayerCursor<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(run) = &mut self.present
                && run.advance(&self.from)?
            {
                return Ok(true);
            }
            let Some(named) = self.next.next() else { return Ok(false) };
            self.present = Some(match self.store.damaged.get(named.file.number) {
                Some(damaged) => Present::Damaged(damaged.cursor()),
                None => {
                    let run = Arc::new(self.store.open_run(&named, self.interval)?);
                    Present::Whole(RunCursor::new(run, &self.from))
                }
            });
        }
    }

    fn key(&self) -> &[u8] {
        match self.on_entry() {
            Present::Whole(run) => run.key(),
            Present::Damaged(run) => run.key(),
        }
    }

    fn version(&self) -> Found<'_> {
        match self.on_entry() {
            Present::Whole(run) => run.version(),
            Present::Damaged(run) => run.version(),
        }
    }
}

/// The range tombstones of the inputs that have effect from a bound on, and what a merge misses of them, fragmented.
///
/// # Errors
/// A run cannot be read.
fn ranges_of(
    store: &Store,
    (inputs, from): (&[Layer], &[u8]),
    keyspaces: &KeyspaceList,
    retain: &Retain,
) -> Result<Vec<RangeTombstone>> {
    let mut all = Vec::new();
    for (named, interval) in inputs.iter().flat_map(Layer::named) {
        let of_run = match store.damaged.get(named.file.number) {
            Some(damaged) => [damaged.range_tombstones(), &damaged.lost(keyspaces, retain)].concat(),
            None if named.range_tombstones > 0 => store.open_run(named, interval)?.range_tombstones,
            None => continue,
        };
        let above = of_run.into_iter().filter(|range| range.end.as_slice() > from);
        all.extend(above.map(|range| RangeTombstone { start: range.start.max(from.to_vec()), ..range }));
    }
    let mut ranges = fragment(all);
    // Of losses that end alike the longer one is first, and says it all.
    ranges.dedup_by(|b, a| {
        let are_lost = a.says != Says::Deleted && b.says != Says::Deleted;
        are_lost && (&a.start, &a.end, a.lsn) == (&b.start, &b.end, b.lsn)
    });
    Ok(ranges)
}

/// The incarnation in which the newest of the layers of a job ends: a run that was written for it has that, or one of the
/// output.
fn branch_of_end(store: &Store, layers: &[Layer]) -> Result<Incarnation> {
    let to = layers.first().map(|newest| newest.interval.to);
    let that_end_there = layers.iter().filter(|layer| Some(layer.interval.to) == to);
    for (named, interval) in that_end_there.flat_map(Layer::named) {
        let header = match store.damaged.get(named.file.number) {
            Some(damaged) => *damaged.header(),
            None => store.open_run(named, interval)?.footer.header,
        };
        if Some(header.interval.to) == to {
            return Ok(header.branch);
        }
    }
    Err(Error::bug("a layer of which no run has the end"))
}

/// Whether the output, as far as it was written in earlier steps, says that something of this input was lost. What the input has
/// lost by itself was lost before.
///
/// # Errors
/// A run cannot be read.
fn has_lost_before(store: &Store, output: &[Layer], (input, interval): (&NamedRun, Interval)) -> Result<bool> {
    let Interval { from, to } = interval;
    let is_of_it = |one: &RangeTombstone| {
        let is_within = matches!(one.says, Says::LostAbove(above) if from <= above && one.lsn <= to);
        is_within && is_below(&one.start, &input.range.high) && input.range.low < one.end
    };
    for (run, of_output) in output.iter().flat_map(Layer::named) {
        if run.range_tombstones > 0 && run.range.part_in(&input.range).is_some() {
            let said = store.open_run(run, of_output)?.range_tombstones;
            if said.iter().any(is_of_it) {
                let has_own = input.range_tombstones > 0 && store.open_run(input, interval)?.first_lost().is_some();
                return Ok(!has_own);
            }
        }
    }
    Ok(false)
}
