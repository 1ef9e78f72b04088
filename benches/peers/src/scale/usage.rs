//! What the kernel tells of a process and of a directory.

use std::fs::{File, read_dir, read_to_string};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that a process has made the device read and write.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Io {
    pub read: u64,
    pub written: u64,
}

impl Io {
    /// Of the process with this number, or `self`. Nothing where it may not be asked.
    pub fn of(process: &str) -> Io {
        let text = read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
        let bytes = |name| value(&text, name).unwrap_or(0);
        Io {
            read: bytes("read_bytes:"),
            written: bytes("write_bytes:").saturating_sub(bytes("cancelled_write_bytes:")),
        }
    }

    pub fn since(self, earlier: Io) -> Io {
        Io { read: self.read.saturating_sub(earlier.read), written: self.written.saturating_sub(earlier.written) }
    }
}

/// Bytes of a process that are in memory: all, and those that no file backs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Resident {
    pub all: u64,
    pub anonymous: u64,
}

impl Resident {
    pub fn of(process: &str) -> Resident {
        let text = read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let bytes = |name| value(&text, name).unwrap_or(0) << 10;
        Resident { all: bytes("VmRSS:"), anonymous: bytes("RssAnon:") }
    }
}

/// The number behind a name at the begin of a line.
pub fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes of the device that the files below a directory take. A file that is removed meanwhile counts nothing.
pub fn disk_bytes(dir: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let entries = read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * BLOCK,
        Err(_) => 0,
    });
    bytes.sum()
}

/// Takes the files below a directory out of the page cache, once they are on the device.
pub fn evict(dir: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for entry in read_dir(dir).map_err(|error| failed(dir, error))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            evict(&path)?;
        } else if path.is_file() {
            let file = File::open(&path).map_err(|error| failed(&path, error))?;
            file.sync_all().map_err(|error| failed(&path, error))?;
            drop_pages(&file);
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "a system call without a wrapper")]
fn drop_pages(file: &File) {
    // SAFETY: the file is open; the advice changes no content.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
