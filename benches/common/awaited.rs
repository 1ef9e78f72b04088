//! Many commits in flight from one thread, each awaited as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use forelog::{Receipt, Result};

struct Flag(Mutex<bool>, Condvar);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("no panic") = true;
        self.1.notify_one();
    }
}

/// Keeps `tasks` commits in flight until `enough`, asked with the commits that became durable, says so. Returns their
/// number.
pub(crate) fn keep_in_flight(
    tasks: usize,
    mut enough: impl FnMut(usize) -> bool,
    commit: impl Fn(usize) -> Result<Receipt>,
) -> Result<usize> {
    let flag = Arc::new(Flag(Mutex::new(false), Condvar::new()));
    let waker = Waker::from(Arc::clone(&flag));
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
        let mut woken = flag.0.lock().expect("no panic");
        while !*woken {
            woken = flag.1.wait(woken).expect("no panic");
        }
        *woken = false;
    }
}
