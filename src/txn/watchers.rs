//! Who waits for the next commit to be visible. A commit finds out with one load whether anybody does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use crate::log::LogInner;
use crate::log::write::waiters::{NEVER, Signal, Slot, WaiterId};
use crate::rt::clock::Moment;
use crate::rt::sync::{AtomicBool, Mutex};

/// Those who wait.
#[derive(Default)]
pub(crate) struct Watchers {
    has_any: AtomicBool,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    waiting: BTreeMap<u64, Watcher>,
    serial: u64,
}

enum Watcher {
    Thread(Arc<Slot>),
    Task(Waker),
}

impl Watchers {
    /// A commit has its place. Called without any lock. Returns the tasks that are to be woken: that runs a user's code, which may wait for whatever
    /// right this thread has.
    pub(super) fn tell(&self) -> Vec<Waker> {
        if self.has_any.load(Ordering::Acquire) { self.tell_all() } else { Vec::new() }
    }

    #[cold]
    fn tell_all(&self) -> Vec<Waker> {
        let told = {
            let mut list = self.list.lock();
            self.has_any.store(false, Ordering::Release);
            std::mem::take(&mut list.waiting)
        };
        let mut wakers = Vec::new();
        for watcher in told.into_values() {
            match watcher {
                Watcher::Thread(slot) => slot.signal(Signal::Look),
                Watcher::Task(waker) => wakers.push(waker),
            }
        }
        wakers
    }

    fn add(&self, watcher: Watcher) -> u64 {
        let mut list = self.list.lock();
        list.serial += 1;
        let id = list.serial;
        list.waiting.insert(id, watcher);
        self.has_any.store(true, Ordering::Release);
        id
    }

    /// What is forgotten is dropped without the lock: a waker is a user's code.
    fn remove(&self, id: u64) {
        let removed = self.list.lock().waiting.remove(&id);
        drop(removed);
    }

    /// Waits until `is_there`, or until nothing more will come; `false` if `deadline` came first.
    pub(crate) fn wait(&self, log: &LogInner, deadline: Option<Moment>, is_there: impl Fn() -> bool) -> bool {
        // Not the thread's own: both lists have it, and a signal that comes late must not be taken for another one.
        let slot = Arc::<Slot>::default();
        let end = log.flusher().watch_end(&slot);
        let id = self.add(Watcher::Thread(Arc::clone(&slot)));
        // Looked at once more behind the entry in the list: a commit that has not seen that has its place by now.
        let came = end.is_none() || is_there() || slot.wait(deadline).is_some();
        self.remove(id);
        if let Some(end) = end {
            log.flusher().forget(end);
        }
        came
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watchers")
    }
}

/// What a task has left with the flusher and here.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    flusher: Option<WaiterId>,
    watchers: Option<u64>,
}

impl Watching {
    /// Ready once everything up to `lsn` is durable, or if nothing more will be.
    pub(crate) fn poll_durable(&mut self, log: &LogInner, lsn: u64, waker: &Waker) -> Poll<()> {
        log.flusher().poll_watch(lsn, &mut self.flusher, waker).map(drop)
    }

    /// Ready if `is_there`, or if nothing more will come.
    pub(crate) fn poll_visible(
        &mut self,
        watchers: &Watchers,
        log: &LogInner,
        waker: &Waker,
        is_there: impl Fn() -> bool,
    ) -> Poll<()> {
        if let Some(id) = self.watchers.take() {
            watchers.remove(id);
        }
        if log.flusher().poll_watch(NEVER, &mut self.flusher, waker).is_ready() {
            return Poll::Ready(());
        }
        self.watchers = Some(watchers.add(Watcher::Task(waker.clone())));
        if is_there() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Nobody waits any more.
    pub(crate) fn end(&mut self, watchers: &Watchers, log: &LogInner) {
        // A child takes no lock: a thread that was not copied may hold it.
        if !log.is_of_this_process() {
            return;
        }
        if let Some(id) = self.watchers.take() {
            watchers.remove(id);
        }
        if let Some(id) = self.flusher.take() {
            log.flusher().forget(id);
        }
    }
}
