//! The directory that is measured in: whether it can be, on what it lies, and the flushes of its device.

use std::ffi::CString;
use std::fs::{File, metadata, read_to_string, remove_file};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::common::mount::Mount;

/// Where the directory lies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// As the kernel names it.
    pub file_system: String,
    pub device: String,
    /// No power loss would be survived, so no `Sync` figure means anything.
    pub memory: bool,
}

impl Place {
    /// Looks at a directory that needs so many bytes of room. The error says what to do.
    pub fn of(dir: &Path, room: u64) -> Result<Place, String> {
        let told = |error: &Error| format!("{}: {error}", dir.display());
        let found = metadata(dir).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("{}; make it, or name another with --dir", told(&error)),
            _ => told(&error),
        })?;
        if !found.is_dir() {
            return Err(format!("{} is no directory; name one with --dir", dir.display()));
        }
        try_write(dir)?;
        let free = free_bytes(dir).map_err(|error| told(&error))?;
        if free < room {
            return Err(format!(
                "{} has {} MiB free and the measurements need {} MiB; make room, or name another directory with --dir",
                dir.display(),
                free >> 20,
                room >> 20
            ));
        }
        let unknown = || Mount { file_system: "unknown".to_owned(), device: "unknown".to_owned(), is_memory: false };
        let Mount { file_system, device, is_memory } = Mount::of(dir).unwrap_or_else(unknown);
        Ok(Place { file_system, device, memory: is_memory })
    }
}

fn try_write(dir: &Path) -> Result<(), String> {
    let path = dir.join(format!("forelog-peers-{}", std::process::id()));
    let written = File::create(&path).and_then(|mut file| file.write_all(&[7; 4096]).and_then(|()| file.sync_all()));
    let _ = remove_file(&path);
    written.map_err(|error| {
        let what = match error.kind() {
            ErrorKind::StorageFull => "the disk is full: make room",
            ErrorKind::ReadOnlyFilesystem => "the file system is read-only: mount it writable",
            ErrorKind::PermissionDenied => "it may not be written: change its owner or mode",
            _ => "it cannot be written",
        };
        format!("{}: {what}, or name another directory with --dir ({error})", dir.display())
    })
}

#[expect(unsafe_code, reason = "the standard library does not tell the free space")]
pub fn free_bytes(dir: &Path) -> Result<u64, Error> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a valid `statvfs`: it holds integers alone.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated, and `found` is written to during the call alone.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(found.f_bavail * found.f_frsize)
}

/// The flush counter of the device under a directory. Others who flush the same device are counted, too.
pub struct Flushes(String);

impl Flushes {
    pub fn of(dir: &Path) -> Option<Flushes> {
        let device = metadata(dir).ok()?.dev();
        let flushes = Flushes(format!("{} {}", libc::major(device), libc::minor(device)));
        flushes.count().map(|_| flushes)
    }

    pub fn count(&self) -> Option<u64> {
        const FLUSHES: usize = 18;
        read_to_string("/proc/diskstats").ok()?.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = format!("{} {}", fields.first()?, fields.get(1)?);
            if number == self.0 { fields.get(FLUSHES)?.parse().ok() } else { None }
        })
    }
}
