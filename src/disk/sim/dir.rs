//! Open directories: each has a number, which stays the same when its name changes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::{Access, Dir, DiskFile, DiskLock, FileId, LockMode, check_name};
use super::faults::OpKind;
use super::paths::moved;
use super::state::{Ino, Name, tidy};
use super::{SimDisk, SimFile, SimState, op};

/// Names an open directory.
type DirId = u64;

/// The present paths of all directories that were ever opened, and the links to directories.
#[derive(Default)]
pub(super) struct Names {
    open: BTreeMap<Name, DirId>,
    links: BTreeMap<Name, Name>,
    next: DirId,
}

impl Names {
    /// Where a path leads. A link is followed once, because no link leads to another one.
    pub(super) fn resolve(&self, path: &Name) -> Name {
        let leads = |(link, target): (&Name, &Name)| {
            let rest = Path::new(path).strip_prefix(Path::new(link)).ok()?;
            Some(tidy(&Path::new(target).join(rest)))
        };
        self.links.iter().find_map(leads).unwrap_or_else(|| Arc::clone(path))
    }

    fn id(&mut self, path: &Name) -> DirId {
        *self.open.entry(Arc::clone(path)).or_insert_with(|| {
            self.next += 1;
            self.next
        })
    }

    fn forget(&mut self, path: &OsStr) {
        self.open.retain(|name, _| !Path::new(name).starts_with(path));
    }

    fn rename(&mut self, from: &OsStr, to: &OsStr) {
        let open = std::mem::take(&mut self.open);
        self.open = open.into_iter().map(|(name, id)| (moved(&name, from, to), id)).collect();
    }
}

/// Changes that tests make to directories while an engine has them open. None is an operation; all are durable at once.
impl SimDisk {
    /// Makes a directory and the missing ones above it.
    pub fn make_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.with_image(|image| image.make_dir(&tidy(path.as_ref())))
    }

    /// Renames a directory with all its contents, even if it is open.
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (tidy(from.as_ref()), tidy(to.as_ref()));
        let mut state = self.0.lock();
        state.image_mut().rename_dir(&from, &to)?;
        state.dirs.rename(&from, &to);
        Ok(())
    }

    /// Removes a directory with all its contents, even if it is open.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = tidy(path.as_ref());
        let mut state = self.0.lock();
        state.image_mut().remove_tree(&path)?;
        state.dirs.forget(&path);
        state.sweep();
        Ok(())
    }

    /// Makes `link` a symbolic link to the directory `target`, or changes where it leads.
    pub fn link_dir(&self, link: impl AsRef<Path>, target: impl AsRef<Path>) {
        self.0.lock().dirs.links.insert(tidy(link.as_ref()), tidy(target.as_ref()));
    }

    fn root(&self) -> SimDir {
        let id = self.0.lock().dirs.id(&tidy(Path::new("")));
        SimDir { disk: self.clone(), id }
    }
}

#[derive(Clone, Debug)]
pub(super) struct SimDir {
    disk: SimDisk,
    id: DirId,
}

impl SimDir {
    /// Opens an existing directory.
    pub(super) fn at(disk: &SimDisk, state: &mut SimState, path: &Name) -> io::Result<SimDir> {
        if !state.image.is_dir(path) {
            let file = state.image.visible.contains_key(path);
            return Err(if file { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound }.into());
        }
        Ok(SimDir { disk: disk.clone(), id: state.dirs.id(path) })
    }

