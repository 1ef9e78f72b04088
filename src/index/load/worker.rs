//! The thread that sorts a bundle while the loader gathers the next one.

use std::collections::VecDeque;

use super::bundle::{Bundle, Scratch};
use super::{Panicked, Sorted};
use crate::rt::sync::{self, Receiver, Sender, Thread};

#[derive(Debug)]
pub(super) struct Worker {
    bundles: Sender<Bundle>,
    sorted: Receiver<Sorted>,
    /// The memory of each bundle that the thread has not returned, in bytes.
    away: VecDeque<usize>,
    thread: Thread,
}

impl Worker {
    /// At most this number of bundles are with the thread. More would only cost memory: the slower of the two threads
    /// sets the pace.
    const MOST_AWAY: usize = 2;
    /// Large values make large bundles. Two that take more bytes than this together are not with the thread at once; and
    /// while one that takes more than half is with the thread, the loader gathers nothing.
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

    /// Gives a bundle to the thread. If too much is with it, waits for earlier ones first. Results are appended to
    /// `sorted` in the order of the log.
    pub(super) fn send(&mut self, bundle: Bundle, sorted: &mut Sorted) -> Result<(), Panicked> {
        let memory = bundle.memory();
        while self.away.len() == Self::MOST_AWAY
            || self.away.front().is_some_and(|first| first + memory > Self::MOST_MEMORY_AWAY)
        {
            self.take_back(sorted)?;
        }
        self.bundles.send(bundle);
        self.away.push_back(memory);
        while memory > Self::MOST_MEMORY_AWAY / 2 && !self.away.is_empty() {
            self.take_back(sorted)?;
        }
        Ok(())
    }

    fn take_back(&mut self, sorted: &mut Sorted) -> Result<(), Panicked> {
        self.away.pop_front();
        sorted.append(self.sorted.recv().ok_or(Panicked)?);
        Ok(())
    }

    /// Waits for all bundles that are with the thread.
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
