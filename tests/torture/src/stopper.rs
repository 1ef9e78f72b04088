//! Runs a child under ptrace, and kills it, or has a call of it fail, at an exact place.
//!
//! A seccomp filter stops each thread before each call of the list, and nowhere else, so that a child runs at almost
//! its own speed. All threads count together: the n-th call is the n-th of the process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{ChildStdout, Command};

use super::fate::{Call, Fate, Fault};
use super::sys::trace::{Entry, Stop};
use super::sys::{self, trace};

pub(super) use trace::stop_at_calls;

/// The place at which something was done to a child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hit {
    pub(super) call: Call,
    /// The file or directory that the call was about.
    pub(super) target: Option<PathBuf>,
}

/// How a traced child fared.
#[derive(Debug)]
pub(super) struct Seen {
    /// `None`: it ended before it came so far.
    pub(super) hit: Option<Hit>,
    /// Calls of the kind that was aimed at.
    pub(super) calls: u64,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
}

/// What is done when a call returns.
#[derive(Clone, Copy, Debug)]
enum OnReturn {
    Kill,
    Result(i64),
    /// The count that the caller had passed is put back: a system call leaves it as it is.
    Count(u64),
    /// The same, and the whole count is the result.
    Lie(u64),
}

/// Starts `command` and brings `fate` about. `listen` is given the child's pipe, and its process id.
pub(super) fn run(command: &mut Command, fate: Fate, listen: impl FnOnce(ChildStdout, u32)) -> io::Result<Seen> {
    trace::trace(command);
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let pipe = child.stdout.take().ok_or_else(|| io::Error::other("the child has no pipe"))?;
    listen(pipe, child.id());
    let mut stopper = Stopper { pid, fate, returning: HashMap::new(), hit: None, calls: 0, since: 0 };
    stopper.run().inspect_err(|_| {
        // Nobody else ends a child whose tracer gave up.
        let _ = sys::signal(pid, libc::SIGKILL);
        while trace::wait().is_ok() {}
    })
}

struct Stopper {
    pid: i32,
    fate: Fate,
    returning: HashMap<i32, OnReturn>,
    hit: Option<Hit>,
    calls: u64,
    /// Calls made since the hit.
    since: u64,
}

impl Stopper {
    fn run(&mut self) -> io::Result<Seen> {
        let first = trace::wait()?;
        if !matches!(first, (pid, Stop::Other) if pid == self.pid) {
            return Err(io::Error::other(format!("the child began with {first:?}")));
        }
        trace::follow(self.pid)?;
        trace::resume(self.pid, false, 0)?;
        loop {
            let (thread, stop) = trace::wait()?;
            let (exit_code, signal) = match stop {
                Stop::Exited(code) => (Some(code), None),
                Stop::Killed(signal) => (None, Some(signal)),
                _ => {
                    self.go_on(thread, stop).or_else(|error| match error.raw_os_error() {
                        // Killed meanwhile; the next wait tells.
                        Some(libc::ESRCH) => Ok(()),
                        _ => Err(error),
                    })?;
                    continue;
                }
            };
            if thread == self.pid {
                return Ok(Seen { hit: self.hit.take(), calls: self.calls, exit_code, signal });
            }
        }
    }

    fn go_on(&mut self, thread: i32, stop: Stop) -> io::Result<()> {
        match stop {
            Stop::Entry => self.enter(thread),
            Stop::Return => match self.returning.remove(&thread) {
                Some(OnReturn::Kill) => sys::signal(self.pid, libc::SIGKILL),
                Some(OnReturn::Result(result)) => {
                    trace::set_result(thread, Some(result), None)?;
                    trace::resume(thread, false, 0)
                }
                Some(OnReturn::Count(count)) => {
                    trace::set_result(thread, None, Some(count))?;
                    trace::resume(thread, false, 0)
                }
                Some(OnReturn::Lie(count)) => {
                    trace::set_result(thread, Some(count.cast_signed()), Some(count))?;
                    trace::resume(thread, false, 0)
                }
                None => trace::resume(thread, false, 0),
            },
            Stop::Signal(signal) => trace::resume(thread, false, signal),
            _ => trace::resume(thread, false, 0),
        }
    }

    fn enter(&mut self, thread: i32) -> io::Result<()> {
        let Some(entry) = trace::entry(thread)? else { return trace::resume(thread, false, 0) };
        let (aimed, nth) = match self.fate {
            Fate::Before(nth) | Fate::After(nth) => (true, nth),
            Fate::Fails(call, fault, nth) => {
                let count = entry.arguments[2];
                // Not where it would write everything, or nothing.
                let shortens = fault.short_count(count).is_none_or(|short| 0 < short && short < count);
                (call == entry.call && shortens, nth)
            }
            Fate::Lies(_, _, more) if self.hit.is_some() => {
                self.since += 1;
                if self.since == more {
                    return sys::signal(self.pid, libc::SIGKILL);
                }
                (false, 0)
            }
            Fate::Lies(lie, nth, _) => {
                let count = entry.arguments[2];
                (entry.call == Call::Pwrite && lie.count(count) < count, nth)
            }
            _ => (false, 0),
        };
        self.calls += u64::from(aimed);
        if !aimed || self.calls != nth {
            return trace::resume(thread, false, 0);
        }
        self.hit = Some(Hit { call: entry.call, target: target(thread, &entry) });
        let on_return = match self.fate {
            Fate::Before(_) => return sys::signal(self.pid, libc::SIGKILL),
            Fate::Fails(_, fault, _) => {
                let count = entry.arguments[2];
                if let Some(short) = fault.short_count(count) {
                    trace::set_count(thread, short)?;
                    OnReturn::Count(count)
                } else {
                    trace::skip(thread)?;
                    OnReturn::Result(-i64::from(code(fault)))
                }
            }
            Fate::Lies(lie, ..) => {
                let count = entry.arguments[2];
                match lie.count(count) {
                    0 => trace::skip(thread)?,
                    written => trace::set_count(thread, written)?,
                }
                OnReturn::Lie(count)
            }
            _ => OnReturn::Kill,
        };
        self.returning.insert(thread, on_return);
        trace::resume(thread, true, 0)
    }
}

fn code(fault: Fault) -> i32 {
    match fault {
        Fault::Eio | Fault::Short | Fault::Hundred => libc::EIO,
        Fault::NoSpace => libc::ENOSPC,
        Fault::NoFiles => libc::EMFILE,
        Fault::Interrupted => libc::EINTR,
    }
}

/// The file that a call is about, read from the stopped thread.
fn target(thread: i32, entry: &Entry) -> Option<PathBuf> {
    let Some(argument) = entry.path_argument() else {
        return fs::read_link(format!("/proc/{thread}/fd/{}", entry.arguments[0])).ok();
    };
    let mut bytes = [0; 512];
    let length = File::open(format!("/proc/{thread}/mem")).ok()?.read_at(&mut bytes, entry.arguments[argument]).ok()?;
    let path = bytes[..length].split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
}
