//! A directory of our own on the disk that is tried, and what that disk is.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::output::Failure;

/// A fresh directory, removed with all that is in it when it is dropped.
pub(crate) struct Workspace {
    root: PathBuf,
    /// As the system calls it, where that can be learned: `ext4`, `tmpfs`.
    pub(crate) file_system: Option<String>,
}

impl Workspace {
    /// Makes a directory in `parent` that was not there before.
    pub(crate) fn create(parent: &Path, command: &str) -> Result<Self, Failure> {
        let unusable = |error: &io::Error| Failure::io(format_args!("use the directory {}", parent.display()), error);
        let parent = fs::canonicalize(parent).map_err(|error| unusable(&error))?;
        for attempt in 0..1_000 {
            let root = parent.join(format!("forelog-{command}-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&root) {
                Ok(()) => {
                    let file_system =
                        fs::read("/proc/self/mounts").ok().and_then(|mounts| file_system_of(&mounts, &root));
                    return Ok(Workspace { root, file_system });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&error)),
            }
        }
        Err(Failure::told(format!("{} is full of old forelog-{command} directories: remove them", parent.display())))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether nothing here outlives the machine's memory, fsync or not.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.file_system.as_deref(), Some("tmpfs" | "ramfs" | "devtmpfs"))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            // Not worth a failure: what was measured stands.
            let _ = writeln!(io::stderr(), "forelog: cannot remove {}: {error}", self.root.display());
        }
    }
}

/// The type of the file system that `path` is on: that of the last of the longest mount points above it.
fn file_system_of(mounts: &[u8], path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b' ');
        let (Some(mount), Some(kind)) = (fields.nth(1), fields.next()) else { continue };
        let mount = PathBuf::from(std::ffi::OsString::from_vec(unescaped(mount)));
        let depth = mount.components().count();
        if path.starts_with(&mount) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, String::from_utf8_lossy(kind).into_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// `/proc/mounts` writes blanks and backslashes in names as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_decides() {
        let mounts = b"/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n/dev/b /a\\040b xfs rw 0 0\n/dev/c /a\\040b btrfs rw 0 0\n";
        let kind = |path: &str| file_system_of(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/home/x"), "ext4");
        assert_eq!(kind("/dev/shm/x"), "tmpfs");
        assert_eq!(kind("/dev/shmoo"), "ext4");
        assert_eq!(kind("/a b/c"), "btrfs");
    }
}
