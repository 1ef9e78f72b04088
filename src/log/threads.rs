//! The background threads of an open log, and what the preparing thread is asked for.

use std::io;
use std::sync::Arc;

use crate::rt::sync::{self, Mutex, Receiver, Sender, Thread};

/// What the preparing thread is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    Segment,
    Mark,
}

/// A task with a thread of its own, which a close ends.
pub(crate) trait Task: Send + Sync + std::fmt::Debug {
    fn has_ended(&self) -> bool;

    /// Ends it, and waits until it does nothing any more. Called without any lock.
    fn end(&self);
}

/// The threads that run for the log.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Thread>,
    tasks: Vec<Arc<dyn Task>>,
    /// The log was closed: none is begun any more.
    ended: bool,
}

impl Threads {
    /// Starts the flusher and the preparer, unless they run. What an attempt has started that could not start both is left
    /// for the next one.
    pub(super) fn start<E>(
        &self,
        jobs: &Jobs,
        flusher: impl FnOnce() -> Result<Thread, E>,
        preparer: impl FnOnce(Receiver<Job>) -> Result<Thread, E>,
    ) -> Result<(), E> {
        let mut state = self.state.lock();
        if jobs.are_taken() {
            return Ok(());
        }
        if state.running.is_empty() {
            state.running.push(flusher()?);
        }
        let (sender, receiver) = sync::channel();
        state.running.push(preparer(receiver)?);
        jobs.take_with(sender);
        Ok(())
    }

    /// Has `start` begin `task`; `None` if the log was closed. A close finds the task, or this finds the log closed.
    pub(crate) fn begin(
        &self,
        task: Arc<dyn Task>,
        start: impl FnOnce() -> io::Result<Thread>,
    ) -> Option<io::Result<()>> {
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        state.tasks.retain(|task| !task.has_ended());
        Some(start().map(|_| state.tasks.push(task)))
    }

    /// Ends them all. Called without any lock.
    pub(super) fn stop(&self, jobs: &Jobs) {
        let ended = State { ended: true, ..State::default() };
        let State { running, tasks, .. } = std::mem::replace(&mut *self.state.lock(), ended);
        let sender = jobs.sender.lock().take();
        for task in tasks {
            task.end();
        }
        if let Some(sender) = sender {
            sender.close();
        }
        for thread in running {
            thread.join();
        }
    }

    #[cfg(all(test, feature = "sim"))]
    pub(super) fn running(&self) -> usize {
        self.state.lock().running.len()
    }
}

/// The queue to the preparing thread; nobody takes from it before that runs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    sender: Mutex<Option<Sender<Job>>>,
}

impl Jobs {
    pub(super) fn ask(&self, job: Job) {
        if let Some(sender) = &*self.sender.lock() {
            sender.send(job);
        }
    }

    fn are_taken(&self) -> bool {
        self.sender.lock().is_some()
    }

    fn take_with(&self, sender: Sender<Job>) {
        *self.sender.lock() = Some(sender);
    }
}
