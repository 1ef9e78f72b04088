//! Runs `on_durable` callbacks, in LSN order, on a thread of their own, so that no commit waits for a user's code.

use std::fmt;

use super::waiters::Callback;
use crate::words::error::Result;
use crate::words::sync::{self, Mutex, Sender};

type Job = (Callback, Result<()>);

/// The queue to the callback thread, which starts with the first callback and ends with the log's last handle or
/// receipt.
#[derive(Default)]
pub(crate) struct Callbacks {
    sender: Mutex<Option<Sender<Job>>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Starts the thread if it does not run yet.
    pub(crate) fn start(&self) -> std::io::Result<()> {
        let mut sender = self.sender.lock();
        if sender.is_none() {
            let (jobs, receiver) = sync::channel::<Job>();
            // Never joined: it may be inside a callback that takes for ever, or that is closing the log right now.
            sync::spawn("forelog-callbacks", move || {
                while let Some((callback, verdict)) = receiver.recv() {
                    // The panic hook has reported it; the callbacks of other commits go on.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(verdict)));
                }
            })?;
            *sender = Some(jobs);
        }
        Ok(())
    }

    pub(crate) fn queue(&self, callback: Callback, verdict: Result<()>) {
        if let Some(sender) = &*self.sender.lock() {
            sender.send((callback, verdict));
        }
    }
}

/// Lets the thread end once its queue is empty. Not before the last receipt is gone: it may ask for a callback, also
/// after a close, and those of the last flush may still be on their way.
impl Drop for Callbacks {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.lock().take() {
            sender.close();
        }
    }
}
