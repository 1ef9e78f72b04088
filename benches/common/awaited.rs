//! Many commits in flight from one thread, each awaited as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use forelog::{Receipt, Result};

/// Wakes the thread, as executors for one thread do.
struct Alarm {
    thread: Thread,
    rings: AtomicBool,
}

impl Alarm {
    fn wait(&self) {
        while !self.rings.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rings.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// Keeps `tasks` commits in flight until `enough`, asked with the commits that became durable, says so. Returns their
/// number.
pub(crate) fn keep_in_flight(
    tasks: usize,
    mut enough: impl FnMut(usize) -> bool,
    commit: impl Fn(usize) -> Result<Receipt>,
) -> Result<usize> {
    let alarm = Arc::new(Alarm { thread: thread::current(), rings: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&alarm));
    let mut context = Context::from_waker(&waker);
    let mut receipts = (0..tasks).map(&commit).collect::<Result<Vec<Receipt>>>()?;
    let (mut begun, mut done) = (tasks, 0);
    loop {
        for receipt in &mut receipts {
            // A new receipt is polled at once: nobody would wake this thread for one that was not.
            while let Poll::Ready(verdict) = Pin::new(&mut *receipt).poll(&mut context) {
                verdict?;
                done += 1;
                if enough(done) {
                    return Ok(done);
                }
                *receipt = commit(begun)?;
                begun += 1;
            }
        }
        alarm.wait();
    }
}
