//! A descriptor that one thread makes readable for others: an eventfd on Linux, elsewhere a pipe.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Neither end of it ever blocks, and no program that is executed inherits it (elsewhere than on Linux: unless it is executed in the moment in which
/// the pipe is made).
#[derive(Debug)]
pub(crate) struct Descriptor {
    read: OwnedFd,
    /// `None` if what is read is written to, too.
    write: Option<OwnedFd>,
}

impl Descriptor {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let read = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Descriptor { read, write: None })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        use rustix::io::{FdFlags, fcntl_setfd};
        let (read, write) = rustix::pipe::pipe()?;
        for end in [&read, &write] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        Ok(Descriptor { read, write: Some(write) })
    }

    /// Makes it readable.
    pub(crate) fn set(&self) {
        let one = 1_u64.to_ne_bytes();
        // Refused only where it is readable as it is: a counter at its end, a full pipe.
        while rustix::io::write(self.write.as_ref().unwrap_or(&self.read), &one) == Err(Errno::INTR) {}
    }

    /// It is no longer readable.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 64];
        loop {
            match rustix::io::read(&self.read, &mut bytes) {
                Err(Errno::INTR) => {}
                // Of a counter one read takes all, of a pipe what fits.
                Ok(read) if read == bytes.len() => {}
                _ => return,
            }
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
