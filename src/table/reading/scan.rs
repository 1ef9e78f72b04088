//! A scan of layers, in either direction: of each key, the newest version at or below an LSN.

use std::cmp::Ordering;
use std::sync::Arc;

use super::installed::Installed;
use super::layer_scan::LayerScan;
use super::ranges::Ranges;
use super::run_scan::Asked;
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::ID_LEN;
use crate::index::{Direction, LayersScan};

#[derive(Debug)]
pub(super) struct Scan {
    installed: Arc<Installed>,
    direction: Direction,
    /// The newest first.
    layers: Vec<LayerScan>,
    /// Those that are not at their end, in the order of their heads; of one key, the newest first.
    order: Vec<Place>,
    ranges: Ranges,
    /// The first of the order is on the entry that was given out.
    is_on_entry: bool,
    has_ended: bool,
}

/// A layer among those that are merged.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its number among the layers of the scan.
    layer: usize,
    /// That of its head.
    digest: u128,
}

impl Scan {
    /// Over the full keys at or above `from` and below `end`.
    pub(super) fn new(
        installed: Arc<Installed>,
        (from, end): (Vec<u8>, Vec<u8>),
        direction: Direction,
        at: Lsn,
    ) -> Self {
        let asked = Arc::new(Asked { from, end, direction, at });
        let mut layers = Vec::new();
        let mut has_ranges = Vec::new();
        for (number, (layer, begin)) in installed.held.stack.manifest.begins().enumerate() {
            let from_cursor = || Asked { from: begin.to_vec(), ..Asked::clone(&asked) };
            let asked = if asked.from.as_slice() < begin { Arc::new(from_cursor()) } else { Arc::clone(&asked) };
            if layer.interval.from >= at || asked.from >= asked.end {
                continue;
            }
            if installed.have_ranges[number] {
                has_ranges.push((number, asked.from.clone()));
            }
            layers.push(LayerScan::new(&installed, number, asked));
        }
        let ranges = Ranges::new(&installed, &asked, &has_ranges);
        let mut scan =
            Scan { installed, direction, layers, order: Vec::new(), ranges, is_on_entry: false, has_ended: false };
        for layer in 0..scan.layers.len() {
            if let Some(place) = scan.place(layer) {
                scan.put_in_order(place, 0);
            }
        }
        scan
    }

    /// Where a layer belongs; `None` at its end.
    fn place(&self, layer: usize) -> Option<Place> {
        let head = self.layers[layer].head(&self.installed)?;
        Some(Place { layer, digest: head.digest() })
    }

    fn is_before(&self, a: Place, b: Place) -> bool {
        let digests = match self.direction {
            Direction::Forward => a.digest.cmp(&b.digest),
            Direction::Backward => b.digest.cmp(&a.digest),
        };
        digests.then_with(|| self.compare(a.layer, b.layer)).is_lt()
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let head = |layer: usize| self.layers[layer].head(&self.installed).expect("it is not at its end");
        let heads = match self.direction {
            Direction::Forward => head(a).cmp(&head(b)),
            Direction::Backward => head(a).cmp_backward(&head(b)),
        };
        heads.then(a.cmp(&b))
    }

    /// Puts a layer where it belongs, which is not in the order, and not among the first `behind` of it.
    fn put_in_order(&mut self, place: Place, behind: usize) {
        let rest = self.order[behind..].iter().position(|other| self.is_before(place, *other));
        self.order.insert(rest.map_or(self.order.len(), |rest| behind + rest), place);
    }

    /// Moves on the layer at this place in the order.
    fn move_on(&mut self, at: usize) -> Result<()> {
        let layer = self.order[at].layer;
        self.layers[layer].advance(&self.installed)?;
        let Some(place) = self.place(layer) else {
            self.order.remove(at);
            return Ok(());
        };
        // Most entries are of one large layer, which often stays where it is.
        if self.order.get(at + 1).is_none_or(|next| self.is_before(place, *next)) {
            self.order[at] = place;
        } else {
            self.order.remove(at);
            self.put_in_order(place, at + 1);
        }
        Ok(())
    }

    /// Whether the second layer is on the key that the first one is on.
    fn is_twice(&self) -> bool {
        let [first, second, ..] = *self.order else { return false };
        let (a, b) = (&self.layers[first.layer], &self.layers[second.layer]);
        first.digest == second.digest && b.is_on_version() && a.key() == b.key()
    }

    /// Comes to the next entry.
    fn find(&mut self) -> Result<bool> {
        if self.is_on_entry {
            self.is_on_entry = false;
            self.move_on(0)?;
        }
        while let Some(first) = self.order.first().copied() {
            if !self.layers[first.layer].is_on_version() {
                self.move_on(0)?;
                continue;
            }
            // What older layers have of the key is superseded.
            while self.is_twice() {
                self.move_on(1)?;
            }
            let version = &self.layers[first.layer];
            let is_deleted = self.ranges.pass(&self.installed, version.key(), version.lsn())?;
            if version.value().is_some() && !is_deleted {
                self.is_on_entry = true;
                return Ok(true);
            }
            self.move_on(0)?;
        }
        self.ranges.pass_all(&self.installed)?;
        Ok(false)
    }

    fn entry(&self) -> &LayerScan {
        &self.layers[self.order[0].layer]
    }
}

impl LayersScan for Scan {
    fn advance(&mut self) -> Result<bool> {
        if self.has_ended {
            return Ok(false);
        }
        let found = self.find();
        if !matches!(found, Ok(true)) {
            // It gives its files back at once.
            (self.has_ended, self.is_on_entry) = (true, false);
            self.layers.clear();
            self.order.clear();
        }
        found
    }

    fn key(&self) -> &[u8] {
        &self.entry().key()[ID_LEN..]
    }

    fn value(&self) -> &[u8] {
        self.entry().value().unwrap_or_default()
    }

    fn lsn(&self) -> Lsn {
        self.entry().lsn()
    }
}
