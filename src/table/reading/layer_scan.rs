//! A layer as a reader at one LSN sees it, key by key in either direction: one run after the other, each of which is opened
//! when the scan comes to its range.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::installed::Installed;
use super::run_scan::{Asked, RunScan};
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::is_below;
use crate::format::table::manifest::NamedRun;
use crate::index::Direction;

#[derive(Debug)]
pub(super) struct LayerScan {
    /// The number of the layer in MANIFEST.
    layer: usize,
    asked: Arc<Asked>,
    /// The numbers of the runs that are still to come.
    runs: Range<usize>,
    present: Option<RunScan>,
}

/// Where a layer is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head<'a> {
    /// On a version of this full key.
    On(&'a [u8]),
    /// Before a run that is not open: its keys are at or above this bound.
    From(&'a [u8]),
    /// The same, backward: its keys are below this bound; the empty one is above every key.
    Below(&'a [u8]),
}

impl Head<'_> {
    /// A number that is lower or higher only if the head is, so that most comparisons need no bytes elsewhere in memory.
    pub(super) fn digest(&self) -> u128 {
        match *self {
            Head::Below(&[]) => u128::MAX,
            Head::On(key) | Head::From(key) | Head::Below(key) => match key.first_chunk() {
                Some(first) => u128::from_be_bytes(*first),
                None => {
                    let mut first = [0; size_of::<u128>()];
                    first[..key.len()].copy_from_slice(key);
                    u128::from_be_bytes(first)
                }
            },
        }
    }

    /// Which of two heads of one direction comes first.
    pub(super) fn cmp(&self, other: &Head<'_>) -> Ordering {
        match (*self, *other) {
            (Head::On(a), Head::On(b)) | (Head::From(a), Head::From(b)) => a.cmp(b),
            // The run may have that key.
            (Head::From(a), Head::On(b)) => a.cmp(b).then(Ordering::Less),
            (Head::On(a), Head::From(b)) => a.cmp(b).then(Ordering::Greater),
            (Head::Below(a), Head::Below(b)) => match (a.is_empty(), b.is_empty()) {
                (false, false) => b.cmp(a),
                (a, b) => b.cmp(&a),
            },
            // The run has keys below the bound only.
            (Head::Below(a), Head::On(b)) => {
                if is_below(b, a) {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Head::On(a), Head::Below(b)) => {
                if is_below(a, b) {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Head::Below(_), Head::From(_)) | (Head::From(_), Head::Below(_)) => Ordering::Equal,
        }
    }

    /// The same, backward.
    pub(super) fn cmp_backward(&self, other: &Head<'_>) -> Ordering {
        match (*self, *other) {
            (Head::On(a), Head::On(b)) => b.cmp(a),
            _ => self.cmp(other),
        }
    }
}

impl LayerScan {
    /// Over what is asked for in the layer with this number. It stands before the first run.
    pub(super) fn new(installed: &Installed, layer: usize, asked: Arc<Asked>) -> Self {
        let runs = &installed.held.stack.manifest.layers[layer].runs;
        let begin = runs.partition_point(|run| !is_below(&asked.from, &run.range.high));
        let end = runs.partition_point(|run| run.range.low.as_slice() < asked.end.as_slice());
        LayerScan { layer, asked, runs: begin..end.max(begin), present: None }
    }

    fn named<'i>(&self, installed: &'i Installed, number: usize) -> &'i NamedRun {
        &installed.held.stack.manifest.layers[self.layer].runs[number]
    }

    /// Where it is; `None` at its end.
    pub(super) fn head<'a>(&'a self, installed: &'a Installed) -> Option<Head<'a>> {
        match &self.present {
            Some(run) => Some(Head::On(run.key())),
            None if self.runs.is_empty() => None,
            None => Some(match self.asked.direction {
                Direction::Forward => Head::From(&self.named(installed, self.runs.start).range.low),
                Direction::Backward => Head::Below(&self.named(installed, self.runs.end - 1).range.high),
            }),
        }
    }

    /// Whether it is on a version.
    pub(super) fn is_on_version(&self) -> bool {
        self.present.is_some()
    }

    /// Goes to the next version of the run, or before the next run. Before a run it opens that.
    ///
    /// # Errors
    /// The run cannot be opened or read, or is damaged. Then the scan has ended.
    pub(super) fn advance(&mut self, installed: &Installed) -> Result<()> {
        let mut run = match self.present.take() {
            Some(run) => run,
            None => {
                let next = match self.asked.direction {
                    Direction::Forward => self.runs.next(),
                    Direction::Backward => self.runs.next_back(),
                };
                let Some(number) = next else { return Ok(()) };
                let interval = installed.held.stack.manifest.layers[self.layer].interval;
                let named = self.named(installed, number);
                let run = installed.run(named, interval)?;
                match RunScan::new(named.file.number, &run, &installed.caches, &self.asked)? {
                    Some(run) => run,
                    None => return Ok(()),
                }
            }
        };
        if run.advance()? {
            self.present = Some(run);
        }
        Ok(())
    }

    fn on_version(&self) -> &RunScan {
        self.present.as_ref().expect("on a version")
    }

    pub(super) fn key(&self) -> &[u8] {
        self.on_version().key()
    }

    pub(super) fn lsn(&self) -> Lsn {
        self.on_version().lsn()
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        self.on_version().value()
    }
}
