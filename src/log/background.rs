//! The background flusher: issues the flushes that `Async` and `Written` commits were promised.

use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::words::clock;
use crate::words::plant::planted;

impl Shared {
    /// Sleeps until a flush is due, issues it, and sleeps again; without a commit at risk it wakes for the mark alone,
    /// and once that is written not at all.
    pub(crate) fn run_flusher(&self) {
        while let Some(target) = self.wait_until_due() {
            // A failure has poisoned the log and told everybody; the next wait ends this thread.
            let _ = self.flush_to(target);
        }
        // Whoever stops the log by a panic tells nobody, and whoever waits for a flush waits for this thread.
        self.tell_if_poisoned();
    }

    /// The position to flush to; `None` once the log is stopped.
    fn wait_until_due(&self) -> Option<u64> {
        let mut core = self.core.lock();
        loop {
            if core.stopped {
                return None;
            }
            if core.due.is_some_and(|due| due <= clock::now()) {
                // Commits that come from here on set their own time.
                core.due = None;
                let appended = self.positions.appended();
                if !planted!("race-asked-for-ever") {
                    self.asked.store(appended, Ordering::Release);
                }
                if self.positions.durable() < appended {
                    return Some(appended);
                }
                continue;
            }
            let look = self.watch_mark(&mut core);
            match core.due.into_iter().chain(look).min() {
                None => self.background.wait(&mut core),
                next => _ = self.background.wait_until(&mut core, next),
            }
        }
    }
}
