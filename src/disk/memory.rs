//! Files in memory, dropped with the last clone of the disk.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Weak};

use super::{Access, Dir, Disk, DiskFile, DiskLock, FileId, FileStatus, LockMode, check_name};
use crate::rt::sync::Mutex;

/// A disk in memory, for programs' own tests. Nothing on it survives the process, so a sync does nothing. Clones are
/// the same disk. It begins as an empty root directory, and all paths are relative to it; [`Dir::child`] makes a
/// directory.
#[derive(Clone)]
pub struct MemoryDisk {
    root: Arc<MemoryDir>,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        MemoryDisk::new()
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        MemoryDisk { root: MemoryDir::new() }
    }

    fn walk(&self, path: &Path) -> io::Result<Arc<MemoryDir>> {
        let mut dir = Arc::clone(&self.root);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            dir = dir.dir_in(name)?;
        }
        Ok(dir)
    }
}

/// Changes to directories while other handles have them open.
#[cfg(feature = "unstable")]
impl MemoryDisk {
    /// Renames a directory, even if it is open.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::AlreadyExists`].
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (self.locate(from.as_ref())?, self.locate(to.as_ref())?);
        if to.0.entries.lock().contains_key(&to.1) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let moved = from.0.take(&from.1, |entry| matches!(entry, Entry::Dir(_)))?;
        to.0.entries.lock().insert(to.1, moved);
        Ok(())
    }

    /// Removes a directory with all its contents, even if it is open.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (above, name) = self.locate(path.as_ref())?;
        match above.take(&name, |entry| matches!(entry, Entry::Dir(_)))? {
            Entry::Dir(dir) => dir.die(),
            Entry::File(_) => {}
        }
        Ok(())
    }

    /// The directory that `path` is in, and its last component.
    fn locate(&self, path: &Path) -> io::Result<(Arc<MemoryDir>, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.walk(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }
}

impl Disk for MemoryDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        Ok(self.walk(path)?)
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("entries", &self.root.entries.lock().len()).finish()
    }
}

enum Entry {
    File(Arc<MemoryFile>),
    Dir(Arc<MemoryDir>),
}

struct MemoryDir {
    entries: Mutex<BTreeMap<OsString, Entry>>,
    /// Whether the directory was removed: then nothing can be created in it.
    dead: Mutex<bool>,
    holders: Arc<Mutex<Holders>>,
    me: Weak<MemoryDir>,
}

impl MemoryDir {
    fn new() -> Arc<Self> {
        let (entries, dead, holders) = Default::default();
        Arc::new_cyclic(|me| MemoryDir { entries, dead, holders, me: me.clone() })
    }

