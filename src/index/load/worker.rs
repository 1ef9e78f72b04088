//! The thread that sorts bundles while the next is gathered.

use super::Panicked;
use super::bundle::{Bundle, Scratch};
use crate::words::sync::{self, Receiver, Sender, Thread};

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
        let sort = move || {
            let mut scratch = Scratch::default();
            while let Some(mut bundle) = incoming.recv() {
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
        let before = sorted.len();
        sorted.extend(std::iter::from_fn(|| self.sorted.recv()));
        self.thread.join();
        if sorted.len() - before == self.away { Ok(()) } else { Err(Panicked) }
    }
}
