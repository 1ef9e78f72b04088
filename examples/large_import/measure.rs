//! What a run is measured by: its memory, the room on the disk, the size of a directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::Result;

/// Looks at the memory of a process until it is asked.
#[derive(Debug)]
pub(crate) struct Peak {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Peak {
    /// Between two looks. What a process takes in its last moments may be missed.
    const LOOK: Duration = Duration::from_millis(10);

    pub(crate) fn of(process: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !ends.load(Ordering::Relaxed) {
                // It is gone for a moment before its end.
                peak = peak_now(process).unwrap_or(0).max(peak);
                std::thread::sleep(Self::LOOK);
            }
            peak
        });
        Peak { is_over, thread }
    }

    /// The most that was resident at a time, in bytes: `VmHWM`.
    pub(crate) fn bytes(self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the thread that looks at the memory panicked".into())
    }
}

fn peak_now(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The bytes that a user may still write to the file system of a directory.
pub(crate) fn free_disk(dir: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The bytes of the files in a directory and below it.
pub(crate) fn size_of(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
