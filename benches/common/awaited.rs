//! Many commits in flight from one thread, each awaited as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use super::stats::{STRIDE, nanoseconds};

/// What came of commits that were kept in flight.
#[derive(Default)]
pub(crate) struct Awaited {
    /// Commits that became durable.
    pub(crate) commits: usize,
    /// Nanoseconds from the begin of a commit until this thread saw it durable, of a sample of them.
    pub(crate) times: Vec<u64>,
}

/// A commit in flight.
struct InFlight<R> {
    receipt: R,
    /// When it began, if it is timed.
    begin: Option<Instant>,
}

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

/// Keeps `tasks` commits in flight until `enough`, asked with the number of commits that became durable, says so. `commit`
/// is given the number of the commit, and returns its receipt.
pub(crate) fn keep_in_flight<R, T, E>(
    tasks: usize,
    mut enough: impl FnMut(usize) -> bool,
    commit: impl Fn(usize) -> Result<R, E>,
) -> Result<Awaited, E>
where
    R: Future<Output = Result<T, E>> + Unpin,
{
    let alarm = Arc::new(Alarm { thread: thread::current(), rings: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&alarm));
    let mut context = Context::from_waker(&waker);
    let begun = |number: usize| {
        let begin = (number as u64).is_multiple_of(STRIDE).then(Instant::now);
        Ok(InFlight { receipt: commit(number)?, begin })
    };
    let mut all = (0..tasks).map(begun).collect::<Result<Vec<_>, E>>()?;
    let (mut next, mut done) = (tasks, Awaited::default());
    loop {
        for one in &mut all {
            // A new receipt is polled at once: no flush would wake this thread for one that was not.
            while let Poll::Ready(verdict) = Pin::new(&mut one.receipt).poll(&mut context) {
                verdict?;
                done.commits += 1;
                done.times.extend(one.begin.map(|begin| nanoseconds(begin.elapsed())));
                if enough(done.commits) {
                    return Ok(done);
                }
                *one = begun(next)?;
                next += 1;
            }
        }
        alarm.wait();
    }
}
