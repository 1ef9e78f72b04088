//! The contents of a disk: bytes and names, each as the medium has them, as the kernel shows them, and the changes
//! between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::faults::Pages;
use super::paths::moved;
pub(super) use super::paths::{Name, tidy};

/// Names an inode.
pub(super) type Ino = u64;
/// Contents, shared between a disk and its crash points until one of them writes.
pub(super) type Bytes = Arc<Vec<u8>>;
pub(super) type Names = BTreeMap<Name, Ino>;
pub(super) type Dirs = BTreeSet<Name>;

/// A write makes a file grow in steps of this, each of which may reach the medium without the next.
const GROWTH: usize = 4096;

/// Longer files are refused: their bytes are in memory twice.
const LONGEST: u64 = 1 << 32;

/// What a sync does with the changes that it covers.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    Landed,
    Dropped(Pages),
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, data: Arc<[u8]> },
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => put(bytes, *offset, data),
            Change::Length(length) => bytes.resize(*length, 0),
        }
    }
}

/// Writes `data`, beyond the end if necessary.
fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) durable: Bytes,
    pub(super) visible: Bytes,
    /// The pending changes in the order of submission, each with its moment. Applied to `durable` in this order, every
    /// write lies within the length, unless a test has cut the file.
    pub(super) pending: Vec<(u64, Change)>,
    pub(super) memo: Memo,
}

/// Values computed from the contents once, for all images that share them. A copy begins without them, because copies
/// are made to be changed. Code that changes an inode in place clears them first.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The hashes of the durable and of the visible contents.
    pub(super) hashes: OnceLock<[u64; 2]>,
    /// The file after a power loss took everything pending.
    pub(super) bare: OnceLock<Arc<Inode>>,
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Memo::default()
    }
}

impl Inode {
    /// Contents without pending changes.
    pub(super) fn settled(bytes: Bytes) -> Self {
        Inode { durable: Arc::clone(&bytes), visible: bytes, ..Inode::default() }
    }

    /// Whether a power loss leaves exactly the visible contents.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && Arc::ptr_eq(&self.durable, &self.visible)
    }

    fn write(&mut self, moment: u64, offset: usize, data: &[u8]) {
        put(Arc::make_mut(&mut self.visible), offset, data);
        self.queue(moment, Change::Write { offset, data: data.into() });
    }

    fn set_len(&mut self, moment: u64, length: usize) {
        Arc::make_mut(&mut self.visible).resize(length, 0);
        self.queue(moment, Change::Length(length));
    }

    /// Adds a pending change, after the growth that it needs.
    fn queue(&mut self, moment: u64, change: Change) {
        if let Change::Write { offset, data } = &change {
            let end = offset + data.len();
            let mut length = self.pending_len();
            while length < end {
                length = (length / GROWTH + 1).saturating_mul(GROWTH).min(end);
                self.pending.push((moment, Change::Length(length)));
            }
        }
        self.pending.push((moment, change));
    }

    /// The length that the medium has once everything pending has landed.
    fn pending_len(&self) -> usize {
        let last = self.pending.iter().rev().find_map(|(_, change)| match change {
            Change::Length(length) => Some(*length),
            Change::Write { .. } => None,
        });
        last.unwrap_or(self.durable.len())
    }

    /// Ends a sync that began after `moment`.
    fn end_sync(&mut self, moment: u64, fate: Fate) {
        let later = self.pending.split_off(self.pending.partition_point(|(at, _)| *at <= moment));
        let covered = std::mem::take(&mut self.pending);
        if matches!(fate, Fate::Landed) && !covered.is_empty() {
            let durable = Arc::make_mut(&mut self.durable);
            covered.iter().for_each(|(_, change)| change.apply(durable));
        }
        // Queued again: the growth that they relied on may have been dropped.
        for (at, change) in later {
            self.queue(at, change);
        }
        if matches!(fate, Fate::Dropped(Pages::RevertOld)) {
            self.drop_cache();
        }
    }

    /// Drops changes that are in the cache alone and no longer pending.
    fn drop_cache(&mut self) {
        self.visible = Arc::clone(&self.durable);
        if !self.pending.is_empty() {
            let visible = Arc::make_mut(&mut self.visible);
            self.pending.iter().for_each(|(_, change)| change.apply(visible));
        }
    }
}

