//! The right to change `table/` (`FAULTS.md`, section 1): shared by those who write, and taken for good by a close. Nobody
//! may look first and write later: after a close the directory may be another engine's.

use std::fmt;
use std::io;

use crate::base::error::{Error, Result};
use crate::rt::guard::contain;
use crate::rt::sync::{Condvar, Mutex};

/// Each single call that changes the disk passes here.
pub(crate) struct Gate {
    state: Mutex<State>,
    /// No call is under way.
    idle: Condvar,
    /// Why nothing may be changed, apart from a close: the log has stopped, the process is a forked child.
    may_change: Box<dyn Fn() -> Result<()> + Send + Sync>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    until: Until,
}

/// How far a close has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
enum Until {
    #[default]
    Open,
    /// Attempts end, and remove what they have made.
    Ending,
    Closed,
}

impl Gate {
    pub(crate) fn new(may_change: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Gate { state: Mutex::default(), idle: Condvar::new(), may_change: Box::new(may_change) }
    }

    /// Makes a call that changes the disk. A panic of the disk is as its failure: what it has done is not known.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), or why nothing may be changed: then the call was not made. The result of the call is apart.
    pub(crate) fn pass<T>(&self, call: impl FnOnce() -> io::Result<T>) -> Result<io::Result<T>> {
        self.pass_before(Until::Ending, call)
    }

    fn pass_before<T>(&self, until: Until, call: impl FnOnce() -> io::Result<T>) -> Result<io::Result<T>> {
        self.check()?;
        {
            let mut state = self.state.lock();
            if state.until >= until {
                return Err(Error::closed());
            }
            state.under_way += 1;
        }
        let result = contained(call);
        let mut state = self.state.lock();
        state.under_way -= 1;
        if state.under_way == 0 {
            self.idle.notify_all();
        }
        Ok(result)
    }

    /// Refuses what [`Gate::pass`] would.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check()?;
        if self.state.lock().until == Until::Open { Ok(()) } else { Err(Error::closed()) }
    }

    /// [`Gate::pass`] for a call that changes nothing if it is interrupted: then it is made again, unless a close has come.
    pub(crate) fn pass_again<T>(&self, call: impl Fn() -> io::Result<T>) -> Result<io::Result<T>> {
        again(|| self.pass(&call))
    }

    /// [`Gate::pass`] for a call with which an attempt still ends that a close has come to: a removal, or the sync behind the
    /// rename that has been made.
    pub(crate) fn pass_to_end<T>(&self, call: impl FnOnce() -> io::Result<T>) -> Result<io::Result<T>> {
        self.pass_before(Until::Closed, call)
    }

    /// Refuses if the log has stopped, or in a forked child. Takes no lock.
    pub(crate) fn check(&self) -> Result<()> {
        contain(|| (self.may_change)()).map_err(|panicked| Error::bug(panicked.message))?
    }

    /// From here on only the last calls of attempts are let through, so that those under way end and leave nothing.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.until = state.until.max(Until::Ending);
    }

    /// From here on no call is made. Waits for those under way, and for none that is to come. Not to be called in a forked
    /// child, to which a call of its parent is under way for ever.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.until = Until::Closed;
        while state.under_way > 0 {
            self.idle.wait(&mut state);
        }
    }
}

/// Makes a call that changes nothing if it is interrupted.
pub(crate) fn again<T>(call: impl Fn() -> Result<io::Result<T>>) -> Result<io::Result<T>> {
    loop {
        match call()? {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Ok(result),
        }
    }
}

/// Makes a call of the disk, a panic of which is as its failure.
pub(crate) fn contained<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    contain(call)
        .unwrap_or_else(|panicked| Err(io::Error::other(format!("a call of the disk panicked: {}", panicked.message))))
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("until", &self.state.lock().until).finish_non_exhaustive()
    }
}