    /// Its present path.
    fn path(&self, state: &SimState) -> io::Result<Name> {
        let named = state.dirs.open.iter().find(|(_, id)| **id == self.id).map(|(name, _)| Arc::clone(name));
        named.filter(|path| state.image.is_dir(path)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The present path of a file in it.
    fn name(&self, name: &OsStr) -> io::Result<Name> {
        check_name(name)?;
        let path = self.path(&self.disk.0.lock())?;
        Ok(if path.is_empty() { Name::from(name) } else { Name::from(Path::new(&path).join(name).into_os_string()) })
    }

    /// Counts the operation on `name` and applies its faults. Then returns the path, which may have changed meanwhile.
    fn admit(&self, kind: OpKind, name: &OsStr) -> io::Result<Name> {
        let path = self.name(name)?;
        self.disk.admit(op(kind, &path))?;
        self.name(name)
    }

    fn sync_at(&self, path: &Name) -> io::Result<()> {
        let end = |image: &mut super::state::Image, moment, fate| image.end_dir_sync(path, moment, fate);
        self.disk.sync_op(op(OpKind::SyncDir, path), || (), end)?;
        self.disk.0.lock().sweep();
        Ok(())
    }
}

impl Dir for SimDir {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let create = access == Access::Create;
        let path = self.admit(if create { OpKind::Create } else { OpKind::Open }, name)?;
        let mut state = self.disk.0.lock();
        let ino = if create { state.image_mut().create(&path)? } else { state.image.find(&path)? };
        *state.open.entry(ino).or_default() += 1;
        drop(state);
        Ok(Arc::new(SimFile { disk: self.disk.clone(), path, ino, writable: access != Access::Read }))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(to)?;
        let from = self.admit(OpKind::Rename, from)?;
        let to = self.name(to)?;
        self.disk.with_image(|image| image.rename(&from, &to))
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(to)?;
        let from = self.admit(OpKind::Rename, from)?;
        let to = self.name(to)?;
        self.disk.with_image(|image| {
            image.find(&from)?;
            if image.is_taken(&to) { Err(io::ErrorKind::AlreadyExists.into()) } else { image.rename(&from, &to) }
        })
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        let path = self.admit(OpKind::Remove, name)?;
        self.disk.with_image(|image| image.remove(&path))
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        let path = self.path(&self.disk.0.lock())?;
        self.disk.admit(op(OpKind::List, &path))?;
        let state = self.disk.0.lock();
        state.image.list(&self.path(&state)?)
    }

    fn sync(&self) -> io::Result<()> {
        let path = self.path(&self.disk.0.lock());
        // In a directory that was removed there is nothing to sync, and no error.
        path.map_or(Ok(()), |path| self.sync_at(&path))
    }

    fn sync_name(&self) -> io::Result<()> {
        let path = self.path(&self.disk.0.lock())?;
        let above = Path::new(&path).parent();
        above.map_or(Ok(()), |above| self.sync_at(&tidy(above)))
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        let create = access == Access::Create;
        let path = self.admit(if create { OpKind::CreateDir } else { OpKind::OpenDir }, name)?;
        let mut state = self.disk.0.lock();
        if create {
            if state.image.is_dir(&path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.image_mut().create_dir(&path)?;
        }
        let path = state.dirs.resolve(&path);
        SimDir::at(&self.disk, &mut state, &path).map(|dir| -> Arc<dyn Dir> { Arc::new(dir) })
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        let path = self.admit(OpKind::Remove, name)?;
        let mut state = self.disk.0.lock();
        state.image_mut().remove_dir(&path)?;
        state.dirs.forget(&path);
        Ok(())
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        let path = self.path(&self.disk.0.lock()).unwrap_or_else(|_| tidy(Path::new("")));
        self.disk.admit(op(OpKind::Lock, &path))?;
        Ok(SimLock::take(&self.disk, LockKey::Dir(self.id), mode))
    }

    /// Not an operation. Permissions are faults that last.
    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        let path = self.name(name)?;
        let state = self.disk.0.lock();
        if state.image.is_dir(&path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let is_there = state.image.visible.contains_key(&path);
        let removal = is_there.then_some(OpKind::Remove);
        let mut needed = [OpKind::Create, OpKind::Rename].into_iter().chain(removal);
        needed.try_for_each(|kind| state.faults.outlook(&op(kind, &path)))
    }

    fn id(&self) -> io::Result<FileId> {
        // Files are on device 0.
        Ok(FileId { device: u64::MAX, inode: self.id })
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        let path = self.name(name)?;
        let ino = self.disk.0.lock().image.find(&path)?;
        Ok(FileId { device: 0, inode: ino })
    }
}

/// The root directory.
impl Dir for SimDisk {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.root().open(name, access)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.root().rename(from, to)
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.root().rename_new(from, to)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.root().remove(name)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.root().list()
    }

    fn sync(&self) -> io::Result<()> {
        self.root().sync()
    }

    fn sync_name(&self) -> io::Result<()> {
        self.root().sync_name()
    }

    fn child(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn Dir>> {
        self.root().child(name, access)
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        self.root().remove_child(name)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        Dir::lock(&self.root(), mode)
    }

    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        self.root().may_replace(name)
    }

    fn id(&self) -> io::Result<FileId> {
        self.root().id()
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        self.root().id_of(name)
    }
}

/// The file or directory that is locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum LockKey {
    File(Ino),
    Dir(DirId),
}

/// The holders of a lock.
pub(super) enum Held {
    Alone,
    Shared(usize),
}

#[derive(Debug)]
pub(super) struct SimLock {
    disk: SimDisk,
    key: LockKey,
}

impl SimLock {
    pub(super) fn take(disk: &SimDisk, key: LockKey, mode: LockMode) -> Option<Box<dyn DiskLock>> {
        let mut state = disk.0.lock();
        match (state.locked.get_mut(&key), mode) {
            (None, LockMode::Exclusive) => _ = state.locked.insert(key, Held::Alone),
            (None, LockMode::Shared) => _ = state.locked.insert(key, Held::Shared(1)),
            (Some(Held::Shared(holders)), LockMode::Shared) => *holders += 1,
            _ => return None,
        }
        drop(state);
        Some(Box::new(SimLock { disk: disk.clone(), key }))
    }
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        match state.locked.get_mut(&self.key) {
            Some(Held::Shared(holders)) if *holders > 1 => *holders -= 1,
            _ => _ = state.locked.remove(&self.key),
        }
    }
}
