//! Wakers that are counted, and an executor of one thread.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    /// The counter, and a waker that counts.
    pub fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    /// How often it was woken so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An executor of one thread: the tasks that are to be polled, in the order in which they were woken.
#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>, Condvar);

struct Task(usize, Arc<Ready>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.1.0.lock().unwrap().push_back(self.0);
        self.1.1.notify_one();
    }
}

/// Drives all futures on this thread, each with a waker of its own; returns what they gave, in their order.
pub fn drive<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let ready = Arc::new(Ready::default());
    let wakers: Vec<_> = (0..futures.len()).map(|task| Waker::from(Arc::new(Task(task, Arc::clone(&ready))))).collect();
    wakers.iter().for_each(Waker::wake_by_ref);
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    while outputs.iter().any(Option::is_none) {
        let task = {
            let tasks = ready.0.lock().unwrap();
            ready.1.wait_while(tasks, |tasks| tasks.is_empty()).unwrap().pop_front().unwrap()
        };
        if outputs[task].is_none()
            && let Poll::Ready(output) = Pin::new(&mut futures[task]).poll(&mut Context::from_waker(&wakers[task]))
        {
            outputs[task] = Some(output);
        }
    }
    outputs.into_iter().flatten().collect()
}

/// Drives one future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    drive(vec![pin!(future)]).remove(0)
}
