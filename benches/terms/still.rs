//! A disk on which the log costs nothing but the engine's own work: what goes to a segment is dropped, and a flush
//! takes as long as it is told to.

use std::ffi::OsStr;
use std::io::Result;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use forelog::unstable::disk::{
    Access, Dir, Disk, DiskFile, DiskLock, FileStatus, Layer, Layered, LockMode, MemoryDisk,
};

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Still(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// What is no segment is kept.
    rest: MemoryDisk,
    flush_nanos: AtomicU64,
    held: Mutex<bool>,
    let_go: Condvar,
    /// How long the engine took to fill the last segment that was prepared, and how many bytes that were.
    filled: Mutex<Option<(Duration, u64)>>,
}

impl Still {
    /// What a flush of a segment takes from now on: the processor is busy meanwhile, as with a device that is polled.
    pub(crate) fn set_flush(&self, nanos: u64) {
        self.0.flush_nanos.store(nanos, Ordering::Relaxed);
    }

    /// Keeps flushes from returning, or lets them go.
    pub(crate) fn hold(&self, held: bool) {
        *self.0.held.lock().expect("no panic") = held;
        self.0.let_go.notify_all();
    }

    /// Nanoseconds that a byte of the last segment took to fill.
    pub(crate) fn fill_per_byte(&self) -> Option<f64> {
        let filled = *self.0.filled.lock().expect("no panic");
        filled.map(|(time, bytes)| time.as_nanos() as f64 / bytes as f64)
    }
}

impl Disk for Still {
    fn open_dir(&self, path: &Path) -> Result<Arc<dyn Dir>> {
        Ok(Arc::new(Layered::new(self.0.rest.open_dir(path)?, self.clone())))
    }
}

impl Layer for Still {
    fn file(&self, name: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if !name.to_string_lossy().contains(".log") {
            return file;
        }
        let (begun, bytes) = (Instant::now(), AtomicU64::new(0));
        Arc::new(Segment { disk: self.clone(), file, begun, bytes, prepared: AtomicBool::new(false) })
    }
}

/// A segment: takes everything and keeps nothing. It is only ever read by an open, which does not come.
#[derive(Debug)]
struct Segment {
    disk: Still,
    file: Arc<dyn DiskFile>,
    begun: Instant,
    bytes: AtomicU64,
    /// It is filled, so that a flush is a commit's.
    prepared: AtomicBool,
}

impl DiskFile for Segment {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn status(&self) -> Result<FileStatus> {
        self.file.status()
    }

    fn lock(&self, mode: LockMode) -> Result<Option<Box<dyn DiskLock>>> {
        self.file.lock(mode)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], _: u64) -> Result<usize> {
        if !self.prepared.load(Ordering::Relaxed) {
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> Result<()> {
        if !self.prepared.load(Ordering::Relaxed) {
            return Ok(());
        }
        let state = &*self.disk.0;
        let nanos = state.flush_nanos.load(Ordering::Relaxed);
        if nanos > 0 {
            let end = Instant::now() + Duration::from_nanos(nanos);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        let mut held = state.held.lock().expect("no panic");
        while *held {
            held = state.let_go.wait(held).expect("no panic");
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        let filled = (self.begun.elapsed(), self.bytes.load(Ordering::Relaxed));
        *self.disk.0.filled.lock().expect("no panic") = Some(filled);
        self.prepared.store(true, Ordering::Relaxed);
        Ok(())
    }
}
