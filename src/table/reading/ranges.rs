//! The range tombstones that a scan passes. Those of the runs around its place are in memory, and no others.

use std::collections::VecDeque;
use std::sync::Arc;

use super::installed::Installed;
use super::over::Over;
use super::run_scan::Asked;
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::format::table::is_below;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::index::Direction;
use crate::table::fragments::fragment;

#[derive(Debug)]
pub(super) struct Ranges {
    asked: Arc<Asked>,
    /// The runs that have range tombstones in the range of the scan.
    runs: Vec<Holder>,
    /// Pieces of the range of the scan, in its direction. In each of them all of these runs are the same ones.
    pieces: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// Of the piece that the scan is in, or came to last, those that it has not passed, in its direction.
    fragments: VecDeque<Fragment>,
}

/// A run with range tombstones, and where they count.
#[derive(Debug)]
struct Holder {
    layer: usize,
    run: usize,
    from: Vec<u8>,
    end: Vec<u8>,
}

/// What all range tombstones over a range say together.
#[derive(Debug)]
struct Fragment {
    start: Vec<u8>,
    end: Vec<u8>,
    over: Over,
    /// Why, if a key in it that nothing newer answers cannot be read.
    lost: Option<Error>,
}

impl Ranges {
    /// Of these layers, each with the bound from which on it counts in the scan.
    pub(super) fn new(installed: &Installed, asked: &Arc<Asked>, layers: &[(usize, Vec<u8>)]) -> Self {
        let mut runs = Vec::new();
        for (layer, from) in layers {
            for (run, named) in installed.held.stack.manifest.layers[*layer].runs.iter().enumerate() {
                let (low, high) = (&named.range.low, &named.range.high);
                let from = low.max(from).clone();
                let end = if is_below(&asked.end, high) { &asked.end } else { high }.clone();
                if named.range_tombstones > 0 && from < end {
                    runs.push(Holder { layer: *layer, run, from, end });
                }
            }
        }
        let mut bounds: Vec<_> = runs.iter().flat_map(|run| [run.from.clone(), run.end.clone()]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let pieces = bounds.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        let pieces = match asked.direction {
            Direction::Forward => pieces.collect(),
            Direction::Backward => pieces.rev().collect(),
        };
        Ranges { asked: Arc::clone(asked), runs, pieces, fragments: VecDeque::new() }
    }

    /// Passes all that lies before `full_key`, to which the scan has come. Returns whether its newest version, which has this
    /// LSN, is deleted.
    ///
    /// # Errors
    /// A run cannot be read, or the scan has come to a range that was lost.
    pub(super) fn pass(&mut self, installed: &Installed, full_key: &[u8], lsn: Lsn) -> Result<bool> {
        loop {
            while let Some(fragment) = self.fragments.front_mut() {
                if self.asked.is_before(full_key, (&fragment.start, &fragment.end)) {
                    return Ok(false);
                }
                // Keys before this one, or behind it, may be lost as well.
                if let Some(error) = fragment.lost.take() {
                    return Err(error);
                }
                if fragment.start.as_slice() <= full_key && full_key < fragment.end.as_slice() {
                    return Ok(fragment.over.deletes(lsn));
                }
                self.fragments.pop_front();
            }
            let is_next = |piece: &(Vec<u8>, Vec<u8>)| !self.asked.is_before(full_key, (&piece.0, &piece.1));
            if !self.pieces.front().is_some_and(is_next) {
                return Ok(false);
            }
            self.open_next(installed)?;
        }
    }

    /// Passes the rest.
    ///
    /// # Errors
    /// As [`Ranges::pass`].
    pub(super) fn pass_all(&mut self, installed: &Installed) -> Result<()> {
        loop {
            let lost = self.fragments.drain(..).find_map(|fragment| fragment.lost);
            if let Some(error) = lost {
                return Err(error);
            }
            if self.pieces.is_empty() {
                return Ok(());
            }
            self.open_next(installed)?;
        }
    }

    /// Gathers what the runs of the next piece say in it.
    fn open_next(&mut self, installed: &Installed) -> Result<()> {
        let Some((start, end)) = self.pieces.pop_front() else { return Ok(()) };
        let mut all = Vec::new();
        let mut lost: Vec<(RangeTombstone, Error)> = Vec::new();
        for holder in self.runs.iter().filter(|run| run.from <= start && end <= run.end) {
            let layer = &installed.held.stack.manifest.layers[holder.layer];
            let run = installed.run(&layer.runs[holder.run], layer.interval)?;
            let tombstones = &run.range_tombstones;
            let first = tombstones.partition_point(|one| one.end <= start);
            for one in tombstones[first..].iter().take_while(|one| one.start < end) {
                let (start, end) = ((&one.start).max(&start).clone(), (&one.end).min(&end).clone());
                let cut = RangeTombstone { start, end, ..*one };
                if matches!(cut.says, Says::LostAbove(_)) {
                    lost.push((cut.clone(), run.lost_range()));
                }
                all.push(cut);
            }
        }
        let mut fragments: Vec<Fragment> = Vec::new();
        for one in fragment(all) {
            let is_same = |last: &&mut Fragment| last.start == one.start;
            match fragments.last_mut().filter(is_same) {
                Some(last) => last.over.add(&one, self.asked.at),
                None => {
                    let mut over = Over::default();
                    over.add(&one, self.asked.at);
                    fragments.push(Fragment { start: one.start, end: one.end, over, lost: None });
                }
            }
        }
        for fragment in fragments.iter_mut().filter(|fragment| fragment.over.has_lost(None)) {
            let is_over = |lost: &RangeTombstone| lost.start <= fragment.start && fragment.end <= lost.end;
            fragment.lost = lost.iter().find(|(lost, _)| is_over(lost)).map(|(_, error)| error.clone());
        }
        if self.asked.direction == Direction::Backward {
            fragments.reverse();
        }
        self.fragments = fragments.into();
        Ok(())
    }
}

impl Asked {
    /// Whether a scan that is at `full_key` has not come to this range.
    fn is_before(&self, full_key: &[u8], (start, end): (&[u8], &[u8])) -> bool {
        match self.direction {
            Direction::Forward => full_key < start,
            Direction::Backward => full_key >= end,
        }
    }
}
