//! Runs `on_durable` callbacks, in LSN order, on a thread of their own, so that no commit waits for a user's code.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use crate::base::error::Result;
use crate::log::write::waiters::{Callback, Signal, Slot};
use crate::rt::guard::{Panicked, contain, spawn_guarded};
use crate::rt::sync::{self, Mutex, Sender};

/// What the callback thread does next.
enum Next {
    Call(Callback, Result<()>),
    /// Tells a close that every callback has run, once no other is queued.
    Pass(Passing),
}

/// Signals when it is dropped: also by a callback thread that is gone, so that no close waits for one.
struct Passing(Arc<Slot>);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.signal(Signal::Look);
    }
}

sync::thread_local! {
    static RUNS_CALLBACKS: Cell<bool> = Cell::default();
}

/// Whether this is the callback thread of a log, this one or another.
pub(crate) fn runs_callbacks() -> bool {
    RUNS_CALLBACKS.try_with(Cell::get).unwrap_or(false)
}

/// The queue to the callback thread, which starts with the first callback and ends with the log's last handle or
/// receipt.
#[derive(Default)]
pub(crate) struct Callbacks {
    sender: Mutex<Option<Sender<Next>>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Starts the thread if it does not run yet. `died` is called if the thread ends before it should.
    pub(crate) fn start(&self, died: impl FnOnce(&Panicked) + Send + 'static) -> std::io::Result<()> {
        let mut sender = self.sender.lock();
        if sender.is_none() {
            let (jobs, receiver) = sync::channel::<Next>();
            // Never joined: it may be inside a callback that takes for ever, or that is closing the log right now.
            let run = move || {
                RUNS_CALLBACKS.with(|runs| runs.set(true));
                let mut closes = Vec::new();
                while let Some(job) = receiver.recv() {
                    match job {
                        // A panic ends this callback alone; the callbacks of other commits run.
                        Next::Call(callback, verdict) => _ = contain(|| callback(verdict)),
                        Next::Pass(passing) => closes.push(passing),
                    }
                    // Callbacks that were registered while others ran, by those too, are queued behind the close.
                    if receiver.is_empty() {
                        closes.clear();
                    }
                }
            };
            spawn_guarded("forelog-callbacks", run, died)?;
            *sender = Some(jobs);
        }
        Ok(())
    }

    pub(crate) fn queue(&self, callback: Callback, verdict: Result<()>) {
        if let Some(sender) = &*self.sender.lock() {
            sender.send(Next::Call(callback, verdict));
        }
    }

    /// Returns once every callback that was queued has run, and none has come meanwhile. On a callback thread it returns
    /// at once: the callback that is running would wait for itself, and two logs whose callbacks close each other would
    /// wait for one another.
    pub(crate) fn drain(&self) {
        if runs_callbacks() {
            return;
        }
        let passed = Arc::new(Slot::default());
        match &*self.sender.lock() {
            Some(sender) => sender.send(Next::Pass(Passing(Arc::clone(&passed)))),
            None => return,
        }
        passed.wait(None);
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
