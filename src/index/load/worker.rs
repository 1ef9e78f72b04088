//! The thread that sorts bundles while the next one is gathered.

use std::collections::VecDeque;

use super::bundle::{Bundle, Scratch};
use super::{Panicked, Sorted};
use crate::rt::sync::{self, Receiver, Sender, Thread};

/// The thread that sorts.
#[derive(Debug)]
pub(super) struct Worker {
    bundles: Sender<Bundle>,
    sorted: Receiver<Sorted>,
    /// The memory of each bundle that has not come back.
    away: VecDeque<usize>,
    thread: Thread,
}

impl Worker {
    /// More would be memory for nothing: the slower of the two sides sets the pace.
    const MOST_AWAY: usize = 2;
    /// Large transactions make large bundles: two that take more are not away at once.
    const MOST_MEMORY_AWAY: usize = 96 << 20;

    pub(super) fn start() -> Option<Self> {
        let ((bundles, incoming), (outgoing, sorted)) = (sync::channel::<Bundle>(), sync::channel());
        #[cfg(any(test, shuttle))]
        let mut fault = super::fault::Fault::take();
        let sort = move || {
            let mut scratch = Scratch::default();
            while let Some(bundle) = incoming.recv() {
                #[cfg(any(test, shuttle))]
                if fault.strikes() {
                    return;
                }
                let mut sorted = Sorted::default();
                bundle.sort(&mut scratch, &mut sorted);
                outgoing.send(sorted);
            }
            outgoing.close();
        };
        let thread = sync::spawn("forelog-load", sort).ok()?;
        Some(Worker { bundles, sorted, away: VecDeque::new(), thread })
    }

    /// Takes a bundle. What comes back, waited for if too much is away, goes behind `sorted`, in the same order.
    pub(super) fn send(&mut self, bundle: Bundle, sorted: &mut Sorted) -> Result<(), Panicked> {
        let memory = bundle.memory();
        while self.away.len() == Self::MOST_AWAY
            || self.away.front().is_some_and(|first| first + memory > Self::MOST_MEMORY_AWAY)
        {
            self.away.pop_front();
            sorted.append(self.sorted.recv().ok_or(Panicked)?);
        }
        self.bundles.send(bundle);
        self.away.push_back(memory);
        Ok(())
    }

    /// Waits for all that are away.
    pub(super) fn finish(self, sorted: &mut Sorted) -> Result<(), Panicked> {
        self.bundles.close();
        let mut come_back = 0;
        while let Some(one) = self.sorted.recv() {
            sorted.append(one);
            come_back += 1;
        }
        self.thread.join();
        if come_back == self.away.len() { Ok(()) } else { Err(Panicked) }
    }
}
