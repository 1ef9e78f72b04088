//! The threads beside the one that gathers: one sorts the bundles before, one has the memory for the next come.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Panicked;
use super::bundle::{Bundle, Scratch};
use crate::words::plant::planted;
use crate::words::sync::{self, AtomicBool, Receiver, Sender, Thread};

/// The thread that sorts.
#[derive(Debug)]
pub(super) struct Worker {
    bundles: Sender<Bundle>,
    sorted: Receiver<Bundle>,
    /// Not come back yet.
    away: usize,
    thread: Thread,
}

impl Worker {
    /// More would be memory for nothing: the slower of the two sides sets the pace.
    const MOST_AWAY: usize = 2;

    pub(super) fn start() -> Option<Self> {
        let ((bundles, incoming), (outgoing, sorted)) = (sync::channel::<Bundle>(), sync::channel());
        #[cfg(any(test, shuttle))]
        let mut fault = super::fault::Fault::take();
        let sort = move || {
            let mut scratch = Scratch::default();
            while let Some(mut bundle) = incoming.recv() {
                #[cfg(any(test, shuttle))]
                if fault.strikes() {
                    return;
                }
                bundle.sort(&mut scratch);
                outgoing.send(bundle);
            }
            outgoing.close();
        };
        let thread = sync::spawn("forelog-load", sort).ok()?;
        Some(Worker { bundles, sorted, away: 0, thread })
    }

    /// Takes a bundle. What comes back, waited for if too many are away, goes behind `sorted`, in the same order.
    pub(super) fn send(&mut self, bundle: Bundle, sorted: &mut Vec<Bundle>) -> Result<(), Panicked> {
        if self.away == Self::MOST_AWAY {
            self.away -= 1;
            sorted.push(self.sorted.recv().ok_or(Panicked)?);
        }
        self.bundles.send(bundle);
        self.away += 1;
        Ok(())
    }

    /// Waits for all that are away.
    pub(super) fn finish(self, sorted: &mut Vec<Bundle>) -> Result<(), Panicked> {
        self.bundles.close();
        if planted!("race-load-finish-does-not-wait") {
            return Ok(());
        }
        let before = sorted.len();
        sorted.extend(std::iter::from_fn(|| self.sorted.recv()));
        self.thread.join();
        let is_whole = sorted.len() - before == self.away || planted!("race-load-misses-a-dead-worker");
        if is_whole { Ok(()) } else { Err(Panicked) }
    }
}

/// The thread that has empty bundles ready. The operating system clears all memory that it gives, which takes longer than
/// it takes to fill a bundle.
#[derive(Debug)]
pub(super) struct Memory {
    wanted: Sender<Bundle>,
    ready: Receiver<Bundle>,
    is_over: Arc<AtomicBool>,
    thread: Thread,
}

impl Memory {
    pub(super) fn start() -> Option<Self> {
        let ((wanted, incoming), (outgoing, ready)) = (sync::channel::<Bundle>(), sync::channel());
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let populate = move || {
            while let Some(mut bundle) = incoming.recv() {
                bundle.populate(|| !stop.load(Ordering::Relaxed));
                outgoing.send(bundle);
            }
            outgoing.close();
        };
        let thread = sync::spawn("forelog-load", populate).ok()?;
        Some(Memory { wanted, ready, is_over, thread })
    }

    /// Wants the memory of an empty bundle.
    pub(super) fn want(&self, empty: Bundle) {
        self.wanted.send(empty);
    }

    /// Waits for what was wanted first.
    pub(super) fn take(&self) -> Result<Bundle, Panicked> {
        self.ready.recv().ok_or(Panicked)
    }

    /// What is not ready is not wanted any more.
    pub(super) fn finish(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.wanted.close();
        self.thread.join();
    }
}
