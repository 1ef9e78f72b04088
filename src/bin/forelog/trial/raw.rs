//! The disk's own limit: no log on it is faster without sharing an fsync.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The bytes of one write: about the size of a small transaction in the log.
pub(super) const RECORD_BYTES: usize = 128;
const FILE_BYTES: u64 = 16 << 20;
/// The file is filled in small pieces: after writes of 1 MiB and more the kernel keeps the file in larger units of
/// cache, and every later fsync of 128 bytes takes longer (ext4, Linux 6.18: p50 22 us after pieces of 64 KiB, 36 us
/// after 2 MiB).
const FILL_BYTES: usize = 64 << 10;

/// A zero-filled file, written record after record from the front, again and again.
pub(super) struct RawFile {
    file: File,
    position: u64,
    record: [u8; RECORD_BYTES],
}

impl RawFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let zeros = vec![0; FILL_BYTES];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(RawFile { file, position: 0, record: [0x5a; RECORD_BYTES] })
    }

    /// Hands one record to the operating system.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.record[..8].copy_from_slice(&self.position.to_le_bytes());
        self.file.write_all_at(&self.record, self.position)?;
        self.position = (self.position + RECORD_BYTES as u64) % FILE_BYTES;
        Ok(())
    }

    /// Waits until all of the file is on the medium.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
