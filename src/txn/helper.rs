//! The helper: the thread that does for futures what may take long (`ASYNC.md`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::error::{Error, ErrorKind, Result};
use crate::log::LogInner;
use crate::rt::background::Task;
use crate::rt::sync::{AtomicBool, Condvar, Mutex};

/// Something that the helper does.
pub(super) trait Job: Send + Sync {
    /// Called on the helper, which holds no lock.
    fn run(&self);
    /// It was run.
    fn end(&self);
    /// It will not be run, as the engine closes or the helper has died; or the helper has died of it.
    fn refuse(&self);
}

/// The queues to the helper, which runs from the first job on.
#[derive(Default)]
pub(super) struct Helper {
    queues: Mutex<Queues>,
    changed: Condvar,
    /// A place is queued, or waited for.
    has_places: AtomicBool,
}

#[derive(Default)]
struct Queues {
    /// Of what has its place, and so goes first.
    writes: VecDeque<Arc<dyn Job>>,
    places: VecDeque<Arc<dyn Job>>,
    /// Nothing is taken any more.
    is_shut: bool,
}

/// What is asked of the helper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    Write,
    Place,
}

impl Helper {
    /// Whether somebody waits for a place: those who come later wait behind (A10).
    pub(super) fn has_places(&self) -> bool {
        self.has_places.load(Ordering::Acquire)
    }

    /// Has `job` run, in the order in which it comes among its like.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], [`ErrorKind::Poisoned`]; [`ErrorKind::Io`] if there is no thread for it; [`ErrorKind::WouldBlock`] for a write, if
    /// a place is in the way, which may wait for long. Then it is neither run nor refused.
    pub(super) fn ask(self: &Arc<Self>, log: &LogInner, ask: Ask, job: Arc<dyn Job>) -> Result<()> {
        let mut queues = self.queues.lock();
        if queues.is_shut {
            return Err(log.refusal());
        }
        if ask == Ask::Write && self.has_places() {
            return Err(Error::new(ErrorKind::WouldBlock, "a commit waits for its place"));
        }
        let (helper, task) = (Arc::clone(self), Arc::clone(self) as Arc<dyn Task>);
        // Under the lock: the thread waits for it, and an end that comes now finds what is queued below.
        let started = log.start_once("forelog-async", task, move |log| helper.run(log));
        let started = started.ok_or_else(|| log.refusal())?;
        started.map_err(|error| Error::io("start a thread for", log.dir(), error))?;
        match ask {
            Ask::Write => queues.writes.push_back(job),
            Ask::Place => {
                queues.places.push_back(job);
                self.has_places.store(true, Ordering::Release);
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    fn run(&self, log: &LogInner) {
        while let Some((ask, job)) = self.next() {
            let dies = Dies { helper: self, log, job: &*job };
            job.run();
            job.end();
            drop(dies);
            if ask == Ask::Place {
                let queues = self.queues.lock();
                self.has_places.store(!queues.places.is_empty(), Ordering::Release);
            }
        }
    }

    fn next(&self) -> Option<(Ask, Arc<dyn Job>)> {
        let mut queues = self.queues.lock();
        loop {
            if let Some(job) = queues.writes.pop_front() {
                return Some((Ask::Write, job));
            }
            if let Some(job) = queues.places.pop_front() {
                return Some((Ask::Place, job));
            }
            if queues.is_shut {
                return None;
            }
            self.changed.wait(&mut queues);
        }
    }

    fn shut(&self) {
        let (writes, places) = {
            let mut queues = self.queues.lock();
            queues.is_shut = true;
            self.has_places.store(false, Ordering::Release);
            (std::mem::take(&mut queues.writes), std::mem::take(&mut queues.places))
        };
        self.changed.notify_all();
        writes.iter().chain(&places).for_each(|job| job.refuse());
    }
}

/// A job in hand: if it panics, it is over, and so are those behind it (A7).
struct Dies<'a> {
    helper: &'a Helper,
    log: &'a LogInner,
    job: &'a dyn Job,
}

impl Drop for Dies<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // Before anybody is told why.
        self.log.stop(Error::bug("an async commit panicked")).left_to_the_flusher();
        self.job.refuse();
        self.helper.shut();
    }
}

impl Task for Helper {
    fn end(&self) {
        self.shut();
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Helper")
    }
}
