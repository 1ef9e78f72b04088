//! Reading from layers what a keyspace has not in memory, range by range (`table/RULES.md`, 7).

use std::ops::Bound;
use std::sync::Arc;

use super::beyond::{Layers, LayersScan};
use super::fill::Fill;
use super::key::Key;
use super::tree::Tree;
use super::version::Direction;
use crate::base::error::Result;

/// Reads the ranges of a keyspace that are not complete, one after the other.
#[derive(Debug)]
pub(crate) struct Filler {
    tree: Arc<Tree>,
    /// Where the next range is looked for.
    from: Key,
    open: Option<Open>,
}

/// Layers that are read. They are given back now and then, so that files which merges have replaced can go.
#[derive(Debug)]
struct Open {
    layers: Arc<dyn Layers>,
    scan: Box<dyn LayersScan>,
    /// It stands on an entry. Otherwise it has ended.
    is_on_entry: bool,
    fills: usize,
}

impl Filler {
    /// The fills that are read from layers which are held.
    const FILLS: usize = if cfg!(test) { 2 } else { 1024 };

    pub(crate) fn new(tree: Arc<Tree>) -> Self {
        Filler { tree, from: Key::from(&[]), open: None }
    }

    /// Begins at `key`.
    pub(crate) fn from(tree: Arc<Tree>, key: &[u8]) -> Self {
        Filler { from: Key::from(key), ..Filler::new(tree) }
    }

    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Whether the range of the key at which it begins is not in memory.
    pub(crate) fn is_needed(&self) -> bool {
        self.tree.gap_from(&self.from).is_some_and(|(low, _)| low <= self.from)
    }

    /// Reads the next fill: a range that is not complete, or the first part of it. `None` behind the last one.
    ///
    /// # Errors
    /// Those of a read of layers.
    pub(crate) fn read(&mut self) -> Result<Option<Fill>> {
        let (tree, from) = (&self.tree, &self.from);
        let Some((beyond, (low, high))) = tree.beyond().zip(tree.gap_from(from)) else { return Ok(None) };
        // What lies before was tried. A range that was cut there may have been joined again.
        let low = low.max(from.clone());
        let goes_on = |open: &Open| low == *from && open.fills < Self::FILLS;
        let mut open = match self.open.take().filter(goes_on) {
            Some(open) => open,
            None => {
                let layers = beyond.installed();
                let range = (Bound::Included(low.clone()), Bound::Unbounded);
                let mut scan = Arc::clone(&layers).scan(tree.id(), range, Direction::Forward, layers.to());
                Open { is_on_entry: scan.advance()?, layers, scan, fills: 0 }
            }
        };
        let mut fill = Fill::new(low, high, open.layers.to());
        while open.is_on_entry && fill.high.as_ref().is_none_or(|high| open.scan.key() < high.as_slice()) {
            if !fill.has_room(&*open.scan) {
                fill.high = Some(Key::from(open.scan.key()));
                break;
            }
            fill.add(&*open.scan);
            open.is_on_entry = open.scan.advance()?;
        }
        open.fills += 1;
        self.open = Some(open);
        Ok(Some(fill))
    }

    /// Goes on behind a fill. Returns `false` behind the last one.
    pub(crate) fn pass(&mut self, fill: &Fill) -> bool {
        match &fill.high {
            Some(high) => self.from = high.clone(),
            None => self.open = None,
        }
        fill.high.is_some()
    }

    /// Reads the same range again, from layers that are installed now.
    pub(crate) fn renew(&mut self) {
        self.open = None;
    }
}
