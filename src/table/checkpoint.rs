//! What a checkpoint does in `table/`: it writes a sorted piece of the log as the newest layer (steps 5 to 11 of
//! `FAULTS.md`). What it does to the log is decided above.

use std::sync::Arc;

use super::fragments::fragment;
use super::keyspaces::KeyspaceList;
use super::layer::Stretch;
use super::merge::{Gone, Merge, Retain, Source};
use super::sort::Sorted;
use super::store::{Attempt, Chosen, NotInstalled, Stack, Store};
use crate::base::error::{Error, Result};
use crate::base::range_set::RangeSet;
use crate::base::types::{Incarnation, Lsn};
use crate::format::table::data::Interval;
use crate::format::table::manifest::{Layer, NamedFile, NamedRun};
use crate::format::table::range_tombstones::RangeTombstone;
use crate::format::table::root::Range;
use crate::index::Above;

/// A piece of the log, sorted, and what was true at its end.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) interval: Interval,
    /// The incarnation in which the piece ends.
    pub(crate) branch: Incarnation,
    pub(crate) writes: Sorted,
    /// The ranges that it deletes.
    pub(crate) ranges: Vec<RangeTombstone>,
    pub(crate) keyspaces: KeyspaceList,
    /// The horizon of the look that has chosen the end.
    pub(crate) horizon: Retain,
    /// What was read of the log, in bytes.
    pub(crate) log_bytes: u64,
}

/// All that there is at the end of an interval that begins with the log.
#[derive(Debug)]
pub(crate) struct Whole<S> {
    pub(crate) interval: Interval,
    /// The incarnation in which it ends.
    pub(crate) branch: Incarnation,
    pub(crate) keyspaces: KeyspaceList,
    pub(crate) source: S,
    /// What it takes in of the log, in bytes, though that was not read: merges go by what is written for a byte of log.
    pub(crate) log_bytes: u64,
}

/// What memory has above the installed layers.
#[derive(Debug)]
pub(crate) struct Tail<P> {
    /// It begins where the installed layers end.
    pub(crate) interval: Interval,
    /// The incarnation in which it ends.
    pub(crate) branch: Incarnation,
    /// As of its end, without those that no reader can ask for.
    pub(crate) keyspaces: KeyspaceList,
    /// The horizon of the look that has chosen the end.
    pub(crate) horizon: Retain,
    /// The pieces of all keyspaces, each with the id of its keyspace, in the order of full keys.
    pub(crate) pieces: P,
    /// As of a [`Whole`].
    pub(crate) log_bytes: u64,
}

/// A layer whose files are durable, and which no MANIFEST names. Dropped, it has had no effect.
#[derive(Debug)]
pub(crate) struct NewLayer<'s> {
    attempt: Attempt<'s>,
    layer: Layer,
    branch: Incarnation,
    keyspaces: Arc<KeyspaceList>,
    /// The file of the keyspaces, if the installed one lists others.
    file: Option<NamedFile>,
    log_bytes: u64,
    /// What it deletes of the layers below, for every reader.
    deleted: RangeSet<Vec<u8>>,
    /// It takes the place of all layers.
    is_whole: bool,
}

impl Store {
    /// Writes the runs of a piece that begins where the installed layers end, and its keyspaces if they changed
    /// (steps 5 to 7). A run that is `run_bytes` long ends.
    ///
    /// # Errors
    /// Those of new files. Nothing has changed then.
    pub(crate) fn write_layer(&self, piece: Piece, run_bytes: u64) -> Result<NewLayer<'_>> {
        let Piece { interval, branch, writes, ranges, mut keyspaces, horizon, log_bytes } = piece;
        let retain = Retain { is_last: interval.from == Lsn::ZERO, ..horizon };
        keyspaces.prune(&retain);
        let mut attempt = self.begin();
        let (ranges, gone) = (retain.newest(ranges), keyspaces.gone());
        let (kept, deleted) = (retain.ranges(&ranges, &gone), retain.deleted(&ranges));
        let superseded = fragment(keyspaces.drops().into_iter().chain(ranges).collect());
        let merge = Merge::new(vec![writes], retain, superseded, gone)?;
        let layer = attempt.write_layer(Stretch { interval, branch }, merge, kept, run_bytes)?;
        let (keyspaces, file) = self.write_list(&mut attempt, keyspaces, (interval.to, branch))?;
        attempt.sync_names()?;
        Ok(NewLayer { attempt, layer, branch, keyspaces, file, log_bytes, deleted, is_whole: false })
    }

    /// Writes what memory has above the installed layers as the next layer, and its keyspaces if they changed (steps 5 to 7).
    ///
    /// # Errors
    /// Those of new files. Nothing has changed then.
    pub(crate) fn write_tail(
        &self,
        tail: Tail<impl Iterator<Item = (u32, Above)>>,
        run_bytes: u64,
    ) -> Result<NewLayer<'_>> {
        let Tail { interval, branch, keyspaces, horizon, pieces, log_bytes } = tail;
        let mut attempt = self.begin();
        let retain = (horizon, keyspaces.gone());
        let layer = attempt.write_pieces(Stretch { interval, branch }, pieces, &retain, run_bytes)?;
        let (keyspaces, file) = self.write_list(&mut attempt, keyspaces, (interval.to, branch))?;
        attempt.sync_names()?;
        let deleted = RangeSet::default();
        Ok(NewLayer { attempt, layer, branch, keyspaces, file, log_bytes, deleted, is_whole: false })
    }

    /// Writes the file of the keyspaces, unless the installed one lists the same.
    fn write_list(
        &self,
        attempt: &mut Attempt<'_>,
        keyspaces: KeyspaceList,
        (to, branch): (Lsn, Incarnation),
    ) -> Result<(Arc<KeyspaceList>, Option<NamedFile>)> {
        let listed = self.stack().map(|stack| Arc::clone(&stack.keyspaces));
        Ok(match listed.filter(|listed| **listed == keyspaces) {
            Some(listed) => (listed, None),
            None => {
                let file = attempt.write_keyspaces(&keyspaces, to, branch)?;
                (Arc::new(keyspaces), Some(file))
            }
        })
    }

    /// Writes a layer that takes the place of all layers, and its keyspaces (steps 5 to 7).
    ///
    /// # Errors
    /// Those of the source and of new files. Nothing has changed then.
    pub(crate) fn write_whole<S: Source>(&self, whole: Whole<S>, run_bytes: u64) -> Result<NewLayer<'_>> {
        let Whole { interval, branch, keyspaces, source, log_bytes } = whole;
        let retain = Retain { floor: interval.to, held: Vec::new(), is_last: true };
        let mut attempt = self.begin();
        let merge = Merge::new(vec![source], retain, Vec::new(), keyspaces.gone())?;
        let layer = attempt.write_layer(Stretch { interval, branch }, merge, Vec::new(), run_bytes)?;
        let file = Some(attempt.write_keyspaces(&keyspaces, interval.to, branch)?);
        attempt.sync_names()?;
        let keyspaces = Arc::new(keyspaces);
        let deleted = RangeSet::default();
        Ok(NewLayer { attempt, layer, branch, keyspaces, file, log_bytes, deleted, is_whole: true })
    }
}

