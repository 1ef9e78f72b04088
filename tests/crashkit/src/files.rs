//! Directories and files of a test.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that is removed at the end of the test.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Where the system has its temporary files; `name` is a part of its name.
    pub fn new(name: &str) -> Self {
        TempDir::inside(&std::env::temp_dir(), name)
    }

    /// In a place of the caller's choice.
    pub fn inside(parent: &Path, name: &str) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("forelog-{name}-{}-{serial}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside of it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All files below `dir` with their bytes, in order; the empty LOCK, which an open may create, excepted.
pub fn contents_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "LOCK"))
        .map(|path| (path.clone(), std::fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

/// Writes `files` into `dir`, which then holds nothing else.
pub fn restore(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).expect("a directory");
    for (path, bytes) in files {
        std::fs::write(dir.join(path.file_name().expect("a name")), bytes).expect("a file");
    }
}

/// Copies the files of one directory into a new one. A temporary file may get its name meanwhile.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        match std::fs::copy(&path, to.join(path.file_name().unwrap())) {
            Err(error) if error.kind() == ErrorKind::NotFound && path.extension().is_some_and(|end| end == "tmp") => {}
            copied => drop(copied.unwrap()),
        }
    }
}