/// A change of names: a rename removes one and adds one.
#[derive(Clone, Debug, Default)]
pub(super) struct NameChange {
    removes: Option<Name>,
    pub(super) adds: Option<(Name, Ino)>,
    /// The new name is that of a directory.
    makes: Option<Name>,
}

impl NameChange {
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.removes.iter().chain(self.adds.iter().map(|(name, _)| name)).chain(&self.makes)
    }

    fn is_about(&self, name: &OsStr) -> bool {
        self.names().any(|own| **own == *name)
    }

    pub(super) fn apply(&self, names: &mut Names, dirs: &mut Dirs) {
        if let Some(name) = &self.removes {
            names.remove(name);
            dirs.remove(name);
        }
        if let Some((name, ino)) = &self.adds {
            names.insert(Arc::clone(name), *ino);
        }
        dirs.extend(self.makes.clone());
    }
}

fn parent(name: &OsStr) -> Option<&OsStr> {
    Path::new(name).parent().map(Path::as_os_str)
}

/// Adds to the chosen changes the earlier changes of the same names, on which they build.
pub(super) fn close_names(changes: &[(u64, NameChange)], landed: &mut [bool]) {
    for later in (0..changes.len()).rev() {
        if landed[later] {
            for earlier in 0..later {
                landed[earlier] |= changes[earlier].1.names().any(|name| changes[later].1.is_about(name));
            }
        }
    }
}

/// All contents of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) inodes: BTreeMap<Ino, Arc<Inode>>,
    pub(super) durable: Names,
    pub(super) visible: Names,
    pub(super) pending: Vec<(u64, NameChange)>,
    /// Directories, as reads see them and as the medium has them.
    pub(super) dirs: Dirs,
    pub(super) durable_dirs: Dirs,
    /// Counts the changes and the inodes: the time of this image.
    pub(super) moment: u64,
}

