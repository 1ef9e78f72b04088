//! Reading no faster than asked for: the pace of a scrub, and a disk that keeps it, for `verify`.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::disk::{Access, DiskFile, FileLayer, Layer, LayeredFile};
use crate::rt::clock::{self, Moment};
use crate::rt::sync::{Condvar, Mutex};

/// How fast a log is read through, by a scrub or a `verify` that must leave the disk to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ScrubOptions {
    /// How many bytes of log and tables are read in a second, on average; up to 1 MiB at once. Default 16 MiB.
    pub bytes_per_second: u64,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        ScrubOptions { bytes_per_second: 16 << 20 }
    }
}

impl ScrubOptions {
    /// Sets the rate.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = bytes;
        self
    }
}

/// How long to wait for what was read.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    owed: Duration,
}

impl Pace {
    /// Refuses a rate at which nothing would ever end.
    pub(super) fn new(options: ScrubOptions) -> Result<Self> {
        match options.bytes_per_second {
            0 => Err(Error::invalid_input("reading 0 bytes a second never ends: choose at least 1")),
            bytes_per_second => Ok(Pace { bytes_per_second, owed: Duration::ZERO }),
        }
    }

    /// Counts what was read; until when to wait for it, if that is worth a wait.
    pub(super) fn read(&mut self, bytes: u64) -> Option<Moment> {
        /// Shorter waits are put together.
        const SHORTEST: Duration = Duration::from_millis(10);
        self.owed = self.owed.saturating_add(clock::time_for(bytes, self.bytes_per_second));
        (self.owed >= SHORTEST).then(|| clock::now().after(std::mem::take(&mut self.owed)))
    }
}

/// Has the files of a disk read, all together, no faster than the rate.
#[derive(Clone, Debug)]
pub(crate) struct Paced(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    pace: Mutex<Pace>,
    /// Nobody notifies it: it is there to wait by.
    time: Condvar,
}

impl Gate {
    fn pass(&self, bytes: usize) {
        let mut pace = self.pace.lock();
        let Some(until) = pace.read(bytes as u64) else { return };
        while clock::now() < until {
            self.time.wait_until(&mut pace, Some(until));
        }
    }
}

impl Paced {
    pub(crate) fn new(options: ScrubOptions) -> Result<Self> {
        let pace = Mutex::new(Pace::new(options)?);
        Ok(Paced(Arc::new(Gate { pace, time: Condvar::new() })))
    }
}

impl Layer for Paced {
    fn file(&self, _: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        // It offers no mapping, whose reads nobody could hold up.
        Arc::new(LayeredFile::new(file, self.clone()))
    }
}

impl FileLayer for Paced {
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = file.read_at(buffer, offset)?;
        self.0.pass(read);
        Ok(read)
    }
}
