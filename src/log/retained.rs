//! What is retained of a log though nothing needs it, and the pins on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::types::Lsn;
use crate::log::read::reader::SegmentInfo;
use crate::rt::clock::Moment;

/// What is retained, and what has been.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Tables have the effect of the log up to here.
    pub(super) known: Lsn,
    /// An earlier open has retained something.
    pub(super) is_found: bool,
    pub(super) pins: Vec<Arc<Held>>,
    /// By the base of a segment: when it was first looked at, and how old it was then.
    pub(super) ages: BTreeMap<u64, (Moment, Duration)>,
    pub(super) gave_way: u64,
    pub(super) pins_dropped: u64,
}

/// A pin.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) at: Lsn,
    pub(super) is_held: AtomicBool,
}

/// What is retained now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetainedStats {
    pub(super) bytes: u64,
    pub(super) from: Lsn,
    pub(super) gave_way: u64,
    pub(super) pins_dropped: u64,
}

impl Retained {
    pub(super) fn new(oldest: Lsn, known: Lsn) -> Self {
        Retained { known, is_found: oldest < known, ..Retained::default() }
    }

    /// Where the lowest pin is.
    pub(super) fn lowest_pin(&self) -> Option<Lsn> {
        self.pins.iter().map(|held| held.at).min()
    }

    /// Drops the pins that need this segment: with it they keep too much.
    pub(super) fn drop_pins_on(&mut self, info: &SegmentInfo) {
        self.drop_pins(|held| held.at.get() < info.end);
    }

    fn drop_pins(&mut self, which: impl Fn(&Held) -> bool) {
        for held in self.pins.extract_if(.., |held| which(held)) {
            held.is_held.store(false, Ordering::Release);
            self.pins_dropped += 1;
        }
    }

    /// Lets go of all that tables have.
    pub(super) fn give_way(&mut self) {
        self.gave_way += 1;
        let known = self.known;
        self.drop_pins(|held| held.at < known);
    }
}
