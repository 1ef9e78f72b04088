//! The background threads of an open database: one place starts them, and one place ends them.

use std::cell::Cell;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use super::guard::{Panicked, spawn_guarded};
use super::sync::{self, Mutex, Thread};

sync::thread_local! {
    static IS_BACKGROUND: Cell<bool> = Cell::default();
}

/// Whether this is a background thread of an open database, this one or another: a close waits for its end.
pub(crate) fn is_background() -> bool {
    IS_BACKGROUND.try_with(Cell::get).unwrap_or(false)
}

/// How a background thread is told to end.
pub(crate) trait Task: Send + Sync + Debug {
    /// Whether the thread has no work left and returns by itself, so that no one has to end it.
    fn has_ended(&self) -> bool {
        false
    }

    /// Makes the thread return from its body soon. Called on the closing thread, which holds no lock.
    fn end(&self);
}

/// A thread to start: its name, the task that ends it, its body, and the action if the body panics.
pub(crate) struct Start<B, D> {
    pub(crate) name: &'static str,
    pub(crate) task: Arc<dyn Task>,
    pub(crate) body: B,
    pub(crate) died: D,
}

/// The threads that run for one open database.
#[derive(Debug, Default)]
pub(crate) struct Background {
    state: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    /// In the order in which they were started.
    running: Vec<Running>,
    /// The database is closed: no more threads are started.
    has_ended: bool,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    task: Arc<dyn Task>,
    thread: Thread,
}

impl Threads {
    fn start<B, D>(&mut self, start: Start<B, D>) -> Option<io::Result<()>>
    where
        B: FnOnce() + Send + 'static,
        D: FnOnce(&Panicked) + Send + 'static,
    {
        let Start { name, task, body, died } = start;
        if self.has_ended {
            return None;
        }
        let run = move || {
            IS_BACKGROUND.with(|is| is.set(true));
            body();
        };
        let thread = spawn_guarded(name, run, died);
        Some(thread.map(|thread| self.running.push(Running { name, task, thread })))
    }
}

impl Background {
    /// Starts a thread; `None` after [`Background::end`]. A start that is not refused is seen by [`Background::end`].
    pub(crate) fn start<B, D>(&self, start: Start<B, D>) -> Option<io::Result<()>>
    where
        B: FnOnce() + Send + 'static,
        D: FnOnce(&Panicked) + Send + 'static,
    {
        let mut state = self.state.lock();
        state.running.retain(|running| !running.task.has_ended());
        state.start(start)
    }

    /// Starts a thread as [`Background::start`] does, unless one of that name was started before.
    pub(crate) fn start_once<B, D>(&self, start: Start<B, D>) -> Option<io::Result<()>>
    where
        B: FnOnce() + Send + 'static,
        D: FnOnce(&Panicked) + Send + 'static,
    {
        let mut state = self.state.lock();
        if state.running.iter().any(|running| running.name == start.name) {
            return Some(Ok(()));
        }
        state.start(start)
    }

    /// Ends the threads of that name, and waits until they have returned. The caller must hold no lock.
    pub(crate) fn end_named(&self, name: &str) {
        let of_this_name = |running: &mut Running| running.name == name;
        let ending: Vec<Running> = self.state.lock().running.extract_if(.., of_this_name).collect();
        ending.iter().for_each(|running| running.task.end());
        ending.into_iter().for_each(|running| running.thread.join());
    }

    /// Ends all threads and waits until they have returned, in the order in which they were started. The caller must
    /// hold no lock.
    pub(crate) fn end(&self) {
        let Threads { running, .. } =
            std::mem::replace(&mut *self.state.lock(), Threads { has_ended: true, ..Threads::default() });
        for running in &running {
            running.task.end();
        }
        for running in running {
            running.thread.join();
        }
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn running(&self) -> usize {
        self.state.lock().running.len()
    }
}
