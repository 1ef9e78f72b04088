//! The raw limit of a disk: a log without an engine, over a preallocated file.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the bytes go: a file, or in a test something that watches.
pub(crate) trait Medium {
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<()>;

    /// Returns when everything written before the call is durable.
    fn sync(&self) -> Result<()>;
}

impl Medium for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> Result<()> {
        self.sync_data()
    }
}

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
pub(crate) struct Ring<M = File> {
    medium: M,
    bytes: u64,
    at: AtomicU64,
}

impl Ring {
    pub(crate) fn create(path: &Path, bytes: u64) -> Result<Self> {
        Ok(Ring::over(filled(path, bytes)?, bytes))
    }
}

impl<M: Medium> Ring<M> {
    pub(crate) fn over(medium: M, bytes: u64) -> Self {
        Ring { medium, bytes, at: AtomicU64::new(0) }
    }

    /// One writer at a time.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        let at = match self.at.load(Ordering::Relaxed) {
            at if at + length <= self.bytes => at,
            _ => 0,
        };
        self.at.store(at + length, Ordering::Relaxed);
        self.medium.write_at(bytes, at)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.medium.sync()
    }
}
