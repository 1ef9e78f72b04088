//! A file that has no name, and so is gone when the process ends, however it ends: for what comes through a pipe, and for
//! what the check of the keys does not keep in memory.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::output::next_step;

/// Makes one in `$TMPDIR`, or else in `/tmp`.
pub(super) fn create() -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let name = format!("forelog-import-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            // Left by a process of the same number that was killed between the two calls.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Says what cannot be kept in one, and what to do.
pub(super) fn cannot_keep(what: impl fmt::Display, error: &io::Error) -> String {
    let dir = std::env::temp_dir();
    let next = next_step(error).unwrap_or("Set TMPDIR to a directory with room for it");
    format!("cannot keep in {} {what}: {error}. {next}", dir.display())
}
