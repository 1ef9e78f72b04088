//! A layer in front of a directory: it sees each call before and after it, and may wrap each file.

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Access, Dir, Disk, DiskFile, DiskLock, FileId, FileStatus, IoBackend, LockMode};

/// A call to a [`Disk`] or a [`Dir`], as a [`Layer`] sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DirCall<'a> {
    /// [`Disk::open_dir`].
    OpenDir(&'a Path),
    /// [`Dir::open`].
    Open(&'a OsStr, Access),
    /// [`Dir::rename`] and [`Dir::rename_new`].
    Rename(&'a OsStr, &'a OsStr),
    /// [`Dir::remove`].
    Remove(&'a OsStr),
    /// [`Dir::list`].
    List,
    /// [`Dir::sync`].
    Sync,
    /// [`Dir::sync_name`].
    SyncName,
    /// [`Dir::child`].
    Child(&'a OsStr, Access),
    /// [`Dir::rename_child`].
    RenameChild(&'a OsStr, &'a OsStr),
    /// [`Dir::remove_child`].
    RemoveChild(&'a OsStr),
    /// [`Dir::lock`].
    Lock(LockMode),
    /// [`Dir::id_of`].
    IdOf(&'a OsStr),
}

/// The observer in front of a directory.
pub trait Layer: Clone + Send + Sync + Debug + 'static {
    /// Called before each call. An error becomes the result, and the call is not made.
    ///
    /// # Errors
    /// The error with which the call should fail.
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        let _ = call;
        Ok(())
    }
    /// Called after each call that was made, with whether it succeeded.
    fn after(&self, call: DirCall<'_>, succeeded: bool) {
        let _ = (call, succeeded);
    }
    /// Wraps a file that was opened, or returns it as it is.
    fn file(&self, name: &OsStr, access: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let _ = (name, access);
        file
    }
}

/// A disk or a directory behind a [`Layer`], with all directories that are opened through it.
#[derive(Clone, Debug)]
pub struct Layered<T: ?Sized, L> {
    inner: Arc<T>,
    layer: L,
}

impl<T: ?Sized, L: Layer> Layered<T, L> {
    /// Puts `layer` in front of `inner`.
    pub fn new(inner: Arc<T>, layer: L) -> Self {
        Layered { inner, layer }
    }

    fn call<R>(&self, call: DirCall<'_>, make: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        self.layer.before(call)?;
        let result = make(&self.inner);
        self.layer.after(call, result.is_ok());
        result
    }

    fn above(&self, dir: Arc<dyn Dir>) -> Arc<dyn Dir> {
        Arc::new(Layered { inner: dir, layer: self.layer.clone() })
    }
}

impl<L: Layer> Disk for Layered<dyn Disk, L> {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        self.call(DirCall::OpenDir(path), |disk| disk.open_dir(path)).map(|dir| self.above(dir))
    }

    fn above(&self, path: &Path) -> io::Result<Vec<FileId>> {
        self.inner.above(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }
}

impl<L: Layer> Dir for Layered<dyn Dir, L> {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.call(DirCall::Open(name, access), |dir| dir.open(name, access))?;
        Ok(self.layer.file(name, access, file))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.call(DirCall::Rename(from, to), |dir| dir.rename(from, to))
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.call(DirCall::Rename(from, to), |dir| dir.rename_new(from, to))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.call(DirCall::Remove(name), |dir| dir.remove(name))
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.call(DirCall::List, |dir| dir.list())
    }

    fn sync(&self) -> io::Result<()> {
        self.call(DirCall::Sync, |dir| dir.sync())
    }

    fn sync_name(&self) -> io::Result<()> {
        self.call(DirCall::SyncName, |dir| dir.sync_name())
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        self.call(DirCall::Child(name, access), |dir| dir.child(name, access)).map(|dir| self.above(dir))
    }

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.call(DirCall::RenameChild(from, to), |dir| dir.rename_child(from, to))
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        self.call(DirCall::RemoveChild(name), |dir| dir.remove_child(name))
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.call(DirCall::Lock(mode), |dir| dir.lock(mode))
    }

    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        self.call(DirCall::IdOf(name), |dir| dir.id_of(name))
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        self.inner.may_replace(name)
    }

    fn room(&self) -> io::Result<Option<u64>> {
        self.inner.room()
    }

    fn io(&self) -> IoBackend {
        self.inner.io()
    }
}

/// The observer in front of a file. What it does not change goes on to the file.
#[allow(missing_docs, reason = "each is the call of that name to the file")]
pub trait FileLayer: Send + Sync + Debug + 'static {
    fn status(&self, file: &dyn DiskFile) -> io::Result<FileStatus> {
        file.status()
    }
    fn lock(&self, file: &dyn DiskFile, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        file.lock(mode)
    }
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }
    fn write_at(&self, file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }
    fn set_len(&self, file: &dyn DiskFile, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
    fn sync_data(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.sync_data()
    }
    fn sync_all(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.sync_all()
    }
}

/// A file behind a [`FileLayer`]. It offers neither a mapping nor a submission of its own, which the layer would not see.
#[derive(Debug)]
pub struct LayeredFile<L> {
    inner: Arc<dyn DiskFile>,
    layer: L,
}

impl<L: FileLayer> LayeredFile<L> {
    /// Puts `layer` in front of `inner`.
    pub fn new(inner: Arc<dyn DiskFile>, layer: L) -> Self {
        LayeredFile { inner, layer }
    }
}

impl<L: FileLayer> DiskFile for LayeredFile<L> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn age(&self) -> io::Result<Option<Duration>> {
        self.inner.age()
    }

    fn status(&self) -> io::Result<FileStatus> {
        self.layer.status(&*self.inner)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.layer.lock(&*self.inner, mode)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.layer.read_at(&*self.inner, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.layer.write_at(&*self.inner, bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.layer.set_len(&*self.inner, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.layer.sync_data(&*self.inner)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.layer.sync_all(&*self.inner)
    }
}
