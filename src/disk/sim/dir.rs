//! Open directories: each is a number, which stays the same when its name changes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::{Access, Dir, DiskFile, DiskLock, FileId, LockMode, check_name};
use super::faults::{FaultKind, OpKind, eio};
use super::names::{Entry, Ino, Key, ROOT};
use super::paths::{Name, join, tidy};
use super::state::Image;
use super::{SimDisk, SimFile, SimState, op};

/// The links to directories, and where they lead.
#[derive(Default)]
pub(super) struct Links(BTreeMap<Name, Name>);

impl Links {
    /// Where a path leads. A link is followed once, because no link leads to another one.
    pub(super) fn resolve(&self, path: &Name) -> Name {
        let leads = |(link, target): (&Name, &Name)| {
            let rest = Path::new(path).strip_prefix(Path::new(link)).ok()?;
            Some(tidy(&Path::new(target).join(rest)))
        };
        self.0.iter().find_map(leads).unwrap_or_else(|| Arc::clone(path))
    }
}

/// Changes that tests make to directories while an engine has them open. None is an operation; all are durable at once.
impl SimDisk {
    /// Makes a directory and the missing ones above it.
    pub fn make_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.with_image(|image| image.make_dir(&tidy(path.as_ref()))).map(|_| ())
    }

    /// Renames a directory with all its contents, even if it is open.
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.with_image(|image| image.move_dir(&tidy(from.as_ref()), &tidy(to.as_ref())))
    }

    /// Removes a directory with all its contents, even if it is open.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.0.lock();
        state.image_mut().remove_tree(&tidy(path.as_ref()))?;
        state.sweep();
        Ok(())
    }

    /// Makes `link` a symbolic link to the directory `target`, or changes where it leads.
    pub fn link_dir(&self, link: impl AsRef<Path>, target: impl AsRef<Path>) {
        self.0.lock().links.0.insert(tidy(link.as_ref()), tidy(target.as_ref()));
    }

    fn root(&self) -> SimDir {
        SimDir { disk: self.clone(), id: ROOT }
    }
}

#[derive(Clone, Debug)]
pub(super) struct SimDir {
    disk: SimDisk,
    id: Ino,
}

impl SimDir {
    /// Opens an existing directory.
    pub(super) fn at(disk: &SimDisk, state: &SimState, path: &Name) -> io::Result<SimDir> {
        let names = &state.image.visible;
        match names.dir(path) {
            Some(id) => Ok(SimDir { disk: disk.clone(), id }),
            None if names.locate(path).is_some_and(|key| names.get(&key).is_some()) => {
                Err(io::ErrorKind::NotADirectory.into())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Its present path.
    fn path(&self, state: &SimState) -> io::Result<Name> {
        state.image.visible.path_of(self.id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A name in it, and its present path.
    fn name(&self, name: &OsStr) -> io::Result<(Key, Name)> {
        check_name(name)?;
        let dir = self.path(&self.disk.0.lock())?;
        Ok((Key::new(self.id, name), join(&dir, name)))
    }

    /// Counts the operation on `name` and applies its faults. Then returns the path, which may have changed meanwhile.
    fn admit(&self, kind: OpKind, name: &OsStr) -> io::Result<(Key, Name)> {
        let (_, path) = self.name(name)?;
        self.disk.admit(op(kind, &path))?;
        self.name(name)
    }

    fn rename_by(
        &self,
        from: &OsStr,
        to: &OsStr,
        rename: impl FnOnce(&mut Image, &Key, &Key) -> io::Result<()>,
    ) -> io::Result<()> {
        check_name(to)?;
        let harm = self.disk.admit(op(OpKind::Rename, &self.name(from)?.1))?;
        let (from, to) = (self.name(from)?.0, Key::new(self.id, to));
        self.disk.with_image(|image| {
            if harm != Some(FaultKind::RenameOnMedium) {
                return rename(image, &from, &to);
            }
            image.on_the_medium_alone(|image| rename(image, &from, &to))?;
            Err(eio())
        })
    }

    fn sync_at(&self, path: &Name) -> io::Result<()> {
        let dir = self.disk.0.lock().image.visible.dir(path).ok_or(io::ErrorKind::NotFound)?;
        let end = |image: &mut Image, moment, fate| image.end_dir_sync(dir, moment, fate);
        self.disk.sync_op(op(OpKind::SyncDir, path), || (), end)?;
        self.disk.0.lock().sweep();
        Ok(())
    }
}

impl Dir for SimDir {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let create = access == Access::Create;
        let (key, path) = self.admit(if create { OpKind::Create } else { OpKind::Open }, name)?;
        let mut state = self.disk.0.lock();
        let ino = if create { state.image_mut().create(&key)? } else { state.image.find(&key)? };
        *state.open.entry(ino).or_default() += 1;
        drop(state);
        Ok(Arc::new(SimFile { disk: self.disk.clone(), path, key, ino, writable: access != Access::Read }))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename_by(from, to, Image::rename)
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename_by(from, to, Image::rename_new)
    }

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename_by(from, to, Image::rename_dir)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        let (key, _) = self.admit(OpKind::Remove, name)?;
        self.disk.with_image(|image| image.remove(&key))
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        let path = self.path(&self.disk.0.lock())?;
        self.disk.admit(op(OpKind::List, &path))?;
        let state = self.disk.0.lock();
        self.path(&state)?;
        Ok(state.image.visible.list(self.id).map(|(key, _)| OsString::from(&*key.name)).collect())
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
        let (key, path) = self.admit(if create { OpKind::CreateDir } else { OpKind::OpenDir }, name)?;
        let mut state = self.disk.0.lock();
        if create {
            state.image_mut().create_dir(&key)?;
        }
        let path = state.links.resolve(&path);
        SimDir::at(&self.disk, &state, &path).map(|dir| -> Arc<dyn Dir> { Arc::new(dir) })
    }

    fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        let (key, _) = self.admit(OpKind::Remove, name)?;
        self.disk.with_image(|image| image.remove_dir(&key))
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        let path = self.path(&self.disk.0.lock()).unwrap_or_else(|_| tidy(Path::new("")));
        self.disk.admit(op(OpKind::Lock, &path))?;
        Ok(SimLock::take(&self.disk, LockKey::Dir(self.id), mode))
    }

    /// Not an operation. Permissions are faults that last.
    fn may_replace(&self, name: &OsStr) -> io::Result<()> {
        let (key, path) = self.name(name)?;
        let state = self.disk.0.lock();
        let removal = match state.image.visible.get(&key) {
            Some(Entry::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            found => found.map(|_| OpKind::Remove),
        };
        let mut needed = [OpKind::Create, OpKind::Rename].into_iter().chain(removal);
        needed.try_for_each(|kind| state.faults.outlook(&op(kind, &path)))
    }

    /// Not an operation.
    fn room(&self) -> io::Result<Option<u64>> {
        let state = self.disk.0.lock();
        Ok(state.capacity.filter(|capacity| capacity.is_told).and_then(|_| state.free()))
    }

    fn id(&self) -> io::Result<FileId> {
        // Files are on device 0.
        Ok(FileId { device: u64::MAX, inode: self.id })
    }

    fn id_of(&self, name: &OsStr) -> io::Result<FileId> {
        let (key, _) = self.name(name)?;
        let ino = self.disk.0.lock().image.find(&key)?;
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

    fn rename_child(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.root().rename_child(from, to)
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

    fn room(&self) -> io::Result<Option<u64>> {
        self.root().room()
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
    Dir(Ino),
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