impl NewLayer<'_> {
    /// Where the layer ends.
    pub(crate) fn to(&self) -> Lsn {
        self.layer.interval.to
    }

    /// Makes it the newest layer, durably (steps 8 to 11). `choose_oldest` says up to where the log is retired with it,
    /// given what it was.
    ///
    /// # Errors
    /// Then the stack is as it was. If the layer is in doubt, it is to be installed again.
    pub(crate) fn install(
        &mut self,
        choose_oldest: impl FnOnce(Lsn) -> Lsn,
        installed: impl FnOnce(&Arc<Stack>),
    ) -> std::result::Result<Arc<Stack>, NotInstalled> {
        let NewLayer { attempt, layer, branch, keyspaces, file, log_bytes, deleted, is_whole } = self;
        let choose = |before: Option<&Stack>| {
            let before = before.map(Chosen::of);
            let (to, oldest) = before.as_ref().map_or_else(Default::default, |before| (before.to, before.oldest));
            let listed = file.or(before.as_ref().map(|before| before.file));
            let fits = if *is_whole { to <= layer.interval.to } else { to == layer.interval.from };
            let Some(listed) = listed.filter(|_| fits) else {
                return Err(Error::bug("a checkpoint does not begin where the layers end"));
            };
            let (mut layers, aside, mut written) =
                before.map_or_else(Default::default, |before| (before.layers, before.aside, before.written));
            if *is_whole {
                layers.clear();
            }
            let gone = keyspaces.gone();
            layers.iter_mut().for_each(|layer| layer.drop_runs_of(&gone));
            layers.iter_mut().for_each(|layer| layer.drop_runs_in(deleted));
            layers.insert(0, layer.clone());
            written.log_read = written.log_read.saturating_add(*log_bytes);
            written.by_checkpoints = written.by_checkpoints.saturating_add(layer.bytes());
            written.lists = written.lists.saturating_add(file.map_or(0, |file| file.length));
            let (to, branch, oldest) = (layer.interval.to, *branch, choose_oldest(oldest));
            Ok(Chosen { to, branch, oldest, keyspaces: Arc::clone(keyspaces), file: listed, written, layers, aside })
        };
        attempt.install(choose, installed)
    }
}

impl Layer {
    /// Lets go of the runs that have nothing but what is in keyspaces that are gone (`MERGING.md`, 3). The last one stays: it says
    /// where the layer ends.
    fn drop_runs_of(&mut self, gone: &Gone) {
        let Some(last) = self.runs.pop() else { return };
        let mut end = Vec::new();
        self.runs.retain(|run| {
            // It speaks for all that lies behind the run before it: for other keyspaces, too, perhaps.
            let low = std::mem::replace(&mut end, run.range.high.clone());
            !gone.have_all(&Range { low, high: run.range.high.clone() })
        });
        self.runs.push(last);
    }

    /// Lets go of the runs that have nothing but what a layer above has deleted for every reader (`MERGING.md`, 3). The last one stays,
    /// as above, and mostly the first one: each speaks for all that lies behind the run before it, too.
    fn drop_runs_in(&mut self, deleted: &RangeSet<Vec<u8>>) {
        if deleted.is_empty() {
            return;
        }
        let Some(last) = self.runs.pop() else { return };
        let mut end = Vec::new();
        self.runs.retain(|run| !goes_with(deleted, &mut end, run));
        self.runs.push(last);
    }
}

/// Whether a run lies in `deleted`, with what it speaks for behind the `end` of the run before it.
fn goes_with(deleted: &RangeSet<Vec<u8>>, end: &mut Vec<u8>, run: &NamedRun) -> bool {
    let low = std::mem::replace(end, run.range.high.clone());
    deleted.has_all(&low, Some(&run.range.high))
}

/// Whether a checkpoint that deletes these keys lets go of a run.
pub(crate) fn has_runs_in(stack: &Stack, deleted: &RangeSet<Vec<u8>>) -> bool {
    stack.manifest.layers.iter().any(|layer| {
        let mut end = Vec::new();
        layer.runs.iter().rev().skip(1).rev().any(|run| goes_with(deleted, &mut end, run))
    })
}