impl Image {
    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        let inode = Arc::make_mut(self.inodes.entry(ino).or_default());
        inode.memo = Memo::default();
        inode
    }

    pub(super) fn is_dir(&self, path: &OsStr) -> bool {
        parent(path).is_none() || self.dirs.contains(path)
    }

    pub(super) fn create_dir(&mut self, path: &OsStr) -> io::Result<()> {
        let ancestors: Vec<_> = Path::new(path).ancestors().map(Path::as_os_str).collect();
        if ancestors.iter().any(|ancestor| self.visible.contains_key(*ancestor)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        for missing in ancestors.into_iter().rev().filter(|ancestor| !self.is_dir(ancestor)).collect::<Vec<_>>() {
            self.change_names(NameChange { makes: Some(missing.into()), ..NameChange::default() });
        }
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &OsStr) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change_names(NameChange { removes: Some(path.into()), ..NameChange::default() });
        Ok(())
    }

    /// Changes the path of a directory and of all its contents, on the medium and in pending changes too.
    pub(super) fn rename_dir(&mut self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        if !self.dirs.contains(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.is_dir(to) || self.visible.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !parent(to).is_some_and(|above| self.is_dir(above)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let new = |name: &Name| moved(name, from, to);
        for names in [&mut self.durable, &mut self.visible] {
            *names = names.iter().map(|(name, ino)| (new(name), *ino)).collect();
        }
        for dirs in [&mut self.dirs, &mut self.durable_dirs] {
            *dirs = dirs.iter().map(new).collect();
        }
        for (_, NameChange { removes, adds, makes }) in &mut self.pending {
            let adds = adds.as_mut().map(|(name, _)| name);
            removes.iter_mut().chain(adds).chain(makes).for_each(|name| *name = new(name));
        }
        Ok(())
    }

    /// Removes a directory with all its contents from the cache, the medium and the pending changes.
    pub(super) fn remove_tree(&mut self, path: &OsStr) -> io::Result<()> {
        if !self.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let is_outside = |name: &Name| !Path::new(name).starts_with(path);
        self.durable.retain(|name, _| is_outside(name));
        self.visible.retain(|name, _| is_outside(name));
        self.dirs.retain(is_outside);
        self.durable_dirs.retain(is_outside);
        self.pending.retain(|(_, change)| change.names().all(is_outside));
        Ok(())
    }

    pub(super) fn list(&self, dir: &OsStr) -> io::Result<Vec<std::ffi::OsString>> {
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Compares bytes first: splitting paths is slow.
        let may_be_inside = |name: &&Name| name.as_encoded_bytes().starts_with(dir.as_encoded_bytes());
        let names = self.visible.keys().chain(&self.dirs).filter(may_be_inside);
        let inside = names.filter(|name| parent(name) == Some(dir));
        Ok(inside.filter_map(|path| Path::new(path).file_name()).map(Into::into).collect())
    }

    pub(super) fn find(&self, path: &OsStr) -> io::Result<Ino> {
        match self.visible.get(path) {
            Some(ino) => Ok(*ino),
            None if self.is_dir(path) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn is_taken(&self, path: &OsStr) -> bool {
        self.visible.contains_key(path) || self.is_dir(path)
    }

    /// Checks that a file may be called `path`.
    fn check_name(&self, path: &OsStr) -> io::Result<()> {
        if self.is_dir(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if parent(path).is_some_and(|parent| self.is_dir(parent)) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.visible, &mut self.dirs);
        let moment = self.tick();
        self.pending.push((moment, change));
    }

    pub(super) fn create(&mut self, path: &Name) -> io::Result<Ino> {
        if self.visible.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_name(path)?;
        let ino = self.tick();
        self.inodes.insert(ino, Arc::default());
        self.change_names(NameChange { adds: Some((Arc::clone(path), ino)), ..NameChange::default() });
        Ok(ino)
    }

    pub(super) fn rename(&mut self, from: &Name, to: &Name) -> io::Result<()> {
        let ino = self.find(from)?;
        self.check_name(to)?;
        if from != to {
            let (removes, adds) = (Some(Arc::clone(from)), Some((Arc::clone(to), ino)));
            self.change_names(NameChange { removes, adds, makes: None });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Name) -> io::Result<()> {
        self.find(path)?;
        self.change_names(NameChange { removes: Some(Arc::clone(path)), ..NameChange::default() });
        Ok(())
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = length_in_memory(offset)?;
        length_in_memory(offset.saturating_add(data.len() as u64))?;
        let moment = self.tick();
        self.inode_mut(ino).write(moment, start, data);
        Ok(())
    }

    pub(super) fn set_len(&mut self, ino: Ino, length: u64) -> io::Result<()> {
        let length = length_in_memory(length)?;
        let moment = self.tick();
        self.inode_mut(ino).set_len(moment, length);
        Ok(())
    }

    /// Ends a file's sync that began at `moment`.
    pub(super) fn end_file_sync(&mut self, ino: Ino, moment: u64, fate: Fate) {
        if self.inodes.get(&ino).is_some_and(|inode| !inode.pending.is_empty()) {
            self.inode_mut(ino).end_sync(moment, fate);
        }
    }

    /// Ends a directory's sync that began at `moment`.
    pub(super) fn end_dir_sync(&mut self, dir: &OsStr, moment: u64, fate: Fate) {
        let covers =
            |(at, change): &(u64, NameChange)| *at <= moment && change.names().any(|name| parent(name) == Some(dir));
        let mut covered: Vec<bool> = self.pending.iter().map(covers).collect();
        close_names(&self.pending, &mut covered);
        let mut covered = covered.into_iter();
        let Image { durable, durable_dirs, pending, .. } = self;
        pending.retain(|(_, change)| {
            let covered = covered.next() == Some(true);
            if covered && matches!(fate, Fate::Landed) {
                change.apply(durable, durable_dirs);
            }
            !covered
        });
        if matches!(fate, Fate::Dropped(Pages::RevertOld)) {
            self.drop_names();
        }
    }

    fn drop_names(&mut self) {
        self.visible = self.durable.clone();
        self.dirs = self.durable_dirs.clone();
        self.pending.iter().for_each(|(_, change)| change.apply(&mut self.visible, &mut self.dirs));
    }

    /// Drops durable names in directories that are not durable: a name is reached through all directories above it.
    pub(super) fn drop_unreachable(&mut self) {
        let reached = |dirs: &Dirs, name: &OsStr| {
            parent(name).is_some_and(|above| parent(above).is_none() || dirs.contains(above))
        };
        // In order, so that a directory is decided on before its contents.
        for dir in std::mem::take(&mut self.durable_dirs) {
            if reached(&self.durable_dirs, &dir) {
                self.durable_dirs.insert(dir);
            }
        }
        let Image { durable, durable_dirs, .. } = self;
        durable.retain(|name, _| reached(durable_dirs, name));
    }

    /// Drops changes that are in the cache alone and no longer pending.
    pub(super) fn drop_caches(&mut self) {
        self.drop_names();
        for inode in self.inodes.values_mut() {
            let inode = Arc::make_mut(inode);
            inode.memo = Memo::default();
            inode.drop_cache();
        }
    }

    /// The inodes that have a durable name, or may get one; some more than once.
    pub(super) fn rooted(&self) -> impl Iterator<Item = Ino> {
        let pending = self.pending.iter().filter_map(|(_, change)| change.adds.as_ref()).map(|(_, ino)| *ino);
        self.durable.values().copied().chain(pending)
    }

    pub(super) fn name_of(&self, ino: Ino) -> Option<Name> {
        let mut names = self.visible.iter().chain(&self.durable);
        names.find(|(_, named)| **named == ino).map(|(name, _)| Arc::clone(name))
    }

    /// Frees the inodes without a name and without a handle.
    pub(super) fn sweep(&mut self, is_open: impl Fn(Ino) -> bool) {
        let reachable: BTreeSet<Ino> = self.rooted().chain(self.visible.values().copied()).collect();
        self.inodes.retain(|ino, _| reachable.contains(ino) || is_open(*ino));
    }

    /// Removes the name from the cache, the medium and the pending changes.
    pub(super) fn forget(&mut self, path: &OsStr) {
        self.pending.retain(|(_, change)| !change.is_about(path));
        self.durable.remove(path);
        self.visible.remove(path);
    }

    /// Gives a file a second name, as if it had always had both.
    pub(super) fn alias(&mut self, path: &OsStr, other: &Name) -> io::Result<()> {
        let ino = self.find(path)?;
        self.check_name(other)?;
        self.forget(other);
        self.durable.insert(Arc::clone(other), ino);
        self.visible.insert(Arc::clone(other), ino);
        Ok(())
    }

    /// The file, to be damaged by a test: it need not be visible.
    pub(super) fn damage(&mut self, path: &OsStr) -> io::Result<&mut Inode> {
        let ino = self.visible.get(path).or_else(|| self.durable.get(path)).copied();
        Ok(self.inode_mut(ino.ok_or(io::ErrorKind::NotFound)?))
    }

    /// Makes a directory and those above it, as if they had always existed.
    pub(super) fn make_dir(&mut self, path: &OsStr) -> io::Result<()> {
        if Path::new(path).ancestors().any(|dir| self.visible.contains_key(dir.as_os_str())) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let all = Path::new(path).ancestors().filter(|dir| dir.parent().is_some());
        let all: Dirs = all.map(|dir| Name::from(dir.as_os_str())).collect();
        self.dirs.extend(all.iter().cloned());
        self.durable_dirs.extend(all);
        Ok(())
    }

    /// Writes a file as if it had always existed.
    pub(super) fn plant(&mut self, path: &Name, bytes: &[u8]) -> io::Result<()> {
        if let Some(above) = parent(path) {
            self.make_dir(above)?;
        }
        self.check_name(path)?;
        self.forget(path);
        let ino = self.tick();
        self.inodes.insert(ino, Arc::new(Inode::settled(Arc::new(bytes.to_vec()))));
        self.durable.insert(Arc::clone(path), ino);
        self.visible.insert(Arc::clone(path), ino);
        Ok(())
    }
}

fn length_in_memory(length: u64) -> io::Result<usize> {
    let usable = if length <= LONGEST { usize::try_from(length).ok() } else { None };
    usable.ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}
