//! What keeps records from being retired: pins, the lowest of which no retirement passes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::log_dir::LogDir;
use super::retained::Retained;
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::rt::process;
use crate::rt::sync::{Guard, Mutex};

/// Which records must stay, and the right to retire others.
#[derive(Debug)]
pub(crate) struct Retention {
    pins: Mutex<Pins>,
    /// Held by a retirement to the removal of its last file. A close waits for it: nothing in the directory may change
    /// once it was given up. No commit needs it. With it comes what earlier ones could not remove.
    retiring: Mutex<Vec<PathBuf>>,
    /// Taken under the one of `pins`, if under any.
    retained: Mutex<Retained>,
    /// The process that opened the log.
    generation: u64,
}

#[derive(Debug, Default)]
struct Pins {
    /// How many pins there are at each position.
    held: BTreeMap<Lsn, usize>,
    /// Up to where records are retired, or about to be: there is no pin below.
    gone: Lsn,
}

impl Retention {
    /// Tables have the effect of the log up to `known`.
    pub(super) fn new(oldest: Lsn, known: Lsn) -> Self {
        Retention {
            pins: Mutex::new(Pins { held: BTreeMap::new(), gone: oldest }),
            retiring: Mutex::default(),
            retained: Mutex::new(Retained::new(oldest, known)),
            generation: process::generation(),
        }
    }

    /// Keeps what lies above `at`; the position up to where records are gone if that is not below.
    pub(super) fn pin(self: &Arc<Self>, at: Lsn) -> std::result::Result<Pin, Lsn> {
        let mut pins = self.pins.lock();
        if at < pins.gone {
            return Err(pins.gone);
        }
        *pins.held.entry(at).or_default() += 1;
        Ok(Pin { retention: Arc::clone(self), at })
    }

    /// Does something unless what lies above `at` is gone; up to where it is gone if so.
    pub(super) fn unless_gone(&self, at: Lsn, then: impl FnOnce()) -> std::result::Result<(), Lsn> {
        let pins = self.pins.lock();
        if at < pins.gone {
            return Err(pins.gone);
        }
        then();
        Ok(())
    }

    pub(super) fn retained(&self) -> Guard<'_, Retained> {
        self.retained.lock()
    }

    /// Whether it is not a copy that a fork has made.
    pub(super) fn is_of_this_process(&self) -> bool {
        process::is_current(self.generation)
    }

    /// The right to retire, for one thread at a time.
    pub(super) fn retire(&self) -> Retiring<'_> {
        Retiring { retention: self, left: self.retiring.lock() }
    }
}

impl Pins {
    /// No retirement passes this.
    fn floor(&self) -> Option<Lsn> {
        self.held.first_key_value().map(|(at, _)| *at)
    }
}

/// The right to retire.
pub(super) struct Retiring<'a> {
    retention: &'a Retention,
    left: Guard<'a, Vec<PathBuf>>,
}

impl Retiring<'_> {
    /// As far as `up_to` may be retired. From here on no pin is taken below: a retirement that has looked at the pins, and
    /// not replaced HISTORY yet, must not take from under a new one.
    pub(super) fn announce(&self, up_to: Lsn) -> Lsn {
        let mut pins = self.retention.pins.lock();
        let lowest = [pins.floor(), self.retention.retained().lowest_pin()];
        let up_to = lowest.into_iter().flatten().fold(up_to, Lsn::min);
        pins.gone = pins.gone.max(up_to);
        up_to
    }

    /// Removes these files, which are retired, and those that could not be removed before. Returns the first error; what is
    /// left is tried again.
    pub(super) fn remove(&mut self, files: impl IntoIterator<Item = PathBuf>, place: &LogDir) -> Result<()> {
        let mut removed = Ok(());
        let all: Vec<_> = self.left.drain(..).chain(files).collect();
        for path in all {
            match place.try_remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    removed = removed.and(Err(Error::io("remove", &path, error)));
                    self.left.push(path);
                }
                _ => {}
            }
        }
        removed
    }

    /// The retirement failed: records up to `oldest` are gone, and no more.
    pub(super) fn withdraw(&self, oldest: Lsn) {
        self.retention.pins.lock().gone = oldest;
    }
}

/// Keeps all records after a position from being retired, until it is dropped. It keeps neither the log open nor its files
/// after that is closed.
///
/// A retirement goes as far as the lowest pin and no further; it is not made up for when the pin is dropped.
#[must_use = "dropped at once it keeps nothing"]
pub struct Pin {
    retention: Arc<Retention>,
    at: Lsn,
}

impl Pin {
    /// Records after this stay.
    pub fn lsn(&self) -> Lsn {
        self.at
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("lsn", &self.at).finish()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // In a forked child another thread may hold the lock for ever; the pin is its parent's.
        if !self.retention.is_of_this_process() {
            return;
        }
        let mut pins = self.retention.pins.lock();
        if let Some(count) = pins.held.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                pins.held.remove(&self.at);
            }
        }
    }
}
