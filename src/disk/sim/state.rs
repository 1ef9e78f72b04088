//! The contents of a disk: bytes and names, each as the medium has them, as the kernel shows them, and the changes
//! between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::faults::Pages;
use super::names::{Entry, Ino, Key, NameChange, Names, ROOT, close_names};
use super::paths::Name;

/// Contents, shared between a disk and its crash points until one of them writes.
pub(super) type Bytes = Arc<Vec<u8>>;

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

/// All contents of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) inodes: BTreeMap<Ino, Arc<Inode>>,
    pub(super) durable: Names,
    pub(super) visible: Names,
    pub(super) pending: Vec<(u64, NameChange)>,
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

    /// The name at the end of `path`, whose directory must be there.
    pub(super) fn locate(&self, path: &OsStr) -> io::Result<Key> {
        self.visible.locate(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn find(&self, key: &Key) -> io::Result<Ino> {
        match self.visible.get(key) {
            Some(Entry::File(ino)) => Ok(ino),
            Some(Entry::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn find_dir(&self, key: &Key) -> io::Result<Ino> {
        match self.visible.get(key) {
            Some(Entry::Dir(ino)) => Ok(ino),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn check_free(&self, key: &Key) -> io::Result<()> {
        self.visible.get(key).map_or(Ok(()), |_| Err(io::ErrorKind::AlreadyExists.into()))
    }

    /// Checks that a file may have this name, whatever file has it.
    fn check_no_dir(&self, key: &Key) -> io::Result<()> {
        match self.visible.get(key) {
            Some(Entry::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            _ => Ok(()),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.visible);
        let moment = self.tick();
        self.pending.push((moment, change));
    }

    pub(super) fn create_dir(&mut self, key: &Key) -> io::Result<()> {
        self.check_free(key)?;
        let entry = Entry::Dir(self.tick());
        self.change_names(NameChange { removes: None, adds: Some((key.clone(), entry)) });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, key: &Key) -> io::Result<()> {
        let ino = self.find_dir(key)?;
        if self.visible.list(ino).next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change_names(NameChange { removes: Some(key.clone()), adds: None });
        Ok(())
    }

    /// Renames a directory to a free name.
    pub(super) fn rename_dir(&mut self, from: &Key, to: &Key) -> io::Result<()> {
        let entry = Entry::Dir(self.find_dir(from)?);
        self.check_free(to)?;
        self.change_names(NameChange { removes: Some(from.clone()), adds: Some((to.clone(), entry)) });
        Ok(())
    }

    pub(super) fn create(&mut self, key: &Key) -> io::Result<Ino> {
        self.check_free(key)?;
        let ino = self.tick();
        self.inodes.insert(ino, Arc::default());
        self.change_names(NameChange { removes: None, adds: Some((key.clone(), Entry::File(ino))) });
        Ok(ino)
    }

    /// Gives a file a second name.
    pub(super) fn link(&mut self, from: &Key, to: &Key) -> io::Result<()> {
        let ino = self.find(from)?;
        self.check_free(to)?;
        self.change_names(NameChange { removes: None, adds: Some((to.clone(), Entry::File(ino))) });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Key, to: &Key) -> io::Result<()> {
        let ino = self.find(from)?;
        self.check_no_dir(to)?;
        if from != to {
            let adds = Some((to.clone(), Entry::File(ino)));
            self.change_names(NameChange { removes: Some(from.clone()), adds });
        }
        Ok(())
    }

    /// Renames a file to a free name.
    pub(super) fn rename_new(&mut self, from: &Key, to: &Key) -> io::Result<()> {
        self.find(from)?;
        self.check_free(to)?;
        self.rename(from, to)
    }

    pub(super) fn remove(&mut self, key: &Key) -> io::Result<()> {
        self.find(key)?;
        self.change_names(NameChange { removes: Some(key.clone()), adds: None });
        Ok(())
    }

    /// Makes one change of names where reads do not show it.
    pub(super) fn on_the_medium_alone(&mut self, change: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let (visible, before) = (self.visible.clone(), self.pending.len());
        change(self)?;
        self.visible = visible;
        let mut landed: Vec<bool> = (0..self.pending.len()).map(|at| at >= before).collect();
        self.end_names(&mut landed, true);
        Ok(())
    }

    /// Ends the pending changes that are chosen, and those on which they build.
    fn end_names(&mut self, chosen: &mut [bool], land: bool) {
        close_names(&self.pending, chosen);
        let mut chosen = chosen.iter();
        let Image { durable, pending, .. } = self;
        pending.retain(|(_, change)| {
            let is_chosen = chosen.next() == Some(&true);
            if is_chosen && land {
                change.apply(durable);
            }
            !is_chosen
        });
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
    pub(super) fn end_dir_sync(&mut self, dir: Ino, moment: u64, fate: Fate) {
        let covers = |(at, change): &(u64, NameChange)| *at <= moment && change.names().any(|key| key.dir == dir);
        let mut covered: Vec<bool> = self.pending.iter().map(covers).collect();
        self.end_names(&mut covered, matches!(fate, Fate::Landed));
        if matches!(fate, Fate::Dropped(Pages::RevertOld)) {
            self.drop_names();
        }
    }

    fn drop_names(&mut self) {
        self.visible = self.durable.clone();
        self.pending.iter().for_each(|(_, change)| change.apply(&mut self.visible));
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
        let pending = self.pending.iter().filter_map(|(_, change)| change.adds.as_ref()).map(|(_, entry)| entry.ino());
        self.durable.inos().chain(pending)
    }

    /// A path of the file, as reads see it or as the medium has it.
    pub(super) fn name_of(&self, ino: Ino) -> Option<Name> {
        [&self.visible, &self.durable].into_iter().find_map(|names| {
            let (key, _) = names.iter().find(|(_, entry)| *entry == Entry::File(ino))?;
            names.path(key)
        })
    }

    /// The path of a name, as reads see its directory or as the medium has it.
    pub(super) fn path_of(&self, key: &Key) -> Option<Name> {
        self.visible.path(key).or_else(|| self.durable.path(key))
    }

    /// Frees the inodes without a name and without a handle.
    pub(super) fn sweep(&mut self, is_open: impl Fn(Ino) -> bool) {
        let reachable: BTreeSet<Ino> = self.rooted().chain(self.visible.inos()).collect();
        self.inodes.retain(|ino, _| reachable.contains(ino) || is_open(*ino));
    }
}

/// Changes that tests make, of the cache, the medium and the pending changes at once.
impl Image {
    /// Changes the name of a directory.
    pub(super) fn move_dir(&mut self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let (from, to) = (self.locate(from)?, self.locate(to)?);
        let entry = Entry::Dir(self.find_dir(&from)?);
        self.check_free(&to)?;
        for names in [&mut self.durable, &mut self.visible] {
            if names.get(&from) == Some(entry) {
                names.remove(&from);
                names.insert(to.clone(), entry);
            }
        }
        for (_, NameChange { removes, adds }) in &mut self.pending {
            let keys = removes.iter_mut().chain(adds.iter_mut().map(|(key, _)| key));
            keys.filter(|key| **key == from).for_each(|key| *key = to.clone());
        }
        Ok(())
    }

    /// Removes a directory with all its contents.
    pub(super) fn remove_tree(&mut self, path: &OsStr) -> io::Result<()> {
        let own = self.locate(path)?;
        let dir = self.find_dir(&own)?;
        let mut gone = self.visible.reached_from(dir);
        gone.extend(self.durable.reached_from(dir));
        let stays = |key: &Key| *key != own && !gone.contains(&key.dir);
        self.durable.retain(stays);
        self.visible.retain(stays);
        self.pending.retain(|(_, change)| change.names().all(stays));
        Ok(())
    }

    /// Removes the name.
    pub(super) fn forget(&mut self, key: &Key) {
        self.pending.retain(|(_, change)| !change.is_about(key));
        self.durable.remove(key);
        self.visible.remove(key);
    }

    fn name(&mut self, key: Key, entry: Entry) {
        self.durable.insert(key.clone(), entry);
        self.visible.insert(key, entry);
    }

    /// Gives a file a second name, as if it had always had both.
    pub(super) fn alias(&mut self, key: &Key, other: Key) -> io::Result<()> {
        let ino = self.find(key)?;
        self.check_no_dir(&other)?;
        self.forget(&other);
        self.name(other, Entry::File(ino));
        Ok(())
    }

    /// The file, to be damaged by a test: it need not be visible.
    pub(super) fn damage(&mut self, path: &OsStr) -> io::Result<&mut Inode> {
        let found = |names: &Names| names.get(&names.locate(path)?);
        match found(&self.visible).or_else(|| found(&self.durable)) {
            Some(Entry::File(ino)) => Ok(self.inode_mut(ino)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes a directory and those above it, as if they had always existed. Returns the last one.
    pub(super) fn make_dir(&mut self, path: &OsStr) -> io::Result<Ino> {
        let mut dir = ROOT;
        for name in Path::new(path) {
            let key = Key::new(dir, name);
            dir = match self.visible.get(&key) {
                Some(Entry::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                Some(Entry::Dir(found)) => found,
                None => self.tick(),
            };
            self.name(key, Entry::Dir(dir));
        }
        Ok(dir)
    }

    /// Writes a file as if it had always existed.
    pub(super) fn plant(&mut self, path: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let path = Path::new(path);
        let dir = self.make_dir(path.parent().unwrap_or(Path::new("")).as_os_str())?;
        let key = Key::new(dir, path.file_name().ok_or(io::ErrorKind::IsADirectory)?);
        self.check_no_dir(&key)?;
        self.forget(&key);
        let ino = self.tick();
        self.inodes.insert(ino, Arc::new(Inode::settled(Arc::new(bytes.to_vec()))));
        self.name(key, Entry::File(ino));
        Ok(())
    }
}

fn length_in_memory(length: u64) -> io::Result<usize> {
    let usable = if length <= LONGEST { usize::try_from(length).ok() } else { None };
    usable.ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}