    fn dir_in(&self, name: &OsStr) -> io::Result<Arc<MemoryDir>> {
        match self.entries.lock().get(name) {
            Some(Entry::Dir(dir)) => Ok(Arc::clone(dir)),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn take(&self, name: &OsStr, fits: impl Fn(&Entry) -> bool) -> io::Result<Entry> {
        let mut entries = self.entries.lock();
        match entries.get(name) {
            Some(entry) if fits(entry) => Ok(entries.remove(name).expect("it was there")),
            Some(Entry::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn add(&self, name: &OsStr, entry: Entry) -> io::Result<()> {
        let dead = self.dead.lock();
        let mut entries = self.entries.lock();
        if *dead {
            return Err(io::ErrorKind::NotFound.into());
        }
        if entries.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        entries.insert(name.to_owned(), entry);
        Ok(())
    }

    fn die(&self) {
        let mut dead = self.dead.lock();
        *dead = true;
        let entries = std::mem::take(&mut *self.entries.lock());
        drop(dead);
        for entry in entries.into_values() {
            match entry {
                Entry::Dir(dir) => dir.die(),
                Entry::File(file) => *file.links.lock() = 0,
            }
        }
    }
}

impl Dir for MemoryDir {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        if access == Access::Create {
            let file = Arc::new(MemoryFile::default());
            self.add(name, Entry::File(Arc::clone(&file)))?;
            return Ok(file);
        }
        match self.entries.lock().get(name) {
            Some(Entry::File(file)) => Ok(Arc::<MemoryFile>::clone(file)),
            Some(Entry::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut entries = self.entries.lock();
        match (entries.get(from), entries.get(to)) {
            (_, Some(Entry::Dir(_))) | (Some(Entry::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            _ if from == to => return Ok(()),
            _ => {}
        }
        let moved = entries.remove(from).expect("it was there");
        if let Some(Entry::File(replaced)) = entries.insert(to.to_owned(), moved) {
            *replaced.links.lock() = 0;
        }
        Ok(())
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut entries = self.entries.lock();
        match (entries.get(from), entries.get(to)) {
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Entry::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (_, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        let moved = entries.remove(from).expect("it was there");
        entries.insert(to.to_owned(), moved);
        Ok(())
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        if let Entry::File(file) = self.take(name, |entry| matches!(entry, Entry::File(_)))? {
            *file.links.lock() = 0;
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        Ok(self.entries.lock().keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_name(&self) -> io::Result<()> {
        Ok(())
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        check_name(name)?;
        if access == Access::Create {
            let dir = MemoryDir::new();
            self.add(name, Entry::Dir(Arc::clone(&dir)))?;
            return Ok(dir);
        }
        Ok(self.dir_in(name)?)
    }

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut entries = self.entries.lock();
        match (entries.get(from), entries.get(to)) {
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Entry::File(_)), _) => return Err(io::ErrorKind::NotADirectory.into()),
            (_, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        let moved = entries.remove(from).expect("it was there");
        entries.insert(to.to_owned(), moved);
        Ok(())
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        let dir = self.dir_in(name)?;
        if !dir.entries.lock().is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.take(name, |entry| matches!(entry, Entry::Dir(found) if Arc::ptr_eq(found, &dir)))?;
        dir.die();
        Ok(())
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        // The lock keeps the directory alive, as an open file does.
        let kept: Option<Arc<dyn Dir>> = self.me.upgrade().map(|me| me as Arc<dyn Dir>);
        Ok(hold(&self.holders, mode).map(|held| -> Box<dyn DiskLock> { Box::new(MemoryLock { held, _kept: kept }) }))
    }

    fn id(&self) -> io::Result<FileId> {
        // On no device of the operating system.
        Ok(FileId { device: u64::MAX, inode: std::ptr::from_ref(self).addr() as u64 })
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        match self.entries.lock().get(name) {
            Some(Entry::File(file)) => Ok(file.id()),
            Some(Entry::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl fmt::Debug for MemoryDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDir").field("entries", &self.entries.lock().len()).finish()
    }
}

/// How many locks are held: -1 is one exclusive lock.
type Holders = i64;

fn hold(holders: &Arc<Mutex<Holders>>, mode: LockMode) -> Option<Held> {
    let mut count = holders.lock();
    *count = match (mode, *count) {
        (LockMode::Exclusive, 0) => -1,
        (LockMode::Shared, count) if count >= 0 => count + 1,
        _ => return None,
    };
    Some(Held { holders: Arc::clone(holders), mode })
}

#[derive(Debug)]
struct Held {
    holders: Arc<Mutex<Holders>>,
    mode: LockMode,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.holders.lock() -= if self.mode == LockMode::Shared { 1 } else { -1 };
    }
}

#[derive(Debug)]
struct MemoryLock {
    #[expect(dead_code, reason = "held until it is dropped")]
    held: Held,
    _kept: Option<Arc<dyn Dir>>,
}

impl DiskLock for MemoryLock {}

struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    links: Mutex<u64>,
    holders: Arc<Mutex<Holders>>,
}

impl Default for MemoryFile {
    fn default() -> Self {
        MemoryFile { bytes: Mutex::default(), links: Mutex::new(1), holders: Arc::default() }
    }
}

impl MemoryFile {
    /// The address of the file, which stays the same while a handle exists.
    fn id(&self) -> FileId {
        FileId { device: 0, inode: std::ptr::from_ref(self) as usize as u64 }
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn status(&self) -> io::Result<FileStatus> {
        Ok(FileStatus { id: self.id(), links: *self.links.lock() })
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        Ok(hold(&self.holders, mode).map(|held| -> Box<dyn DiskLock> { Box::new(MemoryLock { held, _kept: None }) }))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let rest = bytes.get(position(offset)?..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let start = position(offset)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut file = self.bytes.lock();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.bytes.lock().resize(position(length)?, 0);
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
        f.debug_struct("MemoryFile").field("bytes", &self.bytes.lock().len()).finish()
    }
}
