//! What the preparing thread is asked for.

use crate::rt::background::Task;
use crate::rt::sync::{self, Mutex, Receiver, Sender};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    Segment,
    /// The same, once more: what could be done for room has been.
    SegmentAgain,
    Mark,
    /// To look whether the files are still there.
    Look,
}

/// The queue to the preparing thread; nobody takes from it before that runs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    sender: Mutex<Option<Sender<Job>>>,
}

impl Jobs {
    pub(crate) fn ask(&self, job: Job) {
        if let Some(sender) = &*self.sender.lock() {
            sender.send(job);
        }
    }

    /// Has `start` begin to take jobs, unless a thread does already.
    pub(crate) fn take_with<E>(&self, start: impl FnOnce(Receiver<Job>) -> Result<(), E>) -> Result<(), E> {
        let mut taken = self.sender.lock();
        if taken.is_none() {
            let (sender, receiver) = sync::channel();
            start(receiver)?;
            *taken = Some(sender);
        }
        Ok(())
    }
}

/// The thread ends once it has done what it was asked for.
impl Task for Jobs {
    fn end(&self) {
        if let Some(sender) = self.sender.lock().take() {
            sender.close();
        }
    }
}
