//! The raw limit of a disk: a log without an engine.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// A file filled with zeros. In pieces of 64 KiB: after larger ones some kernels cache the file in large units, and
/// each small write and fsync costs more.
fn filled(path: &Path, bytes: u64) -> Result<File> {
    const PIECE: usize = 64 << 10;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    for at in (0..bytes).step_by(PIECE) {
        file.write_all_at(&[0; PIECE], at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Bytes one behind the other in a preallocated file, from the front again at its end.
pub(crate) struct Ring {
    file: File,
    bytes: u64,
    at: AtomicU64,
}

impl Ring {
    pub(crate) fn create(path: &Path, bytes: u64) -> Result<Self> {
        Ok(Ring { file: filled(path, bytes)?, bytes, at: AtomicU64::new(0) })
    }

    /// One writer at a time.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        let at = match self.at.load(Ordering::Relaxed) {
            at if at + length <= self.bytes => at,
            _ => 0,
        };
        self.at.store(at + length, Ordering::Relaxed);
        self.file.write_all_at(bytes, at)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data()
    }
}

/// The simplest group commit that gathers: whoever finds nobody flushing writes and syncs for all.
pub(crate) struct Group {
    ring: Ring,
    state: Mutex<State>,
    done: Condvar,
    /// Threads that wait, for the leader to gather.
    waiting: AtomicU64,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// The last group's bytes, to be filled again.
    spare: Vec<u8>,
    appended: u64,
    durable: u64,
    flushing: bool,
    last_group: u64,
}

impl Group {
    pub(crate) fn new(ring: Ring) -> Self {
        Group { ring, state: Mutex::default(), done: Condvar::new(), waiting: AtomicU64::new(0) }
    }

    /// Adds a record. Returns where it ends, and the bytes that are not durable.
    pub(crate) fn append(&self, record: &[u8]) -> (u64, u64) {
        let mut state = self.state.lock().expect("no panic");
        state.buffer.extend_from_slice(record);
        state.appended += record.len() as u64;
        (state.appended, state.appended - state.durable)
    }

    /// Returns when everything before `end` is durable.
    pub(crate) fn sync(&self, end: u64) -> Result<()> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let result = self.lead_or_follow(end);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn lead_or_follow(&self, end: u64) -> Result<()> {
        let mut state = self.state.lock().expect("no panic");
        while state.durable < end {
            if state.flushing {
                state = self.done.wait(state).expect("no panic");
                continue;
            }
            state.flushing = true;
            let group = state.last_group;
            drop(state);
            self.gather(group);
            state = self.state.lock().expect("no panic");
            let spare = std::mem::take(&mut state.spare);
            let mut bytes = std::mem::replace(&mut state.buffer, spare);
            let to = state.appended;
            state.last_group = self.waiting.load(Ordering::Relaxed);
            drop(state);
            let flushed = self.ring.write(&bytes).and_then(|()| self.ring.sync());
            bytes.clear();
            state = self.state.lock().expect("no panic");
            state.spare = bytes;
            state.flushing = false;
            if flushed.is_ok() {
                state.durable = to;
            }
            self.done.notify_all();
            flushed?;
        }
        Ok(())
    }

    /// Lets the threads that the last flush released come back.
    fn gather(&self, group: u64) {
        let deadline = Instant::now() + Duration::from_micros(50);
        while self.waiting.load(Ordering::Relaxed) < group && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}
