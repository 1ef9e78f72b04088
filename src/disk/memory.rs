//! Files in memory, gone with the last clone of the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, Disk, DiskFile, DiskLock};
use crate::words::sync::Mutex;

/// A disk in memory, for programs' own tests. A sync does nothing: what is written is all there ever is. Clones are the
/// same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        MemoryDisk::default()
    }
}

impl State {
    /// Whether a file may have this name.
    fn check_name(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.dirs.contains(path) {
            Err(io::ErrorKind::IsADirectory.into())
        } else if parent.as_os_str().is_empty() || self.dirs.contains(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if path.ancestors().any(|ancestor| state.files.contains_key(ancestor)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.dirs.extend(path.ancestors().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = self.0.lock();
        if !dir.as_os_str().is_empty() && !state.dirs.contains(dir) {
            let file = state.files.contains_key(dir);
            return Err(if file { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound }.into());
        }
        let inside = state.files.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(Into::into).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        match (access, state.files.get(path)) {
            (Access::Create, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (Access::Create, None) => {
                state.check_name(path)?;
                let file = Arc::new(MemoryFile::default());
                state.files.insert(path.to_owned(), Arc::clone(&file));
                Ok(file)
            }
            (Access::Read | Access::Write, Some(file)) => Ok(Arc::<MemoryFile>::clone(file)),
            (Access::Read | Access::Write, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check_name(to)?;
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut state = self.0.lock();
        state.check_name(path)?;
        state.files.entry(path.to_owned()).or_default();
        let taken = state.locked.insert(path.to_owned());
        let lock = || MemoryLock { disk: self.clone(), path: path.to_owned() };
        Ok(taken.then(|| -> Box<dyn DiskLock> { Box::new(lock()) }))
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("files", &self.0.lock().files.len()).finish()
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.0.lock().locked.remove(&self.path);
    }
}

#[derive(Default)]
struct MemoryFile(Mutex<Vec<u8>>);

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock();
        let rest = bytes.get(position(offset)?..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let start = position(offset)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut file = self.0.lock();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().resize(position(length)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").field("bytes", &self.0.lock().len()).finish()
    }
}
